// The changes that the agent saw, as a view follows them: the newest, those that come, and older
// ones on demand. When the agent goes away, or begins anew, what the page has stays.
import { askJSON, asProblem, Problem, retryTime, token } from './api.js'
import { events } from './events.js'
import { batch, effect, signal, useEffect, useRef } from './html.js'
import { link } from './live.js'
import { seen, stopWhenHidden } from './seen.js'

/** @typedef {import('../types.js').Change} Change */
/** @typedef {import('../types.js').History} History */

/**
 * off: the agent keeps no history; refused: the query or the reader is refused.
 * @typedef {{state: 'reading' | 'live' | 'away' | 'refused' | 'off', why: string}} FeedLink
 */

const firstPage = 200
const nextPage = 1000
const wholeRing = 10_000 // the most that the agent gives at once
/** The most changes that the page keeps; the agent has older ones. */
const most = 20_000
const timeout = 20_000

/**
 * The run of an agent that a cursor is of.
 * @param {string} cursor
 */
const runOf = (cursor) => cursor.slice(cursor.indexOf('-') + 1)

/** Begins the cursor of what the page itself puts between changes. */
const broken = 'break '

/** The changes that a query selects: service and id, or all without them. */
export class Feed {
  /** Oldest first. */
  changes = signal(/** @type {Change[]} */ ([]))
  /** From where on the agent has all; null: it has none of what is asked for. */
  begins = signal(/** @type {History['begins']} */ (null))
  /** Whether the agent has ever said what it has. */
  known = signal(false)
  /** Whether the agent sees the changes to come. */
  watched = signal(true)
  /** Whether the agent has older ones. */
  older = signal(false)
  /** Whether older ones are being read. */
  reading = signal(false)
  /** Why older ones could not be read; "": they could. */
  problem = signal('')
  link = signal(/** @type {FeedLink} */ ({ state: 'reading', why: '' }))

  #stop = new AbortController()
  #query
  #last = '' // the cursor up to which the changes were read
  #breaks = 0
  #most = most
  /** @type {Change[]} */
  #queue = []
  #scheduled = false

  /** @param {{service?: string, id?: string}} query */
  constructor({ service, id }) {
    this.#query = new URLSearchParams({ ...(service && { service }), ...(service && id && { id }) })
  }

  /** Ends it. */
  close() {
    this.#stop.abort()
  }

  /** Follows the changes until it is closed. */
  async follow() {
    const stopped = this.#stop.signal
    for (let failures = 0; !stopped.aborted; ) {
      const quiet = new AbortController()
      const unwatch = stopWhenHidden(quiet)
      const asked = token.peek()
      const signal = AbortSignal.any([stopped, quiet.signal])
      try {
        if (!this.#last) await this.#read(signal)
        for await (const event of events(this.#path({}), this.#last, signal)) {
          failures = 0
          if (event.type === 'open') this.link.value = { state: 'live', why: '' }
          else if (!this.#receive(event)) break
        }
        if (this.#last) throw new Problem(0, `The agent at ${location.host} ended the connection.`)
      } catch (error) {
        if (stopped.aborted) return
        if (quiet.signal.aborted) await seen(stopped)
        else {
          this.#failed(error)
          if (token.peek() === asked) await this.#pause(retryTime(failures++))
        }
      } finally {
        unwatch()
      }
    }
  }

  /** Reads older changes. */
  async readOlder() {
    const oldest = this.changes.peek().find((c) => !c.cursor.startsWith(broken))?.cursor
    if (!oldest || this.reading.peek()) return
    this.reading.value = true
    this.problem.value = ''
    try {
      const h = await this.#ask({ before: oldest, limit: `${nextPage}` }, this.#stop.signal)
      batch(() => {
        this.#most += h.changes.length // what the reader has asked for stays
        this.changes.value = [...h.changes, ...this.changes.peek()]
        this.begins.value = h.begins
        this.older.value = !!h.truncated
      })
    } catch (error) {
      if (!this.#stop.signal.aborted) this.problem.value = asProblem(error).message
    } finally {
      this.reading.value = false
    }
  }

  /**
   * Reads the newest changes; all of an agent that has begun anew.
   * @param {AbortSignal} signal
   */
  async #read(signal) {
    this.#flush()
    const before = this.changes.peek()
    const h = await this.#ask({ limit: `${before.length ? wholeRing : firstPage}` }, signal)
    const known = before.at(-1)
    const added = known && runOf(known.cursor) !== runOf(h.end) ? [this.#break(h), ...h.changes] : h.changes
    this.#last = h.end
    batch(() => {
      this.changes.value = [...before, ...added]
      this.older.value = !before.length && !!h.truncated
      this.#began(h)
    })
  }

  /**
   * What stands between the changes of an earlier run of the agent and those of this one.
   * @param {History} h
   * @returns {Change}
   */
  #break(h) {
    const why = `the agent has been started since, and its history begins anew${h.truncated ? '; there are more changes after this one than the page reads' : ''}`
    const at = h.changes[0]
    return { cursor: `${broken}${++this.#breaks}-${runOf(h.end)}`, revision: at?.revision ?? h.begins?.revision ?? 0, seen: at?.seen ?? h.begins?.seen ?? '', change: 'gap', why }
  }

  /**
   * Takes an event in. It returns false if the changes do not go on from what the page has.
   * @param {{type: string, data: string, id: string}} event
   */
  #receive(event) {
    if (event.type === 'reset' && runOf(event.id) !== runOf(this.#last)) {
      this.#last = ''
      return false
    }
    this.#last = event.id
    if (event.type === 'change') this.#add(JSON.parse(event.data))
    else if (event.type === 'reset') {
      this.#began(JSON.parse(event.data))
      const last = this.changes.peek().at(-1)
      this.#add({ cursor: `${broken}${++this.#breaks}-${runOf(event.id)}`, revision: last?.revision ?? 0, seen: last?.seen ?? '', change: 'gap',
        why: 'the agent had no room for the changes that came in between (catalog.history_bytes)' })
    }
    return true
  }

  /** @param {Change} change */
  #add(change) {
    this.#queue.push(change)
    if (this.#scheduled) return
    this.#scheduled = true
    const flush = () => this.#flush()
    requestAnimationFrame(flush)
    setTimeout(flush, 250) // a page that nobody sees has no frames
  }

  /** Shows what has come. */
  #flush() {
    this.#scheduled = false
    if (!this.#queue.length) return
    const all = [...this.changes.peek(), ...this.#queue]
    this.#queue = []
    batch(() => {
      if (all.length > this.#most) this.older.value = runOf(all[all.length - this.#most].cursor) === runOf(this.#last)
      this.changes.value = all.slice(-this.#most)
    })
  }

  /** @param {History} h */
  #began(h) {
    this.known.value = true
    this.begins.value = h.begins
    this.watched.value = h.watched
  }

  /** @param {unknown} error */
  #failed(error) {
    const problem = asProblem(error)
    const state = problem.status === 404 ? 'off' : problem.final ? 'refused' : 'away'
    this.link.value = { state, why: problem.message }
  }

  /**
   * Waits until it is worth to try again: where the agent has refused, after it was away.
   * @param {number} ms
   */
  #pause(ms) {
    const lasting = this.link.peek().state !== 'away'
    return new Promise((resolve) => {
      const timer = lasting ? undefined : setTimeout(() => done(), ms)
      const before = link.peek()
      const end = effect(() => {
        if (link.value !== before && link.value.state === 'live') done()
      })
      const done = () => {
        end()
        clearTimeout(timer)
        this.#stop.signal.removeEventListener('abort', done)
        resolve(undefined)
      }
      this.#stop.signal.addEventListener('abort', done)
    })
  }

  /**
   * @param {Record<string, string>} more
   * @param {AbortSignal} signal
   * @returns {Promise<History>}
   */
  async #ask(more, signal) {
    try {
      return await askJSON(this.#path(more), { signal: AbortSignal.any([signal, AbortSignal.timeout(timeout)]) })
    } catch (error) {
      if (signal.aborted || error instanceof Problem) throw error
      throw new Problem(0, `The agent at ${location.host} does not answer.`)
    }
  }

  /** @param {Record<string, string>} more */
  #path(more) {
    const query = new URLSearchParams([...this.#query, ...Object.entries(more)]).toString()
    return `/v1/history${query && `?${query}`}`
  }
}

/**
 * The changes of a service or an instance, or all, for as long as a view shows them.
 * @param {{service?: string, id?: string}} query
 */
export function useHistory(query) {
  const feed = useRef(/** @type {Feed | null} */ (null))
  feed.current ??= new Feed(query)
  useEffect(() => {
    feed.current?.follow()
    return () => feed.current?.close()
  }, [])
  return feed.current
}
