// Deconvolution of one color plane in linear light, with the formulas and defaults of
// deblur_jax/solvers: `SOLVERS[name](plane, rows, columns, psf)` is the restored plane.

import { Scene, power, scaled, surround, times } from './scene.js'

const LEAST_NOISE = 0.004
const EPSILON = 1e-6
const LEAST_SEEN = 1e-2
const RHO = 20
const MU = 0.02
const LEAST_WEIGHT = 1e-12
const FLAT = 1e-8

export const SOLVERS = { wiener, richardson_lucy: richardsonLucy, total_variation: totalVariation }

// Standard deviation of the noise, from the median of the finest diagonal wavelet band.
function noise(plane, rows, columns) {
  const band = new Float64Array((rows >> 1) * (columns >> 1))
  for (let y = 0, i = 0; y + 1 < rows; y += 2) {
    for (let x = 0; x + 1 < columns; x += 2, i++) {
      const at = y * columns + x
      const difference = plane[at] - plane[at + 1] - plane[at + columns] + plane[at + columns + 1]
      band[i] = Math.abs(difference / 2)
    }
  }
  band.sort()
  const middle = band.length >> 1
  const median = band.length % 2 ? band[middle] : (band[middle - 1] + band[middle]) / 2
  return Math.max(median / 0.6745, LEAST_NOISE)
}

export function wiener(plane, rows, columns, psf) {
  const { scene, placed } = surround(plane, psf, rows, columns)
  const balance = 150 * noise(plane, rows, columns) ** 2
  const roughness = scene.laplacian()
  const gain = power(scene.transfer)
  const weaker = roughness.map((value, i) => 1 / (gain[i] + balance * value * value))
  const filtered = (around, again) => {
    const spectrum = scaled(times(scene.fourier.forward(around), scene.transfer, -1), weaker)
    return scene.fourier.inverse(again ? times(spectrum, scene.transfer) : spectrum)
  }
  let around = placed
  const known = scene.place(plane)
  for (let time = 0; time < 10; time++) {
    const again = filtered(around, true)
    around = again.map((value, i) => scene.seen[i] ? known[i] : value)
  }
  return scene.crop(filtered(around, false))
}

export function richardsonLucy(plane, rows, columns, psf, steps = 30) {
  const scene = new Scene(psf, rows, columns)
  const seen = scene.correlate(scene.seen)
  const placed = scene.place(plane.map((value) => Math.max(value, 0)))
  const mean = placed.reduce((a, b) => a + b) / placed.length
  let x = placed.map(() => mean)
  for (let step = 0; step < steps; step++) {
    const blurred = scene.blur(x)
    const ratio = blurred.map((value, i) => scene.seen[i] * placed[i] / Math.max(value, EPSILON))
    const back = scene.correlate(ratio)
    x = x.map((value, i) => seen[i] > LEAST_SEEN ? value * Math.max(back[i], 0) / seen[i] : value)
  }
  return scene.crop(x)
}

export function totalVariation(plane, rows, columns, psf, steps = 60) {
  const weight = Math.max(0.7 * noise(plane, rows, columns) ** 1.5, LEAST_WEIGHT)
  const rho = RHO * weight
  const scene = new Scene(psf, rows, columns)
  const { fourier, seen, size } = scene
  const placed = scene.place(plane)
  const gain = power(scene.transfer)
  const inverse = scene.laplacian().map((value, i) => 1 / (MU * gain[i] + rho * value))
  inverse[0] = Math.min(inverse[0], 1 / MU)
  let blurSum = placed
  let [down, right] = [new Float64Array(size), new Float64Array(size)]
  let x = placed
  for (let step = 0; step < steps; step++) {
    const blurDual = blurSum.map((value, i) => value - (seen[i] * placed[i] + MU * value) / (seen[i] + MU))
    const shrink = down.map((value, i) =>
      1 / Math.max(Math.sqrt(value * value + right[i] * right[i] + FLAT * FLAT) * RHO, 1))
    const downDual = down.map((value, i) => value * shrink[i])
    const rightDual = right.map((value, i) => value * shrink[i])
    const pull = times(fourier.forward(blurSum.map((value, i) => MU * (value - 2 * blurDual[i]))),
      scene.transfer, -1)
    const slopes = fourier.forward(divergence(
      down.map((value, i) => rho * (value - 2 * downDual[i])),
      right.map((value, i) => rho * (value - 2 * rightDual[i])), scene))
    for (let i = 0; i < inverse.length; i++) {
      pull.re[i] -= slopes.re[i]
      pull.im[i] -= slopes.im[i]
    }
    scaled(pull, inverse)
    x = fourier.inverse(pull)
    const blurred = fourier.inverse(times(pull, scene.transfer))
    const slope = gradient(x, scene)
    blurSum = blurred.map((value, i) => value + blurDual[i])
    down = slope.down.map((value, i) => value + downDual[i])
    right = slope.right.map((value, i) => value + rightDual[i])
  }
  return scene.crop(x)
}

// Differences to the next row and the next column of a periodic plane.
function gradient(plane, { height, width }) {
  const down = new Float64Array(plane.length)
  const right = new Float64Array(plane.length)
  for (let y = 0, i = 0; y < height; y++) {
    const next = y + 1 < height ? width : width - plane.length
    for (let x = 0; x < width; x++, i++) {
      down[i] = plane[i + next] - plane[i]
      right[i] = plane[x + 1 < width ? i + 1 : i + 1 - width] - plane[i]
    }
  }
  return { down, right }
}

// The negative adjoint of `gradient`.
function divergence(down, right, { height, width }) {
  const sum = new Float64Array(down.length)
  for (let y = 0, i = 0; y < height; y++) {
    const before = y ? width : width - down.length
    for (let x = 0; x < width; x++, i++) {
      sum[i] = down[i] - down[i - before] + right[i] - right[x ? i - 1 : i - 1 + width]
    }
  }
  return sum
}
