// Requests to the server.

const BUSY_TRIES = 20

let key = sessionStorage.getItem('key') ?? ''

export function useKey(text) {
  key = text.trim()
  sessionStorage.setItem('key', key)
}

export class Refused extends Error {
  constructor(status, text, retryAfter) {
    super(text)
    this.status = status
    this.retryAfter = retryAfter
  }
}

async function ask(path, options = {}) {
  const headers = { ...options.headers, ...(key ? { authorization: `Bearer ${key}` } : {}) }
  const answer = await fetch(path, { ...options, headers })
  if (answer.ok) return answer
  let text = `the server answered ${answer.status}`
  try {
    text = (await answer.json()).error ?? text
  } catch { /* not from this server: the status is all that is known */ }
  throw new Refused(answer.status, text, Number(answer.headers.get('retry-after')) || 0)
}

function form(image, options) {
  const body = new FormData()
  for (const [name, value] of Object.entries(options)) {
    if (value !== undefined && value !== '') body.append(name, value)
  }
  body.append('image', image, image.name ?? 'picture.png')
  return body
}

export const models = async () => (await ask('/v1/models')).json()

// The restored picture, as a Blob.
export async function restore(image, options, signal) {
  return (await ask('/v1/restore', { method: 'POST', body: form(image, options), signal })).blob()
}

// Waits until the server accepts requests; calls `waiting` while it does not.
export async function ready(waiting) {
  for (;;) {
    try {
      return await ask('/readyz')
    } catch (error) {
      if (error.status !== 503) throw error
      waiting()
      await pause(2)
    }
  }
}

const pause = (seconds) => new Promise((go) => setTimeout(go, 1000 * seconds))

// `call`, again after a while if the server is busy.
async function patiently(call, signal) {
  for (let left = BUSY_TRIES; ; left--) {
    try {
      return await call()
    } catch (error) {
      if (error.status !== 503 || !left || signal.aborted) throw error
      await pause(error.retryAfter || 5)
    }
  }
}

// Restores as a job; calls `progress` with each state. Returns { blob, report }.
export async function job(image, options, progress, signal) {
  const send = () => ask('/v1/jobs', { method: 'POST', body: form(image, options), signal })
  const created = await patiently(send, signal)
  const place = `/v1/jobs/${(await created.json()).id}`
  signal.addEventListener('abort', () => ask(place, { method: 'DELETE' }).catch(() => {}))
  let state = { state: 'queued' }
  while (!['done', 'failed'].includes(state.state)) {
    for await (const next of events(`${place}/events`, signal)) {
      state = next
      progress(state)
    }
    if (!['done', 'failed'].includes(state.state)) await pause(1)
  }
  if (state.state === 'failed') throw new Refused(state.status, state.error)
  const blob = await (await ask(`${place}/result`, { signal })).blob()
  return { blob, report: state.report }
}

// The data of server-sent events; EventSource cannot send a key.
async function* events(path, signal) {
  const reader = (await ask(path, { signal })).body.pipeThrough(new TextDecoderStream()).getReader()
  let text = ''
  for (;;) {
    const { value, done } = await reader.read()
    if (done) return
    const parts = (text + value).split('\n\n')
    text = parts.pop()
    for (const part of parts) {
      const line = part.split('\n').find((one) => one.startsWith('data: '))
      if (line) yield JSON.parse(line.slice(6))
    }
  }
}
