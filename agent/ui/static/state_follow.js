// What the views of shared state show: answers that are kept up to date while the reader looks. On an
// error what was answered last stays.
import { ask, asProblem, bodyOf, Problem, retryTime, token } from './api.js'
import { events } from './events.js'
import { batch, useEffect, useRef, useSignal } from './html.js'
import { seen, stopWhenHidden } from './seen.js'

/**
 * What was answered last, and what is wrong since. at: when it was answered, in milliseconds.
 * @template T
 * @typedef {{value: T | null, at: number, problem: Problem | null}} Answered
 */

/** @typedef {import('../types.js').KVItem} KVItem */

const timeout = 12_000 // of a request, without the time that it is to wait
const waitTime = 15_000 // for a change
const most = 30_000 // between two requests

/**
 * Keeps an answer of JSON up to date. The agent says when it has changed, where waits is true;
 * otherwise it is asked again and again, less often where it takes long.
 * @template T
 * @param {string} path
 * @param {{every: number, waits?: boolean}} how
 * @returns {Answered<T>}
 */
export function useAnswer(path, { every, waits = false }) {
  const state = useSignal(/** @type {Answered<T>} */ ({ value: null, at: 0, problem: null }))
  const given = token.value
  const asked = useRef(given) // the token that the problem is of
  useEffect(() => {
    let index = ''
    let text = ''
    let cost = 0 // of an answer, in milliseconds
    asked.current = given
    state.value = { ...state.peek(), problem: null }
    return repeatedly(async (stop) => {
      const began = Date.now()
      const url = index ? `${path}${path.includes('?') ? '&' : '?'}index=${index}&wait=${waitTime}ms` : path
      const answer = await ask(url, { signal: stop, headers: { Accept: 'application/json' } })
      const next = await bodyOf(answer, stop)
      if (!index) cost = Date.now() - began
      if (waits) index = answer.headers.get('Disc-Index') ?? ''
      const { value } = state.peek()
      state.value = { value: next === text && value !== null ? value : JSON.parse(next), at: Date.now(), problem: null }
      text = next
      return Math.min(most, Math.max(every, 10 * cost))
    }, timeout + (waits ? waitTime : 0), (problem) => {
      index = ''
      state.value = { ...state.peek(), problem }
    })
  }, [path, given])
  return asked.current === given ? state.value : { ...state.value, problem: null }
}

/**
 * A key as its events tell. item: its last value; deleted: the revision of its deletion, 0 while it is there.
 * @typedef {{known: boolean, item: KVItem | null, deleted: number, problem: Problem | null}} Followed
 */

/**
 * Follows the changes of a key.
 * @param {string} path  of the key; "": none
 * @returns {Followed}
 */
export function useKey(path) {
  const state = useSignal(/** @type {Followed} */ ({ known: false, item: null, deleted: 0, problem: null }))
  const given = token.value
  const asked = useRef(given) // the token that the problem is of
  useEffect(() => {
    if (!path) return
    let lastID = ''
    asked.current = given
    state.value = { ...state.peek(), problem: null }
    return repeatedly(async (stop, answered) => {
      for await (const event of events(path, lastID, stop)) {
        lastID = event.id
        answered()
        if (event.type !== 'open' && event.type !== 'id') state.value = apply(state.peek(), event.type, JSON.parse(event.data))
        else if (state.peek().problem) state.value = { ...state.peek(), problem: null }
      }
      throw new Problem(0, `The agent at ${location.host} ended the connection.`)
    }, 0, (problem) => {
      state.value = { ...state.peek(), problem }
    })
  }, [path, given])
  return asked.current === given ? state.value : { ...state.value, problem: null }
}

/**
 * @param {Followed} before
 * @param {string} type
 * @param {{revision: number, item?: KVItem, items?: KVItem[]}} event
 * @returns {Followed}
 */
function apply(before, type, event) {
  const item = type === 'reset' ? event.items?.[0] : type === 'put' ? event.item : undefined
  if (item) return { known: true, item, deleted: 0, problem: null }
  return { known: true, item: before.item, deleted: before.deleted || event.revision, problem: null }
}

/**
 * Calls f again and again while the page is seen, until the function that it returns is called. f
 * returns the time until the next call. After a failure that time grows, and after one that is final
 * there is no other call.
 * @param {(stop: AbortSignal, answered: () => void) => Promise<number>} f
 * @param {number} timeout  of a call; 0: none
 * @param {(problem: Problem) => void} failed
 */
function repeatedly(f, timeout, failed) {
  const end = new AbortController()
  const run = async () => {
    for (let failures = 0; !end.signal.aborted; ) {
      await seen(end.signal)
      const hidden = new AbortController()
      const unwatch = stopWhenHidden(hidden)
      const late = timeout ? AbortSignal.timeout(timeout) : hidden.signal
      let pause = 0
      try {
        pause = await f(AbortSignal.any([end.signal, hidden.signal, late]), () => (failures = 0))
        failures = 0
      } catch (error) {
        if (end.signal.aborted) return
        if (!hidden.signal.aborted) {
          const problem = late.aborted && !(error instanceof Problem) ? new Problem(0, `The agent at ${location.host} has not answered within ${timeout / 1000} s.`) : asProblem(error)
          batch(() => failed(problem))
          if (problem.final) return // another token begins anew
          pause = retryTime(failures++)
        }
      } finally {
        unwatch()
      }
      await new Promise((resolve) => setTimeout(resolve, pause))
    }
  }
  run()
  return () => end.abort()
}
