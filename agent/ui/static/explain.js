// Why each instance of a service is answered by a lookup, or is not: ?explain says it.
import { askJSON, Problem } from './api.js'
import { fleet, keyOf } from './fleet.js'
import { effect, signal, useEffect, useSignal } from './html.js'

/** @typedef {{id: string, in: boolean, why: string}} Explanation */

/** The least time between two questions; more where the answer takes long. */
const least = 500

/**
 * The explanations of a service by instance, which follow its changes; null: not known yet.
 * @param {string} service
 */
export function useExplanations(service) {
  const result = useSignal(/** @type {Map<string, Explanation> | null} */ (null))
  useEffect(() => {
    const stop = new AbortController()
    const wanted = signal('') // the state of the service to which the answer belongs; "": it is not there
    let running = false
    const follow = async () => {
      running = true
      let failures = 0
      for (let got = ''; wanted.peek() && wanted.peek() !== got && !stop.signal.aborted; ) {
        const want = wanted.peek()
        const began = Date.now()
        try {
          const answer = await askJSON(`/v1/lookup/${encodeURIComponent(service)}?explain`, { signal: stop.signal })
          result.value = new Map((answer.explain ?? []).map((/** @type {Explanation} */ e) => [e.id, e]))
          got = want
          failures = 0
        } catch (error) {
          if (!stop.signal.aborted && !(error instanceof Problem)) console.error(error)
          failures++
        }
        const wait = Math.max(Math.min(10_000, least * 2 ** failures), 5 * (Date.now() - began))
        await new Promise((resolve) => setTimeout(resolve, Math.min(30_000, wait)))
      }
      running = false
    }
    const end = effect(() => {
      const summary = fleet.summaries.value.find((s) => s.key === keyOf(service))
      wanted.value = summary ? fingerprint(summary) : ''
      if (!running && summary) follow()
    })
    return () => {
      end()
      stop.abort()
    }
  }, [service])
  return result.value
}

/**
 * Another text after each change that may change an answer.
 * @param {import('./fleet.js').Summary} s
 */
function fingerprint(s) {
  return `${s.revision} ${s.total} ${s.suspects}`
}
