// How many instances of each service were healthy in the last minutes: of the history that the agent
// has, and what the page has seen itself.
import { isHealthy, keyOf } from './fleet.js'
import { signal } from './html.js'

/** @typedef {import('../types.js').Change} Change */
/** @typedef {import('../types.js').History} History */
/** @typedef {import('../types.js').Entry} Entry */

/** The time of a slot, and the slots that are drawn. */
export const slotTime = 10_000
export const slots = 60

/** Instances of a service. unsure: they were there, and whether healthy is not known. @typedef {{healthy: number, out: number, unsure: number}} Counts */

/**
 * A slot in which something changed: the fewest that were healthy, the most that were not, and how it ended.
 * @typedef {Counts & {slot: number, last: Counts}} Point
 */

/** A time that is not known, in milliseconds. @typedef {{from: number, to: number}} Hole */

/** What is known of an instance; "": it is not known. @typedef {{state: string, status: string}} Known */

const none = { healthy: 0, out: 0, unsure: 0 }
/** Before a service came. @type {Point} */
const never = { slot: -Infinity, ...none, last: none }
const isEmpty = (/** @type {Counts} */ c) => c.healthy + c.out + c.unsure === 0

/** @param {number} at  milliseconds */
export const slotOf = (at) => Math.floor(at / slotTime)

export class Tracks {
  /** @type {Map<string, Point[]>} */
  #points = new Map()
  /** Of all services: before somebody says that the page sees what happens, nothing is known. @type {Hole[]} */
  #holes = [{ from: -Infinity, to: Infinity }]
  /** Of a service alone. @type {Map<string, Hole[]>} */
  #holesOf = new Map()
  #pruned = 0
  /** Another number after each change of what was. */
  changes = signal(0)

  /**
   * Notes how many instances of a service there are.
   * @param {string} key
   * @param {number} at
   * @param {Counts} counts
   */
  record(key, at, counts) {
    const slot = slotOf(at)
    let points = this.#points.get(key)
    if (!points) this.#points.set(key, (points = [{ ...never }]))
    const last = points[points.length - 1]
    // A service that comes has as many as it comes with.
    const point = last.slot >= slot ? last : { slot, ...(isEmpty(last.last) ? counts : last.last), last: last.last }
    point.healthy = Math.min(point.healthy, counts.healthy)
    point.out = Math.max(point.out, counts.out)
    point.unsure = Math.max(point.unsure, counts.unsure)
    point.last = counts
    if (point !== last) points.push(point)
    if (points.length > slots + 2) points.shift()
    if (slot > this.#pruned) this.#prune(slot)
  }

  /**
   * Forgets services that are gone for longer than what is drawn.
   * @param {number} slot
   */
  #prune(slot) {
    this.#pruned = slot
    for (const [key, points] of this.#points) {
      const last = points[points.length - 1]
      if (isEmpty(last.last) && last.slot < slot - slots) this.#points.delete(key)
    }
  }

  /** Has what is drawn be drawn again. */
  changed() {
    this.changes.value = this.changes.peek() + 1
  }

  /**
   * Notes that from a time on the page does not see what happens, until found says that it does.
   * @param {number} at
   */
  lose(at) {
    this.#holes.push({ from: at, to: Infinity })
    this.changed()
  }

  /** @param {number} at */
  found(at) {
    for (const hole of this.#holes) if (hole.to === Infinity) hole.to = at
    this.#holes = this.#holes.filter((h) => slotOf(h.to) >= slotOf(at) - slots)
    this.changed()
  }

  /**
   * Puts what the agent knows in place of what the page has seen. Times are those of the page; a
   * time of the agent is later by skew.
   * @param {History} history  changes since a time
   * @param {number} since
   * @param {number} skew
   * @param {(key: string) => Entry[]} instances  as they are now
   * @param {Iterable<string>} services           that are there now
   */
  rebuild(history, since, skew, instances, services) {
    const time = (/** @type {string | undefined} */ text) => Date.parse(text ?? '') - skew
    const { begins, changes } = history
    if (!begins) return
    const start = Math.max(since, time(begins.seen), history.truncated ? time(changes[0]?.seen) : -Infinity)
    this.#holes = this.#holes.filter((h) => h.from < start).map((h) => ({ from: h.from, to: Math.min(h.to, start) }))
    this.#holesOf.clear()
    for (const c of changes) this.#noteHole(c, start, time(c.since ?? c.seen), time(c.seen))

    /** @type {Map<string, Change[]>} */
    const byService = new Map([...services].map((key) => [key, []]))
    for (const key of this.#points.keys()) if (!byService.has(key)) byService.set(key, [])
    for (const c of changes) {
      if (!c.service || !c.id) continue
      const key = keyOf(c.service)
      const list = byService.get(key)
      if (list) list.push(c)
      else byService.set(key, [c])
    }
    for (const [key, list] of byService) this.#replay(key, start, list.map((c) => ({ ...c, at: time(c.seen) })), instances(key))
    this.changed()
  }

  /**
   * @param {Change} c
   * @param {number} start  of what is known
   * @param {number} since
   * @param {number} at
   */
  #noteHole(c, start, since, at) {
    if (c.change === 'gap' || c.change === 'started_over') this.#holes.push({ from: Math.max(start, since), to: at })
    if (c.change !== 'watched' && c.change !== 'unwatched') return
    if (!c.service) {
      if (at > start) this.#holes.push({ from: start, to: at })
      // Who watches all watches each service again.
      for (const holes of this.#holesOf.values()) holes[holes.length - 1].to = Math.min(holes[holes.length - 1].to, at)
      return
    }
    const key = keyOf(c.service)
    const holes = this.#holesOf.get(key) ?? []
    this.#holesOf.set(key, holes)
    if (c.change === 'unwatched') holes.push({ from: at, to: Infinity })
    else if (holes.length) holes[holes.length - 1].to = at
    else holes.push({ from: start, to: at })
  }

  /**
   * @param {string} key
   * @param {number} start
   * @param {(Change & {at: number})[]} changes
   * @param {Entry[]} instances
   */
  #replay(key, start, changes, instances) {
    const known = before(changes, instances)
    const counts = { ...none }
    const count = (/** @type {Known | undefined} */ k, /** @type {number} */ n) => {
      if (k) counts[kindOf(k)] += n
    }
    for (const k of known.values()) count(k, 1)
    const points = (this.#points.get(key) ?? []).filter((p) => p.slot < slotOf(start))
    if (!points.length) points.push({ ...never })
    if (!isEmpty(counts) || !isEmpty(points[points.length - 1].last)) points.push({ slot: slotOf(start), ...counts, last: { ...counts } })
    this.#points.set(key, points)
    for (const c of changes) {
      const id = c.id ?? ''
      count(known.get(id), -1)
      if (c.change === 'gone') known.delete(id)
      else known.set(id, after(known.get(id), c))
      count(known.get(id), 1)
      this.record(key, c.at, { ...counts })
    }
  }

  /**
   * The slots that are drawn, oldest first; null: not known.
   * @param {string} key
   * @param {number} now
   * @returns {(Counts | null)[]}
   */
  read(key, now) {
    const points = this.#points.get(key) ?? []
    const holes = [...this.#holes, ...(this.#holesOf.get(key) ?? [])]
    const end = slotOf(now)
    const list = []
    let last = none
    let next = 0
    for (let slot = end - slots + 1; slot <= end; slot++) {
      /** @type {Counts} */
      let counts = last
      while (next < points.length && points[next].slot <= slot) {
        counts = points[next].slot === slot ? points[next] : points[next].last
        last = points[next].last
        next++
      }
      // The newest slot has not ended: it is known if it is now.
      const hidden = slot === end ? (/** @type {Hole} */ h) => h.from <= now && h.to > now : (/** @type {Hole} */ h) => h.from < (slot + 1) * slotTime && h.to > slot * slotTime
      list.push(holes.some(hidden) ? null : counts)
    }
    return list
  }
}

/**
 * The instances of a service before its changes.
 * @param {Change[]} changes
 * @param {Entry[]} instances  after them
 */
function before(changes, instances) {
  /** @type {Map<string, Known>} */
  const known = new Map(instances.map((e) => [e.id, { state: e.state, status: e.status }]))
  for (const c of changes.toReversed()) {
    const id = c.id ?? ''
    if (c.change === 'added') known.delete(id)
    else if (c.change === 'gone') known.set(id, { state: '', status: '' })
    else {
      const k = { ...(known.get(id) ?? { state: '', status: '' }) }
      for (const f of c.fields ?? []) if (f.field === 'state' || f.field === 'status') k[f.field] = f.from
      known.set(id, k)
    }
  }
  return known
}

/**
 * What is known of an instance after a change.
 * @param {Known | undefined} k
 * @param {Change} c
 * @returns {Known}
 */
function after(k, c) {
  const next = k && c.change !== 'added' ? { ...k } : { state: c.change === 'added' ? 'up' : '', status: '' }
  for (const f of c.fields ?? []) if (f.field === 'state' || f.field === 'status') next[f.field] = f.to
  return next
}

/**
 * @param {Known} k
 * @returns {keyof Counts}
 */
function kindOf(k) {
  if ((k.state && k.state !== 'up') || k.status === 'critical') return 'out'
  if (!k.state || !k.status) return 'unsure'
  return isHealthy(/** @type {any} */ (k)) ? 'healthy' : 'out'
}

/**
 * What a strip shows, in words.
 * @param {(Counts | null)[]} list
 */
export function inWords(list) {
  const known = list.filter((c) => c !== null)
  const minutes = (slots * slotTime) / 60_000
  if (!known.length) return `The last ${minutes} min are not known`
  const fewest = known.reduce((a, b) => (b.healthy < a.healthy ? b : a))
  const most = Math.max(...known.map((c) => c.healthy))
  const out = Math.max(...known.map((c) => c.out))
  const text = fewest.healthy === most ? `${most} healthy` : `${fewest.healthy} to ${most} healthy`
  const holes = list.length - known.length
  return `In the last ${minutes} min: ${text}${out ? `, up to ${out} not` : ''}${known.some((c) => c.unsure) ? ', of some it is not known' : ''}${holes ? `; ${holes >= 6 ? `${Math.round((holes * slotTime) / 60_000)} min` : `${(holes * slotTime) / 1000} s`} of it not known` : ''}`
}
