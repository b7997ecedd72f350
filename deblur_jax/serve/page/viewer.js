// A canvas that shows a picture before and after, with a movable border, zoom and a painted mask.

const MOST_ZOOM = 8

export class Viewer {
  constructor(canvas, changed) {
    this.canvas = canvas
    this.context = canvas.getContext('2d')
    this.changed = changed // called when another part of the picture is shown
    this.before = null // ImageBitmap
    this.layers = [] // what is restored: { image, x, y, alpha }
    this.split = 0.5
    this.scale = 1 // pixels of the canvas for a pixel of the picture
    this.x = this.y = 0 // the pixel of the picture in the middle of the canvas
    this.fitted = true
    this.mask = null // a canvas of the size of the picture, opaque where it is painted
    this.spread = null // a canvas of any size that is drawn over the picture, under the mask
    this.masked = true // whether to draw both
    this.brush = null // { size, erase, color, soft } while painting
    this.pointers = new Map()
    new ResizeObserver(() => this.resize()).observe(canvas)
    for (const name of ['pointerdown', 'pointermove', 'pointerup', 'pointercancel']) {
      canvas.addEventListener(name, (event) => this.point(event))
    }
    canvas.addEventListener('wheel', (event) => this.wheel(event), { passive: false })
    canvas.addEventListener('keydown', (event) => this.press(event))
  }

  show(before) {
    this.before = before
    this.mask = this.spread = null
    this.layers = []
    this.fit()
  }

  resize() {
    const ratio = devicePixelRatio
    this.canvas.width = Math.round(this.canvas.clientWidth * ratio)
    this.canvas.height = Math.round(this.canvas.clientHeight * ratio)
    if (this.fitted) this.fit()
    else this.draw()
  }

  fit() {
    if (!this.before) return this.draw()
    const { width, height } = this.before
    this.fitted = true
    this.scale = Math.min(this.canvas.width / width, this.canvas.height / height, MOST_ZOOM) || 1
    this.move(width / 2 - this.x, height / 2 - this.y)
  }

  // Zooms so that the pixel (x, y) of the canvas stays where it is.
  zoom(scale, x = this.canvas.width / 2, y = this.canvas.height / 2) {
    if (!this.before) return
    const least = Math.min(this.canvas.width / this.before.width,
      this.canvas.height / this.before.height, 1)
    const [px, py] = this.at(x, y)
    this.fitted = false
    this.scale = Math.max(least, Math.min(MOST_ZOOM * devicePixelRatio, scale))
    const [qx, qy] = this.at(x, y)
    this.move(px - qx, py - qy)
  }

  // Moves by pixels of the picture.
  move(dx, dy) {
    this.x = Math.max(0, Math.min(this.before.width, this.x + dx))
    this.y = Math.max(0, Math.min(this.before.height, this.y + dy))
    this.draw()
    this.changed()
  }

  // The pixel of the picture at a pixel of the canvas.
  at(x, y) {
    return [this.x + (x - this.canvas.width / 2) / this.scale,
      this.y + (y - this.canvas.height / 2) / this.scale]
  }

  // The middle of the view, at most `side` pixels wide and high: { canvas, x, y }.
  middle(side) {
    const { width, height } = this.before
    const canvas = new OffscreenCanvas(Math.min(side, width), Math.min(side, height))
    const start = (place, part, whole) =>
      Math.round(Math.max(0, Math.min(whole - part, place - part / 2)))
    const [x, y] = [start(this.x, canvas.width, width), start(this.y, canvas.height, height)]
    canvas.getContext('2d').drawImage(this.before, -x, -y)
    return { canvas, x, y }
  }

  draw() {
    if (this.waiting) return
    this.waiting = requestAnimationFrame(() => {
      this.waiting = 0
      this.paintAll()
    })
  }

  paintAll() {
    const { context, canvas, scale, before } = this
    context.setTransform(1, 0, 0, 1, 0, 0)
    context.clearRect(0, 0, canvas.width, canvas.height)
    if (!before) return
    context.setTransform(scale, 0, 0, scale,
      canvas.width / 2 - this.x * scale, canvas.height / 2 - this.y * scale)
    context.imageSmoothingEnabled = scale < 2
    context.drawImage(before, 0, 0)
    const border = this.at(this.split * canvas.width, 0)[0]
    if (this.layers.length) {
      context.save()
      context.beginPath()
      context.rect(border, 0, Math.max(before.width - border, 0), before.height)
      context.clip()
      for (const { image, x, y, alpha } of this.layers) {
        context.globalAlpha = alpha
        context.drawImage(image, x, y)
      }
      context.restore()
    }
    if (this.masked) this.drawMask()
    if (this.layers.length) this.drawBorder()
  }

  drawMask() {
    const { context, before } = this
    context.globalAlpha = 0.45
    if (this.spread) context.drawImage(this.spread, 0, 0, before.width, before.height)
    if (!this.brush?.soft) context.globalAlpha = 1
    if (this.mask) context.drawImage(this.mask, 0, 0)
    context.globalAlpha = 1
  }

  drawBorder() {
    const { context, canvas } = this
    const x = this.split * canvas.width
    const unit = devicePixelRatio
    context.setTransform(1, 0, 0, 1, 0, 0)
    context.fillStyle = 'rgba(0,0,0,.5)'
    context.fillRect(x - 1.5 * unit, 0, 3 * unit, canvas.height)
    context.fillStyle = '#fff'
    context.fillRect(x - 0.75 * unit, 0, 1.5 * unit, canvas.height)
    context.beginPath()
    context.arc(x, canvas.height / 2, 9 * unit, 0, 2 * Math.PI)
    context.fill()
  }

  place(event) {
    const box = this.canvas.getBoundingClientRect()
    return [(event.clientX - box.left) * devicePixelRatio,
      (event.clientY - box.top) * devicePixelRatio]
  }

  point(event) {
    if (!this.before) return
    const [x, y] = this.place(event)
    if (event.type === 'pointerdown') {
      this.canvas.setPointerCapture(event.pointerId)
      this.pointers.set(event.pointerId, [x, y])
      const near = Math.abs(x - this.split * this.canvas.width) < 16 * devicePixelRatio
      this.splitting = near && this.layers.length > 0 && this.pointers.size === 1
      if (this.brush && !this.splitting) this.paint(...this.at(x, y))
      return
    }
    const last = this.pointers.get(event.pointerId)
    if (!last) return
    if (event.type !== 'pointermove') {
      this.pointers.delete(event.pointerId)
      return
    }
    this.pointers.set(event.pointerId, [x, y])
    if (this.pointers.size === 2) this.pinch(event.pointerId, last, [x, y])
    else if (this.splitting) this.setSplit(x / this.canvas.width)
    else if (this.brush) this.stroke(this.at(...last), this.at(x, y))
    else {
      this.fitted = false
      this.move((last[0] - x) / this.scale, (last[1] - y) / this.scale)
    }
  }

  pinch(id, last, now) {
    const [other] = [...this.pointers].filter(([one]) => one !== id).map(([, place]) => place)
    const distance = (place) => Math.hypot(place[0] - other[0], place[1] - other[1]) || 1
    this.zoom(this.scale * distance(now) / distance(last), ...other)
  }

  wheel(event) {
    event.preventDefault()
    this.zoom(this.scale * 1.0015 ** -event.deltaY, ...this.place(event))
  }

  setSplit(share) {
    this.split = Math.max(0, Math.min(1, share))
    this.canvas.dispatchEvent(new Event('split'))
    this.draw()
  }

  press(event) {
    const step = 60 / this.scale
    const keys = {
      ArrowLeft: () => this.move(-step, 0),
      ArrowRight: () => this.move(step, 0),
      ArrowUp: () => this.move(0, -step),
      ArrowDown: () => this.move(0, step),
      '+': () => this.zoom(this.scale * 1.25),
      '=': () => this.zoom(this.scale * 1.25),
      '-': () => this.zoom(this.scale / 1.25),
      0: () => this.fit(),
      1: () => this.zoom(devicePixelRatio),
      ' ': () => this.brush && this.paint(this.x, this.y),
    }
    if (!this.before || !keys[event.key] || event.ctrlKey || event.metaKey) return
    event.preventDefault()
    keys[event.key]()
  }

  stroke(from, to) {
    const length = Math.hypot(to[0] - from[0], to[1] - from[1])
    const count = Math.ceil(length / (this.brush.size / 6)) || 1
    for (let i = 1; i <= count; i++) {
      this.paint(from[0] + (to[0] - from[0]) * i / count, from[1] + (to[1] - from[1]) * i / count)
    }
  }

  clearMask() {
    this.mask.getContext('2d').clearRect(0, 0, this.mask.width, this.mask.height)
    this.draw()
  }

  // One dab of the brush.
  paint(x, y) {
    const context = this.mask.getContext('2d')
    const radius = this.brush.size / 2
    const { color, soft, erase } = this.brush
    const dab = context.createRadialGradient(x, y, radius * (soft ? 0.6 : 0.999), x, y, radius)
    dab.addColorStop(0, `rgba(${color},1)`)
    dab.addColorStop(1, `rgba(${color},0)`)
    context.globalCompositeOperation = erase ? 'destination-out' : 'source-over'
    context.fillStyle = dab
    context.fillRect(x - radius, y - radius, 2 * radius, 2 * radius)
    this.draw()
    this.canvas.dispatchEvent(new Event('paint'))
  }
}
