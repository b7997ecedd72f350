// Restores in this browser, with the interface of api.js; nothing is sent.

import { psf } from './psfs.js'
import { restoreTiles } from './tiles.js'

const SOLVERS = ['wiener', 'richardson_lucy', 'total_variation']
const NETWORK = { multiple: 8, halo: 64 } // what `mobile` needs, see deblur_jax/models/nafnet.py

let folder = null // of the files of the network, on this server
let network = null

// The methods of this browser; `place` is the folder of the network's files if the server has them.
export function models(place) {
  folder = place
  const classical = SOLVERS.map((name) => ({ name, kind: 'classical', psf: 'required' }))
  return place ? [{ name: 'mobile', kind: 'network', psf: 'none' }, ...classical] : classical
}

// The restored picture, as a Blob.
export async function restore(image, options, signal) {
  return (await job(image, options, () => {}, signal)).blob
}

// Calls `progress` with each state. Returns { blob, report }.
export async function job(image, options, progress, signal) {
  const begin = performance.now()
  progress({ state: 'running', tiles: 1, progress: 0 })
  const pixels = await read(image)
  const mask = options.mask && await read(options.mask)
  let tiles = 1
  const tick = (done, count) => {
    tiles = count
    signal.throwIfAborted()
    progress({ state: 'running', tiles, progress: done })
  }
  const classical = options.weights !== 'mobile'
  const needs = classical ? needsOf(options.psf, pixels) : NETWORK
  const pool = classical ? [0, 1, 2].map(() => new Caller('solver_worker.js')) : []
  const byMethod = (planes, rows, columns) => Promise.all(planes.map((plane, c) => pool[c].call(
    { method: options.weights, text: options.psf, plane, rows, columns }, signal)))
  const byNetwork = (planes, rows, columns) => {
    network ??= new Caller('network_worker.js')
    return network.call({ folder, planes, rows, columns }, signal)
  }
  try {
    const planes = await restoreTiles(pixels, needs, classical ? byMethod : byNetwork, tick)
    blend(pixels, planes, options.strength ?? 1, mask)
  } finally {
    for (const caller of pool) caller.end()
  }
  const blob = await written(pixels)
  return { blob, report: reportOf(pixels, options, tiles, blob, (performance.now() - begin) / 1e3) }
}

function needsOf(text, { width, height }) {
  const { size } = psf(text)
  if (size > Math.min(width, height)) {
    throw new Error(`the blur of ${size} x ${size} pixels is larger than the picture`)
  }
  return { multiple: 1, halo: 2 * size }
}

// A Web Worker whose messages have answers.
class Caller {
  constructor(file) {
    this.worker = new Worker(new URL(file, import.meta.url), { type: 'module' })
    this.waiting = new Map()
    this.worker.onmessage = ({ data: { id, result, error } }) => {
      const { resolve, reject } = this.waiting.get(id)
      this.waiting.delete(id)
      error ? reject(new Error(error)) : resolve(result)
    }
    this.worker.onerror = (event) => {
      const error = new Error(event.message || 'this browser cannot start a Web Worker')
      for (const { reject } of this.waiting.values()) reject(error)
    }
  }

  // The answer; if `signal` aborts, an AbortError at once.
  call(data, signal) {
    const id = this.waiting.size ? Math.max(...this.waiting.keys()) + 1 : 0
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject })
      signal.addEventListener('abort', () => reject(signal.reason))
      signal.aborted ? reject(signal.reason) : this.worker.postMessage({ id, ...data })
    })
  }

  end() {
    this.worker.terminate()
  }
}

async function read(image) {
  const bitmap = await createImageBitmap(image).catch(() => {
    throw new Error('this browser cannot read pictures of this format')
  })
  const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext('2d')
  context.drawImage(bitmap, 0, 0)
  return context.getImageData(0, 0, bitmap.width, bitmap.height)
}

// Overwrites the colors of `pixels`; alpha is unchanged.
function blend({ data }, planes, strength, mask) {
  for (let i = 0; i < data.length / 4; i++) {
    const weight = mask ? strength * mask.data[4 * i] / 255 : strength
    for (let c = 0; c < 3; c++) {
      const before = data[4 * i + c] / 255
      data[4 * i + c] = 255 * (before + weight * (planes[c][i] - before)) // rounds and clips
    }
  }
}

function written(pixels) {
  const canvas = new OffscreenCanvas(pixels.width, pixels.height)
  canvas.getContext('2d').putImageData(pixels, 0, 0)
  return canvas.convertToBlob({ type: 'image/png' })
}

function reportOf({ width, height }, { weights }, tiles, blob, seconds) {
  const notes = ['Computed in this browser; the picture was not sent.',
    'Saved as PNG with 8 bits in sRGB, without metadata.']
  return { width, height, method: weights, tiles, seconds, format: 'png', bytes: blob.size, notes }
}
