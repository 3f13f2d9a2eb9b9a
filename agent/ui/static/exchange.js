// One request and its answer, as they are on the wire.
import { Problem, send } from './api.js'

/**
 * An answer. cut: the body is longer than what is kept of it.
 * @typedef {{status: number, reason: string, headers: [string, string][], body: Uint8Array<ArrayBuffer>, length: number, cut: boolean, took: number, at: number}} Answer
 */

const longest = 10_000 // milliseconds
const mostKept = 1 << 16 // bytes of a body: a DNS message is no longer

/** Headers that say something of an answer, beside those that begin with disc-. */
const telling = ['content-type', 'content-length', 'cache-control', 'etag', 'retry-after', 'www-authenticate']

/**
 * Sends a request and returns the answer, whatever its status. It throws a Problem where there is none.
 * @param {string} path
 * @param {RequestInit} options
 * @param {AbortSignal} stop
 * @returns {Promise<Answer>}
 */
export async function exchange(path, options, stop) {
  const limit = AbortSignal.timeout(longest)
  const began = performance.now()
  try {
    const answer = await send(path, { ...options, signal: AbortSignal.any([stop, limit]) })
    const { body, cut } = await start(answer)
    const took = performance.now() - began
    const headers = [...answer.headers].filter(([name]) => name.startsWith('disc-') || telling.includes(name)).map(([name, value]) => /** @type {[string, string]} */ ([spelled(name), value]))
    const length = cut ? Number(answer.headers.get('Content-Length') ?? NaN) : body.length
    return { status: answer.status, reason: answer.statusText, headers, body, length, cut, took, at: Date.now() }
  } catch (error) {
    if (stop.aborted) throw error
    if (error instanceof Problem) throw error.status ? error : new Problem(0, `The agent at ${location.host} does not answer.`) // no request of these changes anything
    if (limit.aborted) throw new Problem(0, `The agent at ${location.host} did not answer within ${longest / 1000} s.`)
    throw new Problem(0, `The answer of the agent at ${location.host} broke off.`)
  }
}

/**
 * The beginning of a body. The rest is not read.
 * @param {Response} answer
 */
async function start(answer) {
  const body = new Uint8Array(mostKept)
  let length = 0
  const reader = answer.body?.getReader()
  while (reader) {
    const { done, value } = await reader.read()
    if (done) break
    const fits = value.subarray(0, mostKept - length)
    body.set(fits, length)
    length += fits.length
    if (fits.length < value.length) {
      await reader.cancel()
      return { body, cut: true }
    }
  }
  return { body: body.slice(0, length), cut: false }
}

/**
 * A header as agents write it over HTTP/1.1: Disc-Revision.
 * @param {string} name
 */
const spelled = (name) => name.replace(/(^|-)[a-z]/g, (c) => c.toUpperCase())
