// The page: pictures, the view of the current one, and its restoration.

import * as api from './api.js'
import { Candidates } from './candidates.js'
import { Controls } from './controls.js'
import { Example } from './example.js'
import * as local from './local.js'
import * as mask from './mask.js'
import * as report from './report.js'
import { Viewer } from './viewer.js'

const PREVIEW_SIDE = 512
const LOCAL_PREVIEW_SIDE = 320 // a browser computes more slowly
const PREVIEW_WAIT = 350 // milliseconds after the last change
const SPREAD_WAIT = 150

const $ = (id) => document.getElementById(id)
const items = [] // { file, before, masks, result: { blob, url, image, report, strength } }
let current = null
let running = null // the AbortController of the restoration
let previewing = null
let previewTimer = 0
let spreadTimer = 0

const controls = new Controls((what) => {
  if (!current) return
  setBrush()
  if (what === 'method' || what === 'mask') forget()
  if (what === 'mask' && current.before) spreadSoon()
  if (what === 'strength') draw()
  if (what === 'method') previewSoon()
})
const viewer = new Viewer($('view'), previewSoon)
const backend = () => controls.local ? local : api

for (const Part of [Candidates, Example]) {
  new Part(controls, (side) => viewer.middle(side), (...given) => backend().restore(...given))
}

function say(text, bad = false) {
  $('status').textContent = text
  $('status').classList.toggle('bad', bad)
}

function complain(error) {
  if (error.name === 'AbortError') return
  if (error.status === 401) $('key-form').hidden = false
  say(error.message.charAt(0).toUpperCase() + error.message.slice(1) + '.', true)
}

async function start() {
  try {
    const found = await api.models()
    controls.setServer(found)
    controls.setOwn(local.models(found.browser))
    $('key-form').hidden = true
    await api.ready(() => say('The server is starting …'))
    say('')
    previewSoon()
  } catch (error) {
    complain(error)
  }
}

// Pictures.

async function add(files) {
  const first = items.length
  for (const file of [...files]) { // the list itself is emptied meanwhile
    const item = { file, before: null, masks: null, result: null }
    try {
      item.before = await createImageBitmap(file)
      item.masks = mask.blank(item.before)
    } catch { /* a format that browsers do not show */ }
    items.push(item)
  }
  if (items.length > first) choose(items[first])
}

function choose(item) {
  current = item
  $('drop').hidden = true
  for (const id of ['work', 'controls']) $(id).hidden = false
  $('strip').hidden = items.length < 2
  $('restore-all').hidden = items.length < 2
  $('strip').replaceChildren(...items.map((one, i) => {
    const button = document.createElement('button')
    button.type = 'button'
    button.textContent = (one.result ? '✓ ' : '') + (one.file.name || `picture ${i + 1}`)
    button.setAttribute('aria-pressed', String(one === item))
    button.addEventListener('click', () => choose(one))
    return button
  }))
  $('no-view').hidden = Boolean(item.before)
  $('paint').hidden = $('compare').hidden = $('example').hidden = !item.before
  viewer.show(item.before)
  setBrush()
  if (item.before) spreadSoon()
  showResult()
  previewSoon()
}

function forget() {
  if (!current.result) return
  URL.revokeObjectURL(current.result.url)
  current.result = null
  showResult()
}

function showResult() {
  const { result, file } = current
  $('download').hidden = !result
  $('report').hidden = !result
  if (result) {
    $('download').href = result.url
    $('download').download = resultName(file.name || 'picture.png', result.report.format)
    report.show($('report'), result.report)
  }
  draw()
}

function resultName(name, format) {
  const suffix = { jpeg: 'jpg', heif: 'avif', tiff: 'tif' }[format] ?? format
  return `${name.replace(/\.[^.]*$/, '')}_restored.${suffix}`
}

function draw() {
  const { result, preview } = current
  viewer.layers = []
  viewer.masked = !result // it would hide what has changed
  if (result?.image) {
    const alpha = result.strength ? Math.min(1, controls.strength / result.strength) : 1
    viewer.layers.push({ image: result.image, x: 0, y: 0, alpha })
  } else if (preview) {
    viewer.layers.push({ ...preview, alpha: controls.strength })
  }
  const outdated = result && result.strength !== controls.strength
  $('restore').textContent = outdated ? 'Restore with this strength' : 'Restore'
  $('after-tag').hidden = !viewer.layers.length
  viewer.draw()
}

// The mask.

function setBrush() {
  const brush = controls.brush
  viewer.brush = brush && { ...brush, size: brush.size * devicePixelRatio / viewer.scale }
  viewer.mask = brush && current.masks?.[controls.maskMode === 'scribble' ? 'strokes' : 'painted']
  $('view').classList.toggle('painting', Boolean(brush))
  viewer.draw()
}

// Spreads the strokes again, once the pointer has rested.
function spreadSoon() {
  clearTimeout(spreadTimer)
  spreadTimer = setTimeout(() => {
    viewer.spread = controls.maskMode === 'scribble' ? mask.shown(current) : null
    viewer.draw()
  }, SPREAD_WAIT)
}

// Restoring.

function previewSoon() {
  clearTimeout(previewTimer)
  previewing?.abort()
  if (!current) return
  setBrush()
  if (!current.before || current.result || running || !$('live').checked) return
  previewTimer = setTimeout(preview, PREVIEW_WAIT)
}

async function preview() {
  const item = current
  const { canvas, x, y } = viewer.middle(controls.local ? LOCAL_PREVIEW_SIDE : PREVIEW_SIDE)
  const asked = previewing = new AbortController()
  try {
    say('Previewing the middle …')
    const image = await canvas.convertToBlob({ type: 'image/png' })
    const options = { ...controls.method, diagnose: false }
    const restored = await backend().restore(image, options, asked.signal)
    item.preview = { image: await createImageBitmap(restored), x, y }
    say('This is a preview of the middle. Restore does the whole picture.')
    if (item === current) draw()
  } catch (error) {
    complain(error)
  }
}

async function restore(todo) {
  clearTimeout(previewTimer)
  previewing?.abort()
  running = new AbortController()
  setRunning(true)
  try {
    for (const [i, item] of todo.entries()) {
      const of = todo.length > 1 ? ` ${i + 1} of ${todo.length}` : ''
      await restoreOne(item, of)
      choose(item)
    }
    say(todo.length > 1 ? `Restored ${todo.length} pictures.` : 'Restored.')
  } catch (error) {
    if (error.name === 'AbortError') say('Cancelled.')
    complain(error)
  } finally {
    running = null
    setRunning(false)
  }
}

async function restoreOne(item, of) {
  say(controls.local ? `Restoring${of} …` : `Sending${of} …`)
  $('progress').removeAttribute('value')
  const options = { ...controls.options, mask: await mask.file(item, controls.maskMode) }
  const { blob, report: found } = await backend().job(item.file, options, (state) => {
    if (state.state === 'queued') say(`Waiting for other pictures${of} …`)
    if (state.state === 'running') say(`Restoring${of} …`)
    if (state.tiles > 1) $('progress').value = state.progress
  }, running.signal)
  item.preview = null
  item.result = {
    blob,
    report: found,
    strength: options.strength,
    url: URL.createObjectURL(blob),
    image: item.before && await createImageBitmap(blob).catch(() => null),
  }
}

function setRunning(now) {
  $('progress').hidden = $('cancel').hidden = !now
  for (const id of ['restore', 'restore-all', 'local']) $(id).disabled = now
}

// Events.

const listen = (id, name, call) => $(id).addEventListener(name, call)

for (const id of ['open', 'choose']) listen(id, 'click', () => $('file').click())
listen('file', 'change', () => {
  add($('file').files)
  $('file').value = ''
})
listen('restore', 'click', () => restore([current]))
listen('restore-all', 'click', () => restore(items))
listen('cancel', 'click', () => running?.abort())
listen('live', 'change', previewSoon)
listen('clear', 'click', () => {
  viewer.clearMask()
  forget()
  spreadSoon()
})
listen('split', 'input', () => viewer.setSplit($('split').value / 1000))
listen('view', 'split', () => { $('split').value = Math.round(viewer.split * 1000) })
listen('view', 'paint', () => {
  forget()
  spreadSoon()
})
listen('fit', 'click', () => viewer.fit())
listen('full', 'click', () => viewer.zoom(devicePixelRatio))
listen('zoom-in', 'click', () => viewer.zoom(viewer.scale * 1.5))
listen('zoom-out', 'click', () => viewer.zoom(viewer.scale / 1.5))
listen('key-form', 'submit', (event) => {
  event.preventDefault()
  api.useKey($('key').value)
  start()
})
addEventListener('paste', (event) => {
  if (event.clipboardData.files.length) add(event.clipboardData.files)
})
addEventListener('dragover', (event) => {
  event.preventDefault()
  document.body.classList.add('over')
})
addEventListener('dragleave', (event) => {
  if (!event.relatedTarget) document.body.classList.remove('over')
})
addEventListener('drop', (event) => {
  event.preventDefault()
  document.body.classList.remove('over')
  add(event.dataTransfer.files)
})
controls.setOwn(local.models(null))
start()
