// Large pictures in overlapping tiles, cut and blended as by deblur_jax/tiling.py for methods whose
// tiling is 'approximate', so that the result is the same as the server's.

const WHOLE_PIXELS = 1280 * 1024
const TILE = 1024
const BLEND = 32

const roundUp = (size, multiple) => Math.ceil(size / multiple) * multiple

// Where tiles start along one axis, and their weights, which add up to 1 everywhere.
export function places(length, size, halo, overlap) {
  if (length <= size) return [{ start: 0, weights: new Float32Array(length).fill(1) }]
  const starts = []
  for (let start = 0; start < length - size; start += size - overlap) starts.push(start)
  starts.push(length - size)
  const fade = (i) => {
    if (i < halo) return 0
    return i < halo + BLEND ? Math.sin((i - halo + 0.5) / BLEND * Math.PI / 2) ** 2 : 1
  }
  const found = starts.map((start, n) => ({
    start,
    weights: Float32Array.from({ length: size }, (_, i) =>
      (n ? fade(i) : 1) * (n + 1 < starts.length ? fade(size - 1 - i) : 1)),
  }))
  const total = new Float64Array(length)
  for (const { start, weights } of found) weights.forEach((weight, i) => { total[start + i] += weight })
  for (const { start, weights } of found) {
    for (let i = 0; i < size; i++) weights[i] /= total[start + i]
  }
  return found
}

// The tiles of a picture: { rows, columns }, see `places`. `needs` is { multiple, halo }.
export function cuts(height, width, { multiple, halo }) {
  const overlap = roundUp(2 * halo + BLEND, multiple)
  const most = roundUp(Math.max(TILE, 2 * overlap), multiple)
  const whole = height * width <= WHOLE_PIXELS || Math.max(height, width) <= most
  const along = (size) => {
    const padded = roundUp(size, multiple)
    const count = Math.max(Math.ceil((size - overlap) / (most - overlap)), 1)
    const side = whole ? padded : roundUp(Math.ceil((size - overlap) / count) + overlap, multiple)
    return places(padded, side, halo, overlap).filter(({ start }) => start < size)
  }
  return { rows: along(height), columns: along(width) }
}

// The restored colors, three planes in [0, 1], of `image` (ImageData). `restore` restores the three
// planes [height width] of a tile; `tick` is called after each with the fraction done.
export async function restoreTiles(image, needs, restore, tick) {
  const { height, width } = image
  const { rows, columns } = cuts(height, width, needs)
  const sums = [0, 1, 2].map(() => new Float32Array(height * width))
  let done = 0
  for (const row of rows) {
    for (const column of columns) {
      const [h, w] = [row.weights.length, column.weights.length]
      const planes = await restore([0, 1, 2].map((c) => cut(image, c, row.start, column.start, h, w)), h, w)
      sums.forEach((sum, c) => add(sum, planes[c], row, column, height, width))
      tick(++done / (rows.length * columns.length), rows.length * columns.length)
    }
  }
  return sums
}

function cut({ data, height, width }, channel, top, left, h, w) {
  const plane = new Float32Array(h * w)
  const across = Array.from({ length: w }, (_, x) => mirrored(left + x, width))
  for (let y = 0, i = 0; y < h; y++) {
    const row = mirrored(top + y, height) * width
    for (let x = 0; x < w; x++, i++) plane[i] = data[4 * (row + across[x]) + channel] / 255
  }
  return plane
}

// The index of a pixel in a row padded by reflection.
function mirrored(index, size) {
  const period = Math.max(2 * (size - 1), 1)
  return size > 1 ? Math.min(index % period, period - index % period) : 0
}

function add(sum, plane, row, column, height, width) {
  const h = Math.min(row.weights.length, height - row.start)
  const w = Math.min(column.weights.length, width - column.start)
  for (let y = 0; y < h; y++) {
    const [from, to] = [y * column.weights.length, (row.start + y) * width + column.start]
    for (let x = 0; x < w; x++) sum[to + x] += plane[from + x] * row.weights[y] * column.weights[x]
  }
}
