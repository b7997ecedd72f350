// Where to restore: what is painted, or strokes that spread up to the edges, as a picture.

import { spread } from './scribble.js'

export const COLORS = { sharpen: '20,184,166', leave: '234,88,12' } // of strokes on the screen

const SHOWN_SIDE = 768 // of the mask that is shown
const SIDE = 2048 // of the mask that is used; it is enlarged for a larger picture

// Canvases for painting over a picture: of the brush, and of strokes.
export function blank({ width, height }) {
  return { painted: new OffscreenCanvas(width, height), strokes: new OffscreenCanvas(width, height) }
}

// The mask of a picture as PNG, or undefined to restore everything.
export async function file({ before, masks }, mode) {
  if (mode === 'all' || !masks) return undefined
  if (mode === 'scribble') {
    const mask = fromStrokes(before, masks.strokes, SIDE, (value) => [value, value, value, 255])
    return mask && pngOf(mask, before)
  }
  const [inside, outside] = mode === 'only' ? ['#fff', '#000'] : ['#000', '#fff']
  const { width, height } = masks.painted
  const canvas = new OffscreenCanvas(width, height)
  const context = canvas.getContext('2d')
  context.drawImage(masks.painted, 0, 0)
  context.globalCompositeOperation = 'source-in' // the color of what is painted
  context.fillStyle = inside
  context.fillRect(0, 0, width, height)
  context.globalCompositeOperation = 'destination-over' // and of the rest
  context.fillStyle = outside
  context.fillRect(0, 0, width, height)
  return canvas.convertToBlob({ type: 'image/png' })
}

// A canvas with the color of strokes that sharpen where they spread to; null without strokes.
export function shown({ before, masks }) {
  const [red, green, blue] = COLORS.sharpen.split(',').map(Number)
  return fromStrokes(before, masks.strokes, SHOWN_SIDE, (value) => [red, green, blue, value])
}

// A canvas of at most `side` pixels with the `color` of each value, 0 to 255, of the mask.
function fromStrokes(before, strokes, side, color) {
  const scale = Math.min(1, side / Math.max(before.width, before.height))
  const width = Math.max(1, Math.round(before.width * scale))
  const height = Math.max(1, Math.round(before.height * scale))
  const [picture, drawn] = [before, strokes].map((image) => pixels(image, width, height))
  const plane = (channel) => Float32Array.from({ length: width * height }, (_, i) =>
    picture.data[4 * i + channel] / 255)
  const kind = (sharpen) => Uint8Array.from({ length: width * height }, (_, i) =>
    drawn.data[4 * i + 3] > 127 && (drawn.data[4 * i] < 127) === sharpen ? 1 : 0)
  const [sharpen, leave] = [kind(true), kind(false)]
  if (!sharpen.includes(1) && !leave.includes(1)) return null
  const mask = spread([0, 1, 2].map(plane), sharpen, leave, height, width)
  mask.forEach((value, i) => picture.data.set(color(Math.round(255 * value)), 4 * i))
  const canvas = new OffscreenCanvas(width, height)
  canvas.getContext('2d').putImageData(picture, 0, 0)
  return canvas
}

function pixels(image, width, height) {
  const context = new OffscreenCanvas(width, height).getContext('2d')
  context.drawImage(image, 0, 0, width, height)
  return context.getImageData(0, 0, width, height)
}

function pngOf(mask, { width, height }) {
  const canvas = new OffscreenCanvas(width, height)
  canvas.getContext('2d').drawImage(mask, 0, 0, width, height)
  return canvas.convertToBlob({ type: 'image/png' })
}
