// The page: pictures, the view of the current one, and its restoration.

import * as api from './api.js'
import { Controls } from './controls.js'
import * as local from './local.js'
import * as report from './report.js'
import { Viewer } from './viewer.js'

const PREVIEW_SIDE = 512
const LOCAL_PREVIEW_SIDE = 320 // a browser computes more slowly
const PREVIEW_WAIT = 350 // milliseconds after the last change

const $ = (id) => document.getElementById(id)
const items = [] // { file, before, mask, result: { blob, url, image, report, strength } }
let current = null
let running = null // the AbortController of the restoration
let previewing = null
let previewTimer = 0

const controls = new Controls((what) => {
  if (!current) return
  setBrush()
  if (what === 'method' || what === 'mask') forget()
  if (what === 'strength') draw()
  if (what === 'method') previewSoon()
})
const viewer = new Viewer($('view'), previewSoon)
const backend = () => controls.local ? local : api

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
    const item = { file, before: null, mask: null, result: null }
    try {
      item.before = await createImageBitmap(file)
      item.mask = new OffscreenCanvas(item.before.width, item.before.height)
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
  $('paint').hidden = !item.before
  viewer.show(item.before, item.mask)
  setBrush()
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
  viewer.mask = brush && current.mask
  $('view').classList.toggle('painting', Boolean(brush))
  viewer.draw()
}

async function maskFile(item) {
  if (controls.maskMode === 'all' || !item.mask) return undefined
  const { width, height } = item.mask
  const canvas = new OffscreenCanvas(width, height)
  const context = canvas.getContext('2d')
  const except = controls.maskMode === 'except'
  context.drawImage(item.mask, 0, 0)
  context.globalCompositeOperation = 'source-in' // the color of what is painted
  context.fillStyle = except ? '#000' : '#fff'
  context.fillRect(0, 0, width, height)
  context.globalCompositeOperation = 'destination-over' // and of the rest
  context.fillStyle = except ? '#fff' : '#000'
  context.fillRect(0, 0, width, height)
  return canvas.convertToBlob({ type: 'image/png' })
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
  const { before } = item
  const side = controls.local ? LOCAL_PREVIEW_SIDE : PREVIEW_SIDE
  const width = Math.min(side, before.width)
  const height = Math.min(side, before.height)
  const x = Math.round(Math.max(0, Math.min(before.width - width, viewer.x - width / 2)))
  const y = Math.round(Math.max(0, Math.min(before.height - height, viewer.y - height / 2)))
  const crop = new OffscreenCanvas(width, height)
  crop.getContext('2d').drawImage(before, -x, -y)
  const asked = previewing = new AbortController()
  try {
    say('Previewing the middle …')
    const image = await crop.convertToBlob({ type: 'image/png' })
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
  const options = { ...controls.options, mask: await maskFile(item) }
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
  current.mask.getContext('2d').clearRect(0, 0, current.mask.width, current.mask.height)
  forget()
  viewer.draw()
})
listen('split', 'input', () => viewer.setSplit($('split').value / 1000))
listen('view', 'split', () => { $('split').value = Math.round(viewer.split * 1000) })
listen('view', 'paint', forget)
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
