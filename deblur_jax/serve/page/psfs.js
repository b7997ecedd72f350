// PSFs of the texts motion:LENGTH,ANGLE, disk:RADIUS and gaussian:SIGMA, as `deblur-jax restore`
// makes them (deblur_jax/photos/psfs.py and deblur_jax/blur/kernels.py).

const LINE_SAMPLES = 8 // per pixel
const SUBPIXELS = 5 // per pixel and axis

// { size, values }: a PSF [size size] with sum 1.
export function psf(text) {
  const [kind, numbers = ''] = text.split(':')
  const [first, angle] = numbers.split(',').map(Number)
  const reach = { motion: (first + 1) / 2, disk: first, gaussian: 4 * first }[kind]
  if (!(reach > 0)) throw new Error(`${text} is not a blur that can be removed in this browser`)
  const size = 2 * Math.ceil(reach) + 1
  const weight = { motion: motion(first, angle), disk: disk(first), gaussian: gaussian(first) }[kind]
  const values = new Float64Array(size * size)
  const middle = size >> 1
  for (let i = 0; i < size; i++) {
    for (let j = 0; j < size; j++) values[i * size + j] = weight(j - middle, middle - i)
  }
  const sum = values.reduce((a, b) => a + b)
  return { size, values: values.map((value) => value / sum) }
}

// An anti-aliased line: the length of the line inside a pixel, linearly interpolated across it.
function motion(length, angle) {
  const turn = angle * Math.PI / 180
  const flat = Math.abs(Math.cos(turn)) >= Math.abs(Math.sin(turn))
  const main = flat ? Math.cos(turn) : Math.sin(turn)
  const drift = (flat ? Math.sin(turn) : Math.cos(turn)) * Math.sign(main)
  const speed = Math.abs(main)
  const half = length / 2
  const inside = (place) => Math.max(-half, Math.min(half, place))
  return (x, y) => {
    const [along, across] = flat ? [x, y] : [y, x]
    const start = inside((along - 0.5) / speed)
    const stop = inside((along + 0.5) / speed)
    let cover = 0
    for (let i = 0; i < LINE_SAMPLES; i++) {
      const point = start + (stop - start) * (i + 0.5) / LINE_SAMPLES
      cover += Math.max(1 - Math.abs(point * drift - across), 0)
    }
    return (stop - start) * cover
  }
}

// The share of a pixel that a disk covers.
function disk(radius) {
  return (x, y) => {
    let cover = 0
    for (let i = 0; i < SUBPIXELS; i++) {
      for (let j = 0; j < SUBPIXELS; j++) {
        const distance = Math.hypot(x + (i + 0.5) / SUBPIXELS - 0.5, y + (j + 0.5) / SUBPIXELS - 0.5)
        cover += Math.max(0, Math.min(1, (radius - distance) * SUBPIXELS + 0.5))
      }
    }
    return cover
  }
}

const gaussian = (sigma) => (x, y) => Math.exp(-(x * x + y * y) / (2 * sigma * sigma))
