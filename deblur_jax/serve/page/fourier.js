// Discrete Fourier transforms of real planes, row after row, whose sides have no prime factor
// above 7. Complex arrays are { re, im }; spectra have the columns of numpy's rfft2.

const RADICES = [4, 2, 3, 5, 7]

// The smallest side, at least `length`, that can be transformed.
export function fastLength(length) {
  let rest = length
  for (const prime of [2, 3, 5, 7]) while (rest % prime === 0) rest /= prime
  return rest === 1 ? length : fastLength(length + 1)
}

function factors(length) {
  const found = []
  for (const radix of RADICES) {
    for (; length % radix === 0; length /= radix) found.push(radix)
  }
  if (length !== 1) throw new Error('a side has a prime factor above 7')
  return found
}

const complex = (size) => ({ re: new Float64Array(size), im: new Float64Array(size) })

// Transforms of planes [height width].
export class Fourier {
  constructor(height, width) {
    this.height = height
    this.width = width
    this.columns = (width >> 1) + 1 // of a spectrum
    this.pairs = (height + 1) >> 1 // of rows
    const size = Math.max(this.pairs * width, height * this.columns)
    this.work = [complex(size), complex(size)]
  }

  // The spectrum [height, width / 2 + 1] of a plane.
  forward(plane) {
    const { height, width, columns, pairs } = this
    let [from, to] = this.work
    // Two real rows are the real and imaginary part of a complex one: [width pairs].
    for (let pair = 0; pair < pairs; pair++) {
      const even = 2 * pair * width
      const last = 2 * pair + 1 === height
      for (let x = 0; x < width; x++) {
        from.re[x * pairs + pair] = plane[even + x]
        from.im[x * pairs + pair] = last ? 0 : plane[even + width + x]
      }
    }
    ;[from, to] = along(from, to, width, pairs, -1)
    for (let x = 0; x < columns; x++) {
      const here = x * pairs
      const there = (width - x) % width * pairs
      for (let pair = 0; pair < pairs; pair++) {
        const a = from.re[here + pair]
        const b = from.im[here + pair]
        const c = from.re[there + pair]
        const d = from.im[there + pair]
        const at = 2 * pair * columns + x
        to.re[at] = (a + c) / 2
        to.im[at] = (b - d) / 2
        if (2 * pair + 1 === height) continue
        to.re[at + columns] = (b + d) / 2
        to.im[at + columns] = (c - a) / 2
      }
    }
    ;[from] = along(to, from, height, columns, -1)
    const size = height * columns
    return { re: from.re.slice(0, size), im: from.im.slice(0, size) }
  }

  // The plane of a spectrum; the inverse of `forward`.
  inverse(spectrum) {
    const { height, width, columns, pairs } = this
    let [from, to] = this.work
    from.re.set(spectrum.re)
    from.im.set(spectrum.im)
    ;[from, to] = along(from, to, height, columns, 1)
    for (let x = 0; x < columns; x++) {
      const here = x * pairs
      const mirror = (width - x) % width
      const real = mirror === x // what is not real there is a rounding error
      for (let pair = 0; pair < pairs; pair++) {
        const at = 2 * pair * columns + x
        const odd = 2 * pair + 1 < height
        const a = from.re[at]
        const b = real ? 0 : from.im[at]
        const c = odd ? from.re[at + columns] : 0
        const d = real || !odd ? 0 : from.im[at + columns]
        to.re[mirror * pairs + pair] = a + d
        to.im[mirror * pairs + pair] = c - b
        to.re[here + pair] = a - d
        to.im[here + pair] = b + c
      }
    }
    ;[from] = along(to, from, width, pairs, 1)
    const plane = new Float64Array(height * width)
    const scale = 1 / (height * width)
    for (let pair = 0; pair < pairs; pair++) {
      const even = 2 * pair * width
      for (let x = 0; x < width; x++) {
        plane[even + x] = from.re[x * pairs + pair] * scale
        if (2 * pair + 1 < height) plane[even + width + x] = from.im[x * pairs + pair] * scale
      }
    }
    return plane
  }
}

// Transforms the columns of a complex [length count]; sign -1 is forward, 1 inverse (unscaled).
// Stockham's algorithm: returns [result, the other array]; both arrays are overwritten.
function along(from, to, length, count, sign) {
  let rest = length
  let run = count
  for (const radix of factors(length)) {
    const part = rest / radix
    for (let p = 0; p < part; p++) {
      const angle = sign * 2 * Math.PI * p / rest
      if (radix === 4) four(from, to, run * p, run * part, 4 * run * p, run, angle, sign)
      else any(from, to, run * p, run * part, radix * run * p, run, angle, sign, radix)
    }
    ;[from, to] = [to, from]
    rest = part
    run *= radix
  }
  return [from, to]
}

// Transforms of four values, `step` apart, for `run` neighbors; results are `run` apart.
function four(from, to, start, step, out, run, angle, sign) {
  const [c1, s1] = [Math.cos(angle), Math.sin(angle)]
  const [c2, s2] = [Math.cos(2 * angle), Math.sin(2 * angle)]
  const [c3, s3] = [Math.cos(3 * angle), Math.sin(3 * angle)]
  const { re, im } = from
  const [toRe, toIm] = [to.re, to.im]
  for (let i = start; i < start + run; i++, out++) {
    const sumRe = re[i] + re[i + 2 * step]
    const sumIm = im[i] + im[i + 2 * step]
    const differenceRe = re[i] - re[i + 2 * step]
    const differenceIm = im[i] - im[i + 2 * step]
    const otherRe = re[i + step] + re[i + 3 * step]
    const otherIm = im[i + step] + im[i + 3 * step]
    const turnedRe = -sign * (im[i + step] - im[i + 3 * step]) // sign * i times the difference
    const turnedIm = sign * (re[i + step] - re[i + 3 * step])
    toRe[out] = sumRe + otherRe
    toIm[out] = sumIm + otherIm
    const aRe = differenceRe + turnedRe
    const aIm = differenceIm + turnedIm
    toRe[out + run] = aRe * c1 - aIm * s1
    toIm[out + run] = aRe * s1 + aIm * c1
    const bRe = sumRe - otherRe
    const bIm = sumIm - otherIm
    toRe[out + 2 * run] = bRe * c2 - bIm * s2
    toIm[out + 2 * run] = bRe * s2 + bIm * c2
    const cRe = differenceRe - turnedRe
    const cIm = differenceIm - turnedIm
    toRe[out + 3 * run] = cRe * c3 - cIm * s3
    toIm[out + 3 * run] = cRe * s3 + cIm * c3
  }
}

// The same for any number of values, by the definition.
function any(from, to, start, step, out, run, angle, sign, radix) {
  const { re, im } = from
  const [toRe, toIm] = [to.re, to.im]
  for (let k = 0; k < radix; k++) {
    toRe.fill(0, out + k * run, out + (k + 1) * run)
    toIm.fill(0, out + k * run, out + (k + 1) * run)
    for (let i = 0; i < radix; i++) {
      const turn = k * angle + sign * 2 * Math.PI * (i * k % radix) / radix
      const [cos, sin] = [Math.cos(turn), Math.sin(turn)]
      for (let at = start + i * step, q = out + k * run; q < out + (k + 1) * run; at++, q++) {
        toRe[q] += re[at] * cos - im[at] * sin
        toIm[q] += re[at] * sin + im[at] * cos
      }
    }
  }
}
