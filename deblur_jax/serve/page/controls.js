// The controls: method, strength, PSF, mask and brush, as the options of a request.

const $ = (id) => document.getElementById(id)

const SIZES = { motion: ['Length', 10, 400], disk: ['Radius', 10, 150], gaussian: ['Sigma', 5, 80] }

const WORDS = {
  network: 'A neural network; needs to know nothing about the blur.',
  required: 'A classical method; needs to know the blur.',
  none: 'A classical method for mild blur.',
}

export class Controls {
  // `changed` is called with 'method', 'strength', 'mask' or 'brush'.
  constructor(changed) {
    this.changed = changed
    this.models = []
    this.erase = false
    $('method').addEventListener('change', () => this.update('method'))
    $('psf-kind').addEventListener('change', () => this.setKind())
    $('strength').addEventListener('input', () => this.update('strength'))
    for (const id of ['psf-size', 'psf-angle']) {
      $(id).addEventListener('input', () => this.update('method'))
    }
    $('mask-mode').addEventListener('change', () => this.update('mask'))
    $('brush').addEventListener('input', () => this.update('brush'))
    $('erase').addEventListener('click', () => {
      this.erase = !this.erase
      $('erase').setAttribute('aria-pressed', String(this.erase))
      this.update('brush')
    })
  }

  setModels({ models, limits }) {
    this.models = models
    $('method').replaceChildren(...models.map(({ name, kind }) => {
      const option = document.createElement('option')
      option.value = name
      option.textContent = name.replaceAll('_', ' ') + (kind === 'network' ? '' : ' (classical)')
      return option
    }))
    $('limits').textContent = `, up to ${limits.megabytes} MB and ${limits.megapixels} megapixels`
    $('where').textContent = 'Pictures are sent to this server to be restored; results are ' +
      `deleted after ${limits.keep_hours} hours.`
    this.setKind()
  }

  get model() {
    return this.models[$('method').selectedIndex] ?? { name: '', kind: 'network', psf: 'none' }
  }

  setKind() {
    const [name, least, most] = SIZES[$('psf-kind').value] ?? []
    if (name) {
      $('psf-size-name').textContent = name
      $('psf-size').min = least
      $('psf-size').max = most
    }
    this.update('method')
  }

  update(what) {
    const { kind, psf } = this.model
    const form = $('psf-kind').value
    $('method-help').textContent = WORDS[kind === 'network' ? 'network' : psf]
    $('psf').hidden = psf !== 'required'
    $('psf-size-field').hidden = form === 'auto'
    $('psf-angle-field').hidden = form !== 'motion'
    $('psf-size-value').textContent = `${this.size} pixels`
    $('psf-angle-value').textContent = `${$('psf-angle').value}°`
    $('strength-value').textContent = `${$('strength').value} %`
    $('brush-value').textContent = `${$('brush').value} pixels`
    $('brush-field').hidden = this.maskMode === 'all'
    this.changed(what)
  }

  get size() {
    return Number($('psf-size').value) / 10
  }

  get strength() {
    return Number($('strength').value) / 100
  }

  get maskMode() {
    return $('mask-mode').value
  }

  // { size in pixels of the picture on the screen, erase }, or null if nothing is painted.
  get brush() {
    return this.maskMode === 'all' ? null : { size: Number($('brush').value), erase: this.erase }
  }

  get psf() {
    if (this.model.psf !== 'required') return ''
    const form = $('psf-kind').value
    if (form === 'auto') return form
    return `${form}:${this.size}${form === 'motion' ? `,${$('psf-angle').value}` : ''}`
  }

  // The options of the method, for a preview at full strength.
  get method() {
    return { weights: this.model.name, psf: this.psf }
  }

  get options() {
    return { ...this.method, strength: this.strength, strip: $('strip-metadata').checked }
  }
}
