// Keeps the page up to date: a stream of changes, and the state of the agent. When the agent goes
// away, what is on the page stays, and the page tries again.
import { ask, askJSON, asProblem, jsonOf, Problem, retryTime, token } from './api.js'
import { events } from './events.js'
import { fleet } from './fleet.js'
import { effect, signal } from './html.js'
import { isUnseen, startSeen, stopWhenHidden } from './seen.js'

/** @typedef {import('../types.js').Agent} Agent */
/** @typedef {import('../types.js').FleetNode} FleetNode */
/** @typedef {import('../types.js').FleetEvent} FleetEvent */

/**
 * The stream of changes. away: nothing was heard of it since, and it is tried again at retryAt;
 * refused: a token is needed.
 * @typedef {{state: 'connecting' | 'live' | 'away' | 'refused', since: number, why: string, retryAt: number}} Link
 */

export const link = signal(/** @type {Link} */ ({ state: 'connecting', since: Date.now(), why: '', retryAt: 0 }))

/** The agent as it was last heard of. */
export const agent = signal(/** @type {{status: Agent, at: number} | null} */ (null))

/** The namespace that the page was opened with; "": not known yet. */
export const namespace = signal('')

/** The agents of the fleet; null: not read yet. */
export const nodes = signal(/** @type {FleetNode[] | null} */ (null))

/** The time, in milliseconds, for what is shown as an age. */
export const now = signal(Date.now())

/** Whether the agent has another page by now. */
export const outdated = signal(false)

const pollTime = 2000
const nodesTime = 10_000

let wake = () => {}
let lastID = ''
let heard = 0 // when the agent last said something

/** Tries at once to reach the agent. */
export function retryNow() {
  wake()
}

export function startLive() {
  setInterval(() => {
    if (!document.hidden) now.value = Date.now()
  }, 1000)
  document.addEventListener('visibilitychange', () => {
    now.value = Date.now()
    if (!document.hidden) retryNow()
  })
  window.addEventListener('online', retryNow)
  startSeen()
  window.addEventListener('pageshow', retryNow)
  let given = token.peek()
  effect(() => {
    if (token.value === given) return
    given = token.value
    retryNow()
  })
  follow()
  repeat(pollTime, pollAgent)
  repeat(nodesTime, pollNodes)
}

/**
 * Waits until the time is over or somebody wants to go on.
 * @param {number} ms
 */
function pause(ms) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms)
    wake = () => {
      clearTimeout(timer)
      resolve(undefined)
    }
  })
}

/** Follows the changes of the fleet for as long as the page is open. */
async function follow() {
  let failures = 0
  for (;;) {
    const stop = new AbortController()
    const unwatch = stopWhenHidden(stop)
    const asked = token.peek()
    try {
      for await (const event of events('/v1/watch', lastID, stop.signal)) {
        failures = 0
        heard = Date.now()
        if (event.type === 'open') opened()
        else receive(event)
      }
      failed(new Problem(0, `The agent at ${location.host} ended the connection.`), ++failures)
    } catch (error) {
      if (stop.signal.aborted) link.value = { state: 'connecting', since: Date.now(), why: '', retryAt: 0 }
      else failed(error, ++failures)
    } finally {
      unwatch()
    }
    if (stop.signal.aborted && isUnseen()) await pause(1e9) // until somebody looks
    else if (link.peek().state === 'refused') {
      if (token.peek() === asked) await pause(1e9) // until there is a token
    }
    else if (link.peek().state === 'away') await pause(link.peek().retryAt - Date.now())
  }
}

let opens = 0

function opened() {
  if (opens++) read(pollNodes) // they may have changed meanwhile, and the agent too
  if (link.peek().state !== 'live') link.value = { state: 'live', since: Date.now(), why: '', retryAt: 0 }
  checkVersion()
}

/**
 * @param {unknown} error
 * @param {number} failures  in a row
 */
function failed(error, failures) {
  const problem = asProblem(error)
  const before = link.peek()
  const state = problem.denied ? 'refused' : 'away'
  const longest = retryTime(failures - 1)
  const wait = longest / 2 + (Math.random() * longest) / 2 // so that not all pages come back at once
  link.value = { state, since: before.state === state ? before.since : heard || Date.now(), why: problem.message, retryAt: Date.now() + wait }
}

/** @type {FleetEvent[]} */
let queue = []
let scheduled = false

/** @param {{type: string, data: string, id: string}} event */
function receive(event) {
  if (event.type !== 'id') queue.push({ type: event.type, ...JSON.parse(event.data) })
  lastID = event.id
  if (!scheduled && queue.length) {
    scheduled = true
    let done = false
    const apply = () => {
      if (done) return
      done = true
      scheduled = false
      const batch = queue
      queue = []
      fleet.apply(batch)
    }
    requestAnimationFrame(apply)
    setTimeout(apply, 250) // a page that nobody sees has no frames
  }
}

/**
 * Calls a function again and again while the page is seen, less often where it takes long. The first
 * call takes the answer that the browser has asked for already, whether the page is seen or not.
 * @param {number} ms
 * @param {() => Promise<void>} f
 */
async function repeat(ms, f) {
  for (let first = true; ; first = false) {
    const began = Date.now()
    if (first || !document.hidden) await read(f)
    await new Promise((resolve) => setTimeout(resolve, Math.min(30_000, Math.max(ms, 10 * (Date.now() - began)))))
  }
}

/**
 * Calls a function that asks the agent. Why it fails the link says.
 * @param {() => Promise<void>} f
 */
async function read(f) {
  try {
    await f()
  } catch (error) {
    if (!(error instanceof Problem)) console.error(error)
  }
}

async function pollAgent() {
  const asked = Date.now()
  const status = await askJSON('/v1/agent')
  agent.value = { status, at: Date.now() }
  heard = Math.max(heard, asked) // the answer may have been under way for long
  if (!namespace.peek()) namespace.value = status.namespace
  if (link.peek().state === 'away') retryNow() // it is back
}

let nodesTag = ''

async function pollNodes() {
  /** @type {Record<string, string>} */
  const headers = nodesTag ? { 'If-None-Match': nodesTag } : {}
  const answer = await ask('/v1/nodes', { headers })
  if (answer.status === 304) return
  nodes.value = await jsonOf(answer)
  nodesTag = answer.headers.get('ETag') ?? ''
}

/** Finds whether the agent that answers now has another page than this one. */
async function checkVersion() {
  const mine = document.querySelector('meta[name=page-version]')?.getAttribute('content') ?? ''
  try {
    const answer = await ask('/', { method: 'HEAD', headers: { Accept: 'text/html' } })
    outdated.value = !(answer.headers.get('ETag') ?? '').includes(mine)
  } catch {
    // An agent before the page, or none: the next connection asks again.
  }
}
