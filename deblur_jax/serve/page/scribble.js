// Strokes that spread over a picture up to its edges, as in deblur_jax/guidance/scribble.py, which
// explains the method and the constants.

const SIDE = 256
const EDGE = 12
const REACH = 0.3
const RADIUS = 3
const SMOOTH = 1e-3

// The mask, 1 where to restore and 0 where to leave alone. `colors` are three planes in [0, 1],
// `sharpen` and `leave` are planes that are 1 where there is a stroke.
export function spread(colors, sharpen, leave, height, width) {
  const factor = Math.ceil(Math.max(height, width) / SIDE)
  const [h, w] = [Math.ceil(height / factor), Math.ceil(width / factor)]
  const small = (plane) => reduced(plane, height, width, factor, h, w)
  const planes = colors.map(small)
  const near = small(sharpen).map(Math.ceil)
  const far = small(leave).map((value, i) => near[i] ? 0 : Math.ceil(value))
  const toSharpen = distance(planes, near, h, w)
  const toLeave = distance(planes, far, h, w)
  const mask = toSharpen.map((value, i) => 1 / (1 + (value / Math.max(toLeave[i], 1e-6)) ** 4))
  const { slope, offset } = linear(mean(planes), mask, h, w)
  const large = (plane) => enlarged(plane, h, w, factor, height, width)
  const [slopes, offsets] = [large(slope), large(offset)]
  return mean(colors).map((grey, i) => Math.max(0, Math.min(1, slopes[i] * grey + offsets[i])))
}

const mean = ([a, b, c]) => Float64Array.from(a, (value, i) => (value + b[i] + c[i]) / 3)

// Means of blocks; the last ones are completed with edge pixels.
function reduced(plane, height, width, factor, h, w) {
  const sums = new Float64Array(h * w)
  for (let y = 0; y < h * factor; y++) {
    const row = Math.min(y, height - 1) * width
    const to = Math.floor(y / factor) * w
    for (let x = 0; x < w * factor; x++) {
      sums[to + Math.floor(x / factor)] += plane[row + Math.min(x, width - 1)]
    }
  }
  return sums.map((sum) => sum / (factor * factor))
}

// Least cost of a path over neighbors from the stroke.
function distance(planes, stroke, h, w) {
  if (!stroke.some(Boolean)) return new Float64Array(h * w).fill(REACH)
  const found = stroke.map((there) => there ? 0 : Infinity)
  const unit = 1 / Math.max(h, w)
  let most = Infinity // by how much a distance still changes
  const step = (from, to, length) => {
    let next = found[from] + length * unit
    for (const plane of planes) next += EDGE * (plane[from] - plane[to]) ** 2
    if (next < found[to]) {
      most = Math.max(most, found[to] - next)
      found[to] = next
    }
  }
  // From the neighbors before pixel `i`, or with signs reversed those after it.
  const around = (i, column, row) => {
    const inside = (x) => x >= 0 && x < w
    const x = i % w
    if (inside(x + column)) step(i + column, i, 1)
    if (i + row < 0 || i + row >= h * w) return
    step(i + row, i, 1)
    if (inside(x + column)) step(i + row + column, i, Math.SQRT2)
    if (inside(x - column)) step(i + row - column, i, Math.SQRT2)
  }
  while (most > 1e-9) {
    most = 0
    for (let i = 0; i < h * w; i++) around(i, -1, -w)
    for (let i = h * w - 1; i >= 0; i--) around(i, 1, w)
  }
  return found
}

// The guided filter: near each pixel `values` are about slope * guide + offset.
function linear(guide, values, h, w) {
  const around = (plane) => box(plane, h, w)
  const [level, value] = [around(guide), around(values)]
  const square = around(guide.map((one) => one * one))
  const product = around(guide.map((one, i) => one * values[i]))
  const slope = product.map((one, i) =>
    (one - level[i] * value[i]) / (square[i] - level[i] ** 2 + SMOOTH))
  return { slope: around(slope), offset: around(value.map((one, i) => one - slope[i] * level[i])) }
}

// The mean over a window around each pixel, as much of it as is inside the plane.
function box(plane, h, w) {
  const across = plane.map((_, i) => windowMean(plane, i - i % w, i % w, w, 1))
  return across.map((_, i) => windowMean(across, i % w, Math.floor(i / w), h, w))
}

function windowMean(plane, start, at, length, step) {
  const [first, last] = [Math.max(at - RADIUS, 0), Math.min(at + RADIUS, length - 1)]
  let sum = 0
  for (let i = first; i <= last; i++) sum += plane[start + i * step]
  return sum / (last - first + 1)
}

// Linear interpolation between the centers of the blocks of `reduced`.
function enlarged(plane, h, w, factor, height, width) {
  const place = (i, size) => {
    const at = Math.max(0, Math.min(size - 1, (i + 0.5) / factor - 0.5))
    const first = Math.min(Math.floor(at), Math.max(size - 2, 0))
    return [first, Math.min(first + 1, size - 1), at - first]
  }
  const columns = Array.from({ length: width }, (_, x) => place(x, w))
  const result = new Float32Array(height * width)
  for (let y = 0, i = 0; y < height; y++) {
    const [top, bottom, down] = place(y, h)
    for (const [left, right, across] of columns) {
      const row = (start) => (1 - across) * plane[start + left] + across * plane[start + right]
      result[i++] = (1 - down) * row(top * w) + down * row(bottom * w)
    }
  }
  return result
}
