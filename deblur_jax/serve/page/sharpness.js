// How sharp a picture looks, comparable between different scenes: the width of its edges.

const WINDOW = 64
const LEAST_CONTRAST = 0.15 // windows with less have no edge to measure
const STEEPEST = 0.85 // quantile over the windows: one sharp object does not decide

// How many pixels the sharpest edges take from dark to bright, for grey values in [0, 1]; null if
// there are no edges. Of a window it is the contrast divided by the steepest slope.
export function edgeWidth(grey, height, width) {
  const slopes = steepness(grey, height, width)
  const found = []
  for (let top = 0; top <= Math.max(height - WINDOW, 0); top += WINDOW) {
    for (let left = 0; left <= Math.max(width - WINDOW, 0); left += WINDOW) {
      const inside = (plane) => cut(plane, top, left, height, width).sort()
      const values = inside(grey)
      const at = (share) => values[Math.floor(share * values.length)]
      const contrast = at(0.99) - at(0.01)
      if (contrast > LEAST_CONTRAST) found.push(inside(slopes).at(-5) / contrast)
    }
  }
  if (!found.length) return null
  found.sort((a, b) => a - b)
  return 1 / found[Math.round(STEEPEST * (found.length - 1))]
}

function cut(plane, top, left, height, width) {
  const [bottom, right] = [Math.min(top + WINDOW, height), Math.min(left + WINDOW, width)]
  const values = new Float32Array((bottom - top) * (right - left))
  for (let y = top, i = 0; y < bottom; y++, i += right - left) {
    values.set(plane.subarray(y * width + left, y * width + right), i)
  }
  return values
}

// The length of the gradient, by Sobel's filter.
function steepness(grey, height, width) {
  const found = new Float32Array(grey.length)
  for (let y = 0, i = 0; y < height; y++) {
    const up = Math.max(y - 1, 0) * width
    const here = y * width
    const down = Math.min(y + 1, height - 1) * width
    for (let x = 0; x < width; x++, i++) {
      const [left, right] = [Math.max(x - 1, 0), Math.min(x + 1, width - 1)]
      const corners = grey[down + right] - grey[up + left]
      const others = grey[up + right] - grey[down + left]
      const across = corners + others + 2 * (grey[here + right] - grey[here + left])
      const along = corners - others + 2 * (grey[down + x] - grey[up + x])
      found[i] = Math.hypot(across, along) / 8
    }
  }
  return found
}
