// Chooses the strength with which the result comes nearest to an example picture in sharpness.

import { edgeWidth } from './sharpness.js'

const $ = (id) => document.getElementById(id)

const LARGEST = 2048 // side of the middle of the example that is measured
const SIDE = 320 // of the middle of the view that is restored and measured
const STEPS = 20 // of the strength

export class Example {
  // `middle` and `restore` are those of Candidates.
  constructor(controls, middle, restore) {
    Object.assign(this, { controls, middle, restore, picture: null })
    $('example-choose').addEventListener('click', () => $('example-file').click())
    $('example-file').addEventListener('change', () => {
      this.set($('example-file').files[0])
      $('example-file').value = ''
    })
    $('example-match').addEventListener('click', () => this.match())
    $('example').addEventListener('drop', (event) => {
      event.preventDefault()
      event.stopPropagation() // it is not a picture to restore
      document.body.classList.remove('over')
      this.set(event.dataTransfer.files[0])
    })
  }

  async set(file) {
    try {
      this.picture = await createImageBitmap(file)
    } catch {
      say('This browser cannot read this picture.')
      return
    }
    const { width, height } = this.picture
    const canvas = $('example-picture')
    canvas.hidden = false
    canvas.height = Math.round(canvas.width * height / width)
    canvas.getContext('2d').drawImage(this.picture, 0, 0, canvas.width, canvas.height)
    $('example-match').disabled = false
    await this.match()
  }

  async match() {
    const wanted = widthOf(this.picture)
    if (!wanted) return say('The example has no clear edges to measure.')
    say('Measuring …')
    try {
      const { canvas } = this.middle(SIDE)
      const blob = await canvas.convertToBlob({ type: 'image/png' })
      const options = { ...this.controls.method, diagnose: false }
      const after = await createImageBitmap(
        await this.restore(blob, options, new AbortController().signal))
      const widths = Array.from({ length: STEPS + 1 }, (_, i) => widthOf(canvas, after, i / STEPS))
      if (!widths[0]) return say('The middle of the view has no clear edges: move to another place.')
      const far = widths.map((width) => Math.abs(Math.log(width / wanted)))
      const best = far.indexOf(Math.min(...far))
      this.controls.set({ ...this.controls.method, strength: best / STEPS })
      say(inWords(wanted, widths, best))
    } catch (error) {
      say(`${error.message}.`)
    }
  }
}

const say = (text) => { $('example-result').textContent = text }

function inWords(wanted, widths, best) {
  const [before, now] = [widths[0], widths[best]].map((width) => width.toFixed(1))
  const figures = `The sharpest edges are ${wanted.toFixed(1)} pixels wide in the example and ` +
    `${before} in the middle of this picture`
  if (!best) return `${figures}, which is not softer: the strength is set to 0 %.`
  const found = `${figures}; at ${100 * best / STEPS} % they are ${now}.`
  const short = best === STEPS && widths[best] > 1.1 * wanted
  return short ? `${found} This method does not make it as sharp as the example.` : found
}

// The width of the edges of an image, with another drawn over it by a share.
function widthOf(image, over, share) {
  const [width, height] = [image.width, image.height].map((side) => Math.min(side, LARGEST))
  const context = new OffscreenCanvas(width, height).getContext('2d')
  context.drawImage(image, -((image.width - width) >> 1), -((image.height - height) >> 1))
  context.globalAlpha = share ?? 0
  if (over) context.drawImage(over, 0, 0)
  const { data } = context.getImageData(0, 0, width, height)
  const grey = Float32Array.from({ length: width * height }, (_, i) =>
    (data[4 * i] + data[4 * i + 1] + data[4 * i + 2]) / 765)
  return edgeWidth(grey, height, width)
}
