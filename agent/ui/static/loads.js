// How busy the instances of a service are. A report makes no event, so that it is asked for.
import { ask, jsonOf, Problem } from './api.js'
import { fleet } from './fleet.js'
import { useEffect } from './html.js'

/** @typedef {import('../types.js').Entry} Entry */

const interval = 10_000

/** The list of a service of more instances is not asked for again and again. */
const most = 1000

/**
 * Keeps the loads of a service up to date while it is seen.
 * @param {string} service
 */
export function useLoads(service) {
  useEffect(() => {
    const stop = new AbortController()
    let tag = ''
    const look = async () => {
      const n = fleet.instances(service).length
      if (document.hidden || n === 0 || n > most) return
      try {
        const answer = await ask(`/v1/services/${encodeURIComponent(service)}`, { headers: tag ? { 'If-None-Match': tag } : {}, signal: stop.signal })
        if (answer.status === 304) return
        const entries = /** @type {Entry[]} */ (await jsonOf(answer, stop.signal))
        tag = answer.headers.get('ETag') ?? ''
        fleet.setLoads(service, new Map(entries.map((e) => [e.id, e.utilization])))
      } catch (error) {
        if (!stop.signal.aborted && !(error instanceof Problem)) console.error(error)
      }
    }
    look()
    const timer = setInterval(look, interval)
    return () => {
      clearInterval(timer)
      stop.abort()
    }
  }, [service])
}
