// Why the agent answers with an instance or not, and what to do: …/why says it.
import { askJSON, instancePath, Problem } from './api.js'
import { fleet } from './fleet.js'
import { effect, useEffect, useSignal } from './html.js'
import { link } from './live.js'

/** @typedef {import('../types.js').Why} Why */

/** What is known; problem: why the agent says nothing; at: when it was asked. @typedef {{why: Why | null, problem: string, at: number}} Answer */

/** The least time between two questions, each of which asks etcd; the most after one that took long; and how long it is waited for a change. */
const least = 500
const most = 30_000
const firstPause = 4000
const lastPause = 60_000
const timeout = 10_000

/**
 * The explanation of an instance, which follows its changes. What etcd and the owner's session do
 * makes no event: it is asked for, less and less often.
 * @param {string} service
 * @param {string} id
 */
export function useWhy(service, id) {
  const answer = useSignal(/** @type {Answer} */ ({ why: null, problem: '', at: 0 }))
  useEffect(() => {
    const stop = new AbortController()
    const path = `${instancePath(service, id)}/why`
    let pause = firstPause
    let changed = false
    let wake = () => {}
    const again = () => {
      pause = firstPause
      changed = true
      wake()
    }
    let entry = fleet.instance(service, id)
    let state = link.peek().state
    const end = effect(() => {
      const now = fleet.instance(service, id)
      const back = link.value.state === 'live' && state !== 'live'
      if (now !== entry || back) again()
      entry = now
      state = link.value.state
    })
    document.addEventListener('visibilitychange', again)
    const follow = async () => {
      while (!stop.signal.aborted) {
        const began = Date.now()
        changed = false
        if (!document.hidden) {
          try {
            const why = await askJSON(path, { signal: AbortSignal.any([stop.signal, AbortSignal.timeout(timeout)]) })
            answer.value = { why, problem: '', at: Date.now() }
          } catch (error) {
            if (stop.signal.aborted) return
            const { status, message } = error instanceof Problem ? error : { status: 0, message: 'The agent took too long to explain the instance.' }
            // What was said stays, unless the agent says that it knows nothing.
            answer.value = { ...answer.peek(), ...(status === 404 && { why: null }), problem: message }
          }
        }
        await rest(Math.min(most, Math.max(least, 5 * (Date.now() - began))))
        if (!changed) await rest(pause, true)
        pause = Math.min(lastPause, 1.5 * pause)
      }
    }
    /**
     * @param {number} ms
     * @param {boolean} [light]  whether a change ends it
     */
    const rest = (ms, light = false) => new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer)
        wake = () => {}
        resolve(undefined)
      }
      const timer = setTimeout(done, ms)
      if (light) wake = done
    })
    follow()
    return () => {
      end()
      document.removeEventListener('visibilitychange', again)
      stop.abort()
      wake()
    }
  }, [])
  return answer.value
}
