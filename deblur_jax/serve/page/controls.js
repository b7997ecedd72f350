// The controls: where to compute, method, strength, PSF, mask and brush, as options of a request.

import { COLORS } from './mask.js'

const $ = (id) => document.getElementById(id)

const SIZES = { motion: ['Length', 10, 400], disk: ['Radius', 10, 150], gaussian: ['Sigma', 5, 80] }

const KINDS = ['sharpen', 'leave', 'erase']

const WORDS = {
  network: 'A neural network; needs to know nothing about the blur.',
  required: 'A classical method; needs to know the blur.',
  none: 'A classical method for mild blur.',
}

export class Controls {
  // `changed` is called with 'method', 'strength', 'mask' or 'brush'.
  constructor(changed) {
    this.changed = changed
    this.served = [] // the methods of the server
    this.own = [] // and of this browser
    this.serverText = 'Pictures are sent to this server to be restored.'
    this.stroke = 'sharpen' // one of KINDS
    $('local').checked = localStorage.getItem('local') === 'yes'
    $('local').addEventListener('change', () => {
      localStorage.setItem('local', $('local').checked ? 'yes' : 'no')
      this.list()
    })
    $('method').addEventListener('change', () => this.update('method'))
    $('prompt').addEventListener('change', () => this.update('method'))
    $('psf-kind').addEventListener('change', () => this.setKind())
    $('strength').addEventListener('input', () => this.update('strength'))
    for (const id of ['psf-size', 'psf-angle']) {
      $(id).addEventListener('input', () => this.update('method'))
    }
    $('mask-mode').addEventListener('change', () => this.update('mask'))
    $('brush').addEventListener('input', () => this.update('brush'))
    for (const kind of KINDS) {
      $(kind).addEventListener('click', () => {
        this.stroke = this.stroke === kind && kind === 'erase' ? 'sharpen' : kind
        this.update('brush')
      })
    }
  }

  // What the server offers, as `GET /v1/models` says.
  setServer({ models, limits }) {
    this.served = models
    $('limits').textContent = `, up to ${limits.megabytes} MB and ${limits.megapixels} megapixels`
    this.serverText = 'Pictures are sent to this server to be restored; results are ' +
      `deleted after ${limits.keep_hours} hours.`
    this.list()
  }

  setOwn(models) {
    this.own = models
    this.list()
  }

  // Lists the methods of the server or of this browser.
  list() {
    const before = $('method').value
    $('method').replaceChildren(...this.models.map(({ name, kind }) => {
      const option = document.createElement('option')
      option.value = name
      option.textContent = name.replaceAll('_', ' ') + (kind === 'network' ? '' : ' (classical)')
      return option
    }))
    if (this.models.some(({ name }) => name === before)) $('method').value = before
    $('where').textContent = this.local
      ? 'Pictures stay on this machine: everything is computed in this browser, nothing is sent.'
      : this.serverText
    $('psf-auto').disabled = $('psf-auto').hidden = this.local
    if (this.local && $('psf-kind').value === 'auto') $('psf-kind').value = 'motion'
    $('strip-field').hidden = this.local // its results have no metadata
    this.setKind()
  }

  // Whether to compute in this browser.
  get local() {
    return $('local').checked
  }

  get models() {
    return this.local ? this.own : this.served
  }

  get model() {
    return this.models[$('method').selectedIndex] ?? { name: '', kind: 'network', psf: 'none' }
  }

  setKind() {
    const [name, least, most] = SIZES[this.form] ?? []
    if (name) {
      $('psf-size-name').textContent = name
      $('psf-size').min = least
      $('psf-size').max = most
    }
    this.update('method')
  }

  update(what) {
    const { kind, psf } = this.model
    const { form } = this
    $('method-help').textContent = WORDS[kind === 'network' ? 'network' : psf]
    $('psf').hidden = psf !== 'required'
    $('prompt-field').hidden = this.local || kind !== 'network'
    $('psf-size-field').hidden = form === 'auto'
    $('psf-angle-field').hidden = form !== 'motion'
    $('psf-size-value').textContent = `${this.size} pixels`
    $('psf-angle-value').textContent = `${$('psf-angle').value}°`
    $('strength-value').textContent = `${$('strength').value} %`
    $('brush-value').textContent = `${$('brush').value} pixels`
    $('brush-field').hidden = this.maskMode === 'all'
    $('stroke-help').hidden = $('sharpen').hidden = $('leave').hidden = this.maskMode !== 'scribble'
    if (this.maskMode !== 'scribble' && this.stroke === 'leave') this.stroke = 'sharpen'
    for (const kind of KINDS) $(kind).setAttribute('aria-pressed', String(this.stroke === kind))
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

  // { size in pixels of the picture on the screen, erase, color, soft }, or null.
  get brush() {
    if (this.maskMode === 'all') return null
    const [erase, soft] = [this.stroke === 'erase', this.maskMode !== 'scribble']
    const color = COLORS[this.stroke] ?? COLORS.sharpen
    return { size: Number($('brush').value), erase, color, soft }
  }

  // What to do, in words; a classical method has one thing that it can do.
  promptFor({ kind }) {
    return this.local || kind !== 'network' ? '' : $('prompt').value.trim()
  }

  get form() {
    return $('psf-kind').value
  }

  get psf() {
    return this.form === 'auto' ? 'auto' : this.psfOf(this.size)
  }

  // The text of a PSF of this size in pixels, as far as the control can be set to it.
  psfOf(size) {
    const { min, max } = $('psf-size')
    const tenths = Math.max(min, Math.min(max, Math.round(10 * size)))
    return `${this.form}:${tenths / 10}${this.form === 'motion' ? `,${$('psf-angle').value}` : ''}`
  }

  // The options of the method, for a preview at full strength.
  get method() {
    const { name, psf, default: first } = this.model
    const prompt = this.promptFor(this.model)
    // Words choose among the networks, unless another one than the first was chosen.
    return { weights: prompt && first ? '' : name, psf: psf === 'required' ? this.psf : '', prompt }
  }

  // Sets method, PSF and strength.
  set({ weights, psf, strength }) {
    if (weights) $('method').value = weights
    $('strength').value = Math.round(100 * strength)
    if (psf) {
      const [form, size, angle] = psf.split(/[:,]/)
      $('psf-kind').value = form
      $('psf-size').value = 10 * size
      if (angle) $('psf-angle').value = angle
    }
    this.setKind()
  }

  get options() {
    return { ...this.method, strength: this.strength, strip: $('strip-metadata').checked }
  }
}
