// Server-sent events (WHATWG HTML standard, section 9.2) over fetch, which unlike EventSource can
// show a token and tells why the agent refuses.
import { ask, Problem } from './api.js'

/** The agent sends a sign of life every 15 s. */
const silence = 40_000

/**
 * Yields the events of a stream until it ends. It throws a Problem for a stream that is refused or
 * breaks off.
 * @param {string} path
 * @param {string} lastID  of the last event that was seen; "": none
 * @param {AbortSignal} stop
 * @returns {AsyncGenerator<{type: string, data: string, id: string}>}
 */
export async function* events(path, lastID, stop) {
  const quiet = new AbortController()
  const signal = AbortSignal.any([stop, quiet.signal])
  let timer = setTimeout(() => quiet.abort(), silence)
  try {
    /** @type {Record<string, string>} */
    const headers = { Accept: 'text/event-stream' }
    if (lastID) headers['Last-Event-ID'] = lastID
    const answer = await ask(path, { headers, signal }, 0)
    if (!answer.body) return
    yield { type: 'open', data: '', id: lastID }
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader()
    const parser = new Parser(lastID)
    for (;;) {
      const { done, value } = await reader.read()
      if (done) return
      clearTimeout(timer)
      timer = setTimeout(() => quiet.abort(), silence)
      yield* parser.push(value)
    }
  } catch (error) {
    if (error instanceof Problem || stop.aborted) throw error
    throw new Problem(0, `The connection to the agent at ${location.host} broke off.`)
  } finally {
    clearTimeout(timer)
    quiet.abort() // ends the request of a reader that stops early
  }
}

/** Makes events of text that comes in pieces. A piece may end anywhere. */
export class Parser {
  /** @param {string} id  of the last event before */
  constructor(id) {
    this.id = id
    this.type = ''
    /** @type {string[]} */
    this.data = []
    /** @type {string[]} */
    this.rest = [] // of a line that has not ended; a line of data may have megabytes
  }

  /** @param {string} text */
  *push(text) {
    let start = 0
    for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n', start)) {
      this.rest.push(text.slice(start, end))
      const line = this.rest.length === 1 ? this.rest[0] : this.rest.join('')
      this.rest = []
      start = end + 1
      const event = this.line(line)
      if (event) yield event
    }
    if (start < text.length) this.rest.push(text.slice(start))
  }

  /**
   * Takes a line in. It returns the event that the line ends.
   * @param {string} line
   */
  line(line) {
    if (line === '') {
      const event = this.data.length ? { type: this.type || 'message', data: this.data.join('\n'), id: this.id } : null
      this.type = ''
      this.data = []
      return event ?? { type: 'id', data: '', id: this.id }
    }
    const colon = line.indexOf(':')
    const field = colon < 0 ? line : line.slice(0, colon)
    const value = colon < 0 ? '' : line.slice(colon + (line[colon + 1] === ' ' ? 2 : 1))
    if (field === 'id') this.id = value
    else if (field === 'event') this.type = value
    else if (field === 'data') this.data.push(value)
    return null
  }
}
