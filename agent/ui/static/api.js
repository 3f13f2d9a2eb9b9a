// Requests to the agent that the page comes from.
import { signal } from './html.js'

const stored = 'disc-token'

/** The token that the reader gave; "": none. It is in no URL, and kept only where the reader says so. */
export const token = signal(sessionStorage.getItem(stored) ?? '')

/**
 * @param {string} value
 * @param {boolean} keep  until the tab is closed, also when the page is loaded again
 */
export function useToken(value, keep) {
  token.value = value.trim()
  if (keep && token.value) sessionStorage.setItem(stored, token.value)
  else sessionStorage.removeItem(stored)
}

/** An answer that is no success, or none at all (status 0). The message is for the reader. */
export class Problem extends Error {
  /**
   * @param {number} status
   * @param {string} message
   */
  constructor(status, message) {
    super(message)
    this.status = status
  }

  /** Whether another token may help. */
  get denied() {
    return this.status === 401 || this.status === 403
  }

  /** Whether the same request has the same answer again: it takes another token, or asks for too much. */
  get final() {
    return this.denied || this.status === 400
  }
}

/**
 * The problem that an error is. One that is none is a fault of the page itself.
 * @param {unknown} error
 */
export function asProblem(error) {
  if (error instanceof Problem) return error
  console.error(error)
  return new Problem(0, `The page failed: ${error}`)
}

/**
 * The time before a request that has failed is sent again, in milliseconds.
 * @param {number} failures  in a row before this one
 */
export const retryTime = (failures) => Math.min(10_000, 500 * 2 ** failures)

/**
 * What index.html has the browser ask for while this module comes. It gives the answers to the first
 * who ask. They are without a token.
 */
const early = new Set(['/v1/watch', '/v1/agent', '/v1/nodes'])

/** How long an answer may take, in milliseconds. */
const longest = 30_000

/**
 * Sends a request and returns the answer, whatever its status, or throws a Problem where there is none.
 * @param {string} path
 * @param {RequestInit} [options]
 * @param {number} [limit]  of the time for the whole answer; 0: the options have a signal that ends it
 */
export async function send(path, options = {}, limit = longest) {
  const headers = new Headers(options.headers)
  if (/[^\x21-\x7e]/.test(token.value)) throw new Problem(401, 'the token has a character that no token has')
  if (token.value) headers.set('Authorization', `Bearer ${token.value}`)
  const ends = [options.signal, limit > 0 && AbortSignal.timeout(limit)].filter((s) => s instanceof AbortSignal)
  const request = () => fetch(path, { cache: 'no-store', ...options, headers, signal: AbortSignal.any(ends) })
  try {
    const answer = await request()
    return early.delete(path) && token.value && !answer.ok ? await request() : answer
  } catch (error) {
    if (options.signal?.aborted) throw error
    const late = error instanceof DOMException && error.name === 'TimeoutError'
    const open = options.method && options.method !== 'HEAD' ? ' Whether it did what it was asked is not known.' : ''
    throw new Problem(0, `The agent at ${location.host} ${late ? `did not answer within ${limit / 1000} s` : 'does not answer'}.${open}`)
  }
}

/**
 * Sends a request and returns the answer, or throws a Problem.
 * @param {string} path
 * @param {RequestInit} [options]
 * @param {number} [limit]  as send has it
 */
export async function ask(path, options, limit) {
  const answer = await send(path, options, limit)
  if (answer.ok || answer.status === 304) return answer
  throw new Problem(answer.status, await detailOf(answer))
}

/**
 * Returns what an answer has as JSON.
 * @param {string} path
 * @param {RequestInit} [options]
 * @returns {Promise<any>}
 */
export async function askJSON(path, options) {
  return jsonOf(await ask(path, options), options?.signal)
}

/**
 * What an answer has as JSON. It throws a Problem where the answer breaks off.
 * @param {Response} answer
 * @param {AbortSignal | null} [signal]  of the request
 * @returns {Promise<any>}
 */
export const jsonOf = (answer, signal) => whole(answer, () => answer.json(), signal)

/**
 * What an answer has as text. It throws a Problem where the answer breaks off.
 * @param {Response} answer
 * @param {AbortSignal | null} [signal]  of the request
 */
export const bodyOf = (answer, signal) => whole(answer, () => answer.text(), signal)

/**
 * @template T
 * @param {Response} answer
 * @param {() => Promise<T>} read
 * @param {AbortSignal | null} [signal]
 */
async function whole(answer, read, signal) {
  try {
    return await read()
  } catch (error) {
    if (signal?.aborted) throw error
    throw new Problem(0, `The answer of the agent at ${location.host} to ${new URL(answer.url).pathname} broke off.`)
  }
}

/**
 * The sentence of a problem (RFC 9457).
 * @param {Response} answer
 */
async function detailOf(answer) {
  const plain = `The agent at ${location.host} answered ${answer.status} ${answer.statusText}.`
  try {
    const problem = JSON.parse(await answer.text())
    return typeof problem.detail === 'string' ? problem.detail : plain
  } catch {
    return plain
  }
}

/**
 * The path of an instance.
 * @param {string} service
 * @param {string} id
 */
export function instancePath(service, id) {
  return `/v1/services/${encodeURIComponent(service)}/instances/${encodeURIComponent(id)}`
}
