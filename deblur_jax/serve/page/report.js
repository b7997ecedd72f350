// The report of a restored picture, in words.

const round = (value, digits) => Number(value.toFixed(digits))

function blurIn(words) {
  const size = round(words.pixels, words.pixels < 10 ? 1 : 0)
  const sure = words.confidence < 0.6 ? ' (a rough estimate)' : ''
  switch (words.blur) {
    case 'motion':
      return `It was blurred by motion, about ${size} pixels at ${round(words.angle, 0)}°${sure}.`
    case 'defocus':
      return `It was out of focus by about ${size} pixels${sure}.`
    case 'sharp':
      return 'It was already sharp.'
    default:
      return 'How it was blurred is unclear.'
  }
}

function gainIn(words) {
  const times = words.sharpness_after / Math.max(words.sharpness_before, 1e-6)
  if (times > 1.05) return `Fine detail is now ${round(times, 1)} times as strong.`
  if (times < 0.95) return 'It is now softer than before.'
  return 'Its sharpness has hardly changed.'
}

const size = (bytes) => bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : `${round(bytes / 1e6, 1)} MB`

export function show(element, report) {
  const parts = report.tiles > 1 ? ` in ${report.tiles} tiles` : ''
  const lines = [
    `${report.width} × ${report.height} pixels, restored with ${report.method}${parts} ` +
      `in ${round(report.seconds, 1)} s (${report.format.toUpperCase()}, ${size(report.bytes)}).`,
    ...(report.understood ? [`Understood: ${report.understood}.`] : []),
    ...(report.diagnosis ? [blurIn(report.diagnosis), gainIn(report.diagnosis)] : []),
  ]
  element.replaceChildren(...lines.map((text) => {
    const line = document.createElement('p')
    line.textContent = text
    return line
  }))
  if (report.notes.length) {
    const list = document.createElement('ul')
    list.append(...report.notes.map((text) => {
      const item = document.createElement('li')
      item.textContent = text
      return item
    }))
    element.append(list)
  }
  element.hidden = false
}
