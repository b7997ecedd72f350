// What lies beyond the border of a picture is unknown, but blur has mixed it in; see
// deblur_jax/solvers/borders.py, which this follows.

import { Fourier, fastLength } from './fourier.js'

const TAPERS = 3

// A plane larger than the picture [rows columns], with everything that the PSF blurs into it.
export class Scene {
  constructor(psf, rows, columns) {
    this.rows = rows
    this.columns = columns
    this.top = this.left = psf.size >> 1
    this.height = fastLength(rows + psf.size - 1)
    this.width = fastLength(columns + psf.size - 1)
    this.size = this.height * this.width
    this.fourier = new Fourier(this.height, this.width)
    this.transfer = this.fourier.forward(this.centered(psf))
    this.seen = new Float64Array(this.size)
    for (let y = this.top; y < this.top + rows; y++) {
      this.seen.fill(1, y * this.width + this.left, y * this.width + this.left + columns)
    }
  }

  // A PSF in a scene, with its center at the corner.
  centered({ size, values }) {
    const plane = new Float64Array(this.size)
    for (let i = 0; i < size; i++) {
      const y = (i - (size >> 1) + this.height) % this.height
      for (let j = 0; j < size; j++) {
        plane[y * this.width + (j - (size >> 1) + this.width) % this.width] = values[i * size + j]
      }
    }
    return plane
  }

  // The blurred scene, which is valid only inside the picture.
  blur(plane) {
    return this.fourier.inverse(times(this.fourier.forward(plane), this.transfer))
  }

  // The adjoint of `blur`.
  correlate(plane) {
    return this.fourier.inverse(times(this.fourier.forward(plane), this.transfer, -1))
  }

  // A scene with a picture in its place, padded with its edge pixels.
  place(picture) {
    const plane = new Float64Array(this.size)
    for (let y = 0; y < this.height; y++) {
      const row = clamp(y - this.top, this.rows) * this.columns
      for (let x = 0; x < this.width; x++) {
        plane[y * this.width + x] = picture[row + clamp(x - this.left, this.columns)]
      }
    }
    return plane
  }

  crop(plane) {
    const picture = new Float64Array(this.rows * this.columns)
    for (let y = 0; y < this.rows; y++) {
      const start = (y + this.top) * this.width + this.left
      picture.set(plane.subarray(start, start + this.columns), y * this.columns)
    }
    return picture
  }

  // Factors of minus the Laplacian for spectra.
  laplacian() {
    const columns = this.fourier.columns
    const factors = new Float64Array(this.height * columns)
    for (let y = 0; y < this.height; y++) {
      const row = 2 - 2 * Math.cos(2 * Math.PI * y / this.height)
      for (let x = 0; x < columns; x++) {
        factors[y * columns + x] = row + 2 - 2 * Math.cos(2 * Math.PI * x / this.width)
      }
    }
    return factors
  }
}

// A scene with a margin of twice the PSF's reach, and the picture in it with a smooth margin.
export function surround(picture, psf, rows, columns) {
  const more = (psf.size >> 1) + 1
  const scene = new Scene(padded(psf, more), rows, columns)
  let placed = scene.place(picture)
  const down = taper(psf, scene.height, (i, j) => i * psf.size + j)
  const across = taper(psf, scene.width, (i, j) => j * psf.size + i)
  for (let time = 0; time < TAPERS; time++) {
    const blurred = scene.blur(placed)
    placed = placed.map((value, at) => {
      const weight = down[Math.floor(at / scene.width)] * across[at % scene.width]
      return weight * value + (1 - weight) * blurred[at]
    })
  }
  return { scene, placed }
}

function padded(psf, more) {
  const size = psf.size + 2 * more
  const values = new Float64Array(size * size)
  for (let i = 0; i < psf.size; i++) {
    values.set(psf.values.subarray(i * psf.size, (i + 1) * psf.size), (i + more) * size + more)
  }
  return { size, values }
}

// Weights of a picture along an axis: 0 at the ends, 1 beyond the reach of the PSF.
function taper({ size, values }, length, at) {
  const profile = Array.from({ length: size }, (_, i) => {
    let sum = 0
    for (let j = 0; j < size; j++) sum += values[at(i, j)]
    return sum
  })
  const correlation = (lag) => {
    let sum = 0
    for (let i = 0; i + lag < size; i++) sum += profile[i] * profile[i + lag]
    return sum
  }
  const most = correlation(0)
  return Float64Array.from({ length }, (_, i) => 1 - correlation(Math.min(i, length - i)) / most)
}

const clamp = (index, length) => Math.max(0, Math.min(length - 1, index))

// The product of two spectra, of which `sign` -1 conjugates the second; overwrites the first.
export function times(spectrum, { re, im }, sign = 1) {
  const { re: a, im: b } = spectrum
  for (let i = 0; i < a.length; i++) {
    const real = a[i] * re[i] - sign * b[i] * im[i]
    b[i] = sign * a[i] * im[i] + b[i] * re[i]
    a[i] = real
  }
  return spectrum
}

// A spectrum times real factors; overwrites it.
export function scaled(spectrum, factors) {
  for (let i = 0; i < factors.length; i++) {
    spectrum.re[i] *= factors[i]
    spectrum.im[i] *= factors[i]
  }
  return spectrum
}

export const power = ({ re, im }) => re.map((value, i) => value * value + im[i] * im[i])
