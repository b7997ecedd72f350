// Several restorations of the middle of the view, side by side; choosing one sets the controls.

const $ = (id) => document.getElementById(id)

const SIDE = 256
const STRENGTHS = [0.4, 0.7, 1]
const SIZES = [0.7, 1, 1.4] // of the PSF, relative to the one of the controls

export class Candidates {
  // `middle(side)` is the crop that is compared, see Viewer; `restore` is that of api.js.
  constructor(controls, middle, restore) {
    this.controls = controls
    this.middle = middle
    this.restore = restore
    $('compare').addEventListener('click', () => this.open())
    $('candidates-close').addEventListener('click', () => $('candidates').close())
    $('candidates').addEventListener('close', () => this.asked.abort())
    $('by-method').addEventListener('click', () => this.show(this.methods()))
    $('by-setting').addEventListener('click', () => this.show(this.settings()))
  }

  open() {
    this.crop = this.middle(SIDE)
    this.found = new Map() // a method and PSF -> its restored crop
    $('candidates').showModal()
    this.show(this.methods())
  }

  // Every method that the controls say enough about, at full strength.
  methods() {
    const { form, psf } = this.controls
    return this.controls.models
      .filter((model) => model.psf !== 'required' || form !== 'auto')
      .map((model) => ({
        weights: model.name,
        psf: model.psf === 'required' ? psf : '',
        prompt: this.controls.promptFor(model),
        strength: 1,
      }))
  }

  // The current method with other strengths and, if it needs one, other PSFs.
  settings() {
    const { method, form, size } = this.controls
    const strengths = STRENGTHS.map((strength) => ({ ...method, strength }))
    if (!method.psf || form === 'auto') return strengths
    const others = SIZES.filter((times) => times !== 1)
      .map((times) => ({ ...method, psf: this.controls.psfOf(size * times), strength: 1 }))
    return [...strengths, ...others]
  }

  async show(candidates) {
    this.asked?.abort()
    this.asked = new AbortController()
    const { signal } = this.asked
    const places = candidates.map((candidate) => this.button(candidate))
    $('candidate-list').replaceChildren(...places.map(({ button }) => button))
    $('candidate-list').setAttribute('aria-busy', 'true')
    for (const [i, candidate] of candidates.entries()) {
      try {
        draw(places[i].canvas, this.crop, await this.restored(candidate, signal), candidate.strength)
      } catch (error) {
        if (signal.aborted) return
        places[i].button.disabled = true
        places[i].text.textContent = `${named(candidate)}: ${error.message}`
      }
    }
    $('candidate-list').setAttribute('aria-busy', 'false')
  }

  button(candidate) {
    const button = document.createElement('button')
    const canvas = document.createElement('canvas')
    const text = document.createElement('span')
    const { width, height } = this.crop.canvas
    Object.assign(canvas, { width, height })
    canvas.getContext('2d').drawImage(this.crop.canvas, 0, 0)
    canvas.className = 'waiting'
    button.type = 'button'
    text.textContent = named(candidate)
    button.setAttribute('aria-pressed', String(named(candidate) === named(this.current)))
    button.append(canvas, text)
    button.addEventListener('click', () => {
      this.controls.set(candidate)
      this.show(this.settings())
      $('candidate-list').querySelector('[aria-pressed=true]')?.focus()
    })
    return { button, canvas, text }
  }

  get current() {
    return { ...this.controls.method, strength: this.controls.strength }
  }

  // The restored crop at full strength.
  async restored({ weights, psf, prompt }, signal) {
    const key = `${weights} ${psf} ${prompt}`
    if (!this.found.has(key)) {
      const image = await this.crop.canvas.convertToBlob({ type: 'image/png' })
      const blob = await this.restore(image, { weights, psf, prompt, diagnose: false }, signal)
      this.found.set(key, await createImageBitmap(blob))
    }
    return this.found.get(key)
  }
}

function named({ weights, psf, prompt, strength }) {
  const blur = psf ? `, ${psf.replace(':', ' ').replace(',', ' at ')}${psf.includes(',') ? '°' : ''}` : ''
  const asked = prompt ? `, ${prompt}` : ''
  return `${weights.replaceAll('_', ' ') || 'by words'}${blur}${asked}, ${Math.round(100 * strength)} %`
}

function draw(canvas, crop, image, strength) {
  const context = canvas.getContext('2d')
  context.drawImage(crop.canvas, 0, 0)
  context.globalAlpha = strength
  context.drawImage(image, 0, 0)
  canvas.className = ''
}
