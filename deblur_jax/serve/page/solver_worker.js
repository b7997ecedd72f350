// A Web Worker that restores one color plane by a classical method.

import { psf } from './psfs.js'
import { SOLVERS } from './solvers.js'

onmessage = ({ data: { id, method, plane, rows, columns, text } }) => {
  const light = Float64Array.from(plane, toLinear)
  const restored = SOLVERS[method](light, rows, columns, psf(text))
  postMessage({ id, result: Float32Array.from(restored, fromLinear) })
}

// The curve of sRGB: blur adds up light, so it is undone in linear light.
const toLinear = (value) => value >= 0.04045 ? ((value + 0.055) / 1.055) ** 2.4 : value / 12.92

const fromLinear = (light) =>
  light >= 0.04045 / 12.92 ? 1.055 * light ** (1 / 2.4) - 0.055 : 12.92 * light
