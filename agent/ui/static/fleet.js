// The fleet as the page knows it: services with their instances. It changes in batches, and keeps
// what it has when the agent goes away.
import { batch, signal } from './html.js'

/** @typedef {import('../types.js').Entry} Entry */
/** @typedef {import('../types.js').FleetEvent} FleetEvent */

/**
 * What is known of a service. A change makes a new summary.
 * @typedef {object} Summary
 * @property {string} key        the name in lower case, which identifies it
 * @property {string} name
 * @property {number} total
 * @property {number} healthy    those that a plain lookup may answer with
 * @property {number} critical   up, and critical
 * @property {number} warning    up, and warning
 * @property {number} draining   in state drain or down
 * @property {number} suspects
 * @property {string[]} tags
 * @property {string[]} zones
 * @property {number} revision   of the last change of one of its instances
 */

/** @typedef {{entry: Entry, revision: number, reason: string}} Departure */

/** How many instances that are gone the page remembers. */
const maxDepartures = 500

/** @param {string} service */
export const keyOf = (service) => service.toLowerCase()

/** @param {Entry} e */
export const isHealthy = (e) => e.state === 'up' && e.status !== 'critical'

export class Fleet {
  /** @type {Map<string, Map<string, Entry>>} */
  #services = new Map()
  /**
   * The sorted ids of services, which few changes change.
   * @type {Map<string, string[]>}
   */
  #orders = new Map()
  /** @type {Map<string, Departure>} */
  #departures = new Map()
  /** All services, sorted by name. */
  summaries = signal(/** @type {Summary[]} */ ([]))
  /** Another number after each change of the fleet. */
  changes = signal(0)
  /** Whether the fleet was ever read. */
  known = signal(false)

  /**
   * Applies events at once, so that the page is drawn once for all of them.
   * @param {FleetEvent[]} events
   */
  apply(events) {
    /** @type {Set<string>} */
    const touched = new Set()
    for (const event of events) {
      if (event.type === 'reset') this.#reset(event, touched)
      else if (event.type === 'put' && event.instance) this.#put(this.#withLoad(event.instance), touched)
      else if (event.type === 'delete') this.#remove(event.service ?? '', event.id ?? '', event.revision, event.reason ?? '', touched)
    }
    batch(() => {
      if (touched.size) this.#summarize(touched)
      this.known.value = this.known.value || events.length > 0
      this.changes.value++
    })
  }

  /**
   * @param {FleetEvent} event
   * @param {Set<string>} touched
   */
  #reset(event, touched) {
    /** @type {Set<string>} */
    const there = new Set()
    for (const e of event.instances ?? []) {
      there.add(`${keyOf(e.service)}/${e.id}`)
      this.#put(e, touched)
    }
    for (const [key, instances] of this.#services) {
      for (const e of [...instances.values()]) {
        if (!there.has(`${key}/${e.id}`)) this.#remove(e.service, e.id, event.revision, '', touched)
      }
    }
  }

  /**
   * Adds the load that is known to a change, which may lack it: a report makes no event.
   * @param {Entry} e
   */
  #withLoad(e) {
    const before = this.#services.get(keyOf(e.service))?.get(e.id)
    return { ...e, utilization: e.utilization ?? before?.utilization }
  }

  /**
   * @param {Entry} e
   * @param {Set<string>} touched
   */
  #put(e, touched) {
    const key = keyOf(e.service)
    let instances = this.#services.get(key)
    if (!instances) this.#services.set(key, (instances = new Map()))
    const before = instances.get(e.id)
    if (!before) this.#orders.delete(key)
    instances.set(e.id, e)
    this.#departures.delete(`${key}/${e.id}`)
    touched.add(key)
  }

  /**
   * @param {string} service
   * @param {string} id
   * @param {number} revision
   * @param {string} reason
   * @param {Set<string>} touched
   */
  #remove(service, id, revision, reason, touched) {
    const key = keyOf(service)
    const instances = this.#services.get(key)
    const entry = instances?.get(id)
    if (!instances || !entry) return
    instances.delete(id)
    this.#orders.delete(key)
    if (!instances.size) this.#services.delete(key)
    const departures = this.#departures
    departures.set(`${key}/${id}`, { entry, revision, reason })
    if (departures.size > maxDepartures) departures.delete(/** @type {string} */ (departures.keys().next().value))
    touched.add(key)
  }

  /**
   * Notes how busy instances are.
   * @param {string} service
   * @param {Map<string, number | undefined>} loads  by id
   */
  setLoads(service, loads) {
    let changed = false
    for (const [id, load] of loads) {
      const e = this.#services.get(keyOf(service))?.get(id)
      if (!e || e.utilization === load) continue
      e.utilization = load
      changed = true
    }
    if (changed) this.changes.value++
  }

  /** @param {Set<string>} touched */
  #summarize(touched) {
    const all = new Map(this.summaries.peek().map((s) => [s.key, s]))
    let moved = false
    for (const key of touched) {
      const instances = this.#services.get(key)
      if (!instances) {
        moved = all.delete(key) || moved
        continue
      }
      moved = moved || !all.has(key)
      all.set(key, summarize(key, instances))
    }
    const list = [...all.values()]
    if (moved) list.sort((a, b) => (a.key < b.key ? -1 : 1))
    this.summaries.value = list
  }

  /**
   * The instances of a service, sorted by id.
   * @param {string} service
   */
  instances(service) {
    this.changes.value // whoever reads is called again after each change
    const key = keyOf(service)
    const instances = this.#services.get(key)
    if (!instances) return []
    let order = this.#orders.get(key)
    if (!order) this.#orders.set(key, (order = [...instances.keys()].sort(natural.compare)))
    return order.map((id) => /** @type {Entry} */ (instances.get(id)))
  }

  /** All instances. */
  everything() {
    this.changes.value
    return [...this.#services.values()].flatMap((s) => [...s.values()])
  }

  /**
   * @param {string} service
   * @param {string} id
   */
  instance(service, id) {
    this.changes.value
    return this.#services.get(keyOf(service))?.get(id)
  }

  /**
   * What is remembered of an instance that is gone.
   * @param {string} service
   * @param {string} id
   */
  departure(service, id) {
    this.changes.value
    return this.#departures.get(`${keyOf(service)}/${id}`)
  }
}

/** web-2 comes before web-10. */
const natural = new Intl.Collator('en', { numeric: true })

/**
 * @param {string} key
 * @param {Map<string, Entry>} instances
 * @returns {Summary}
 */
function summarize(key, instances) {
  const s = { key, name: key, total: instances.size, healthy: 0, critical: 0, warning: 0, draining: 0, suspects: 0, revision: 0 }
  /** @type {Set<string>} */
  const tags = new Set()
  /** @type {Set<string>} */
  const zones = new Set()
  for (const e of instances.values()) {
    s.name = e.service
    if (isHealthy(e)) s.healthy++
    if (e.state !== 'up') s.draining++
    else if (e.status === 'critical') s.critical++
    else if (e.status === 'warning') s.warning++
    if (e.suspect) s.suspects++
    if (e.zone) zones.add(e.zone)
    for (const tag of e.tags) tags.add(tag)
    s.revision = Math.max(s.revision, e.revision)
  }
  return { ...s, tags: [...tags].sort(), zones: [...zones].sort() }
}

/** The fleet of the agent. */
export const fleet = new Fleet()
