// Locks, claims and rate limits, as etcd has them. The API has no stream of them, so that they are
// asked for again and again.
import { age, count, number, seconds, shown } from './format.js'
import { html, useRef } from './html.js'
import { now } from './live.js'
import { Filters, Mark, Search, useTitle, wordsOf } from './parts.js'
import { href, place } from './router.js'
import { Bought } from './state_bought.js'
import { useAnswer } from './state_follow.js'
import { Wrong } from './state_parts.js'
import { Table } from './table.js'

/** @typedef {import('../types.js').LockQueue} LockQueue */
/** @typedef {import('../types.js').LockCaller} LockCaller */
/** @typedef {import('../types.js').HeldSlot} HeldSlot */
/** @typedef {import('../types.js').Limit} Limit */

/**
 * Somebody who holds a lock, or waits for it. turn: 0 holds it, 1 is the first who waits.
 * @typedef {{queue: LockQueue, caller: LockCaller, turn: number}} Turn
 */

const often = { every: 2000 }

const lockColumns = [
  { key: 'name', label: 'Lock' }, { key: 'state', label: 'State' }, { key: 'waiters', label: 'Waiters' }, { key: 'node', label: 'Node' },
  { key: 'holder', label: 'Holder' }, { key: 'fence', label: 'Fence' }, { key: 'age', label: 'Asked' },
]

export function Locks() {
  useTitle('Locks')
  const { value, at, problem } = /** @type {import('./state_follow.js').Answered<{locks: LockQueue[], truncated?: boolean}>} */ (useAnswer('/v1/locks', often))
  const { q, only } = place.value
  const words = wordsOf(q)
  const all = (value?.locks ?? []).flatMap(turnsOf)
  const holds = (/** @type {Turn} */ t) => t.turn === 0
  const fits = only === 'holds' ? holds : only === 'waits' ? (/** @type {Turn} */ t) => !holds(t) : () => true
  const rows = all.filter((t) => fits(t) && has(words, t.queue.name, t.caller.node, t.caller.holder))
  const waiting = all.filter((t) => !holds(t)).length
  return html`
    <div class="tools">
      <h2>Locks <span class="n">${value ? number(value.locks.length) : ''}</span></h2>
      <${Search} label="Search locks, nodes, holders" />
      <${Filters} choices=${[{ only: '', label: 'All', n: all.length }, { only: 'holds', label: 'Hold', n: all.length - waiting }, { only: 'waits', label: 'Wait', n: waiting }]} />
    </div>
    <${Wrong} problem=${problem} at=${value ? at : 0} />
    ${(value?.truncated || value?.locks.some((l) => l.truncated)) && html`<p class="banner warning"><span>There are more locks or waiters than the agent lists at once: some are missing here.</span></p>`}
    ${value ? html`
      <${Table} label="Locks" kind="locks" columns=${lockColumns} rows=${rows} heights=${[30, 84]} empty=${all.length ? 'No lock matches.' : 'Nobody holds a lock.'}
        keyOf=${(/** @type {Turn} */ t) => `${t.queue.name}/${t.caller.holder}/${t.caller.fence}`} rowClass=${(/** @type {Turn} */ t) => (t.caller.broken ? 'warning' : t.turn ? 'waits' : '')} cells=${lockCells} />
      ${all.length > 0 && html`<p class="note">A holder is the beginning of its id. The resource that a lock guards refuses a fence below the highest that it has seen.</p>`}`
      : !problem && html`<p class="start">Asking the agent for the locks …</p>`}`
}

/**
 * @param {LockQueue} queue
 * @returns {Turn[]}
 */
function turnsOf(queue) {
  return [...queue.holders.map((caller) => ({ queue, caller, turn: 0 })), ...queue.waiters.map((caller, n) => ({ queue, caller, turn: n + 1 }))]
}

/** @param {Turn} t */
function lockCells(t) {
  const { queue, caller } = t
  return [
    html`<a href=${href({ view: 'state', tab: 'locks', q: queue.name })}>${shown(queue.name)}</a>`,
    caller.broken ? html`<${Mark} word="warning">broken by ${shown(caller.broken.by)}, ${age(caller.broken.at, now.value)} ago</${Mark}>`
      : t.turn ? html`<span class="note">waits, ${t.turn === 1 ? 'next' : `${number(t.turn - 1)} before it`}</span>`
      : html`<${Mark} word="passing">holds</${Mark}>${queue.shared > 1 ? ` one of ${number(queue.shared)}` : ''}`,
    t.turn ? '' : queue.waiters.length ? html`${number(queue.waiters.length)}${queue.truncated ? ' or more' : ''}<span class="narrow"> wait</span>` : html`<span class="note">none</span>`,
    nodeOf(caller.node), html`<span class="mono">${shown(caller.holder)}</span>`, html`<span class="narrow">fence </span>${caller.fence}`,
    caller.asked ? `${age(caller.asked, now.value)} ago` : '',
  ]
}

const claimColumns = [
  { key: 'name', label: 'Service' }, { key: 'instance', label: 'Instance' }, { key: 'slot', label: 'Slot' }, { key: 'node', label: 'Claimed from' },
  { key: 'holder', label: 'Holder' }, { key: 'fence', label: 'Fence' }, { key: 'age', label: 'Claimed' },
]

export function Claims() {
  useTitle('Claims')
  const { value, at, problem } = /** @type {import('./state_follow.js').Answered<{claims: HeldSlot[], truncated?: boolean}>} */ (useAnswer('/v1/claims', often))
  const words = wordsOf(place.value.q)
  const all = value?.claims ?? []
  const rows = all.filter((c) => has(words, c.service, c.instance, c.node, c.holder))
  return html`
    <div class="tools">
      <h2>Claims <span class="n">${value ? number(all.length) : ''}</span></h2>
      <${Search} label="Search services, instances, nodes" />
    </div>
    <${Wrong} problem=${problem} at=${value ? at : 0} />
    ${value?.truncated && html`<p class="banner warning"><span>There are more claims than the agent lists at once: some are missing here.</span></p>`}
    ${value ? html`
      <${Table} label="Claims" kind="claims" columns=${claimColumns} rows=${rows} heights=${[30, 84]} empty=${all.length ? 'No claim matches.' : 'Nothing is claimed.'}
        keyOf=${(/** @type {HeldSlot} */ c) => `${c.service}/${c.instance}/${c.slot}`} cells=${claimCells} />`
      : !problem && html`<p class="start">Asking the agent for the claims …</p>`}`
}

/** @param {HeldSlot} c */
function claimCells(c) {
  return [
    html`<a href=${href({ service: c.service.toLowerCase() })}>${shown(c.service)}</a>`,
    html`<a href=${href({ service: c.service.toLowerCase(), instance: c.instance })}>${shown(c.instance)}</a>`,
    html`<span class="narrow">slot </span>${c.slot}`, nodeOf(c.node), html`<span class="mono">${shown(c.holder)}</span>`, html`<span class="narrow">fence </span>${c.fence}`,
    c.asked ? `${age(c.asked, now.value)} ago` : '',
  ]
}

const limitColumns = [
  { key: 'name', label: 'Limit' }, { key: 'now', label: 'Let through, at most' }, { key: 'rate', label: 'Rate' }, { key: 'burst', label: 'Burst' },
  { key: 'bought', label: 'In all' }, { key: 'waiting', label: 'Waits here' }, { key: 'away', label: 'While etcd is away' },
]

/** The time over which what is let through is counted, in milliseconds. */
const counted = 10_000

export function Limits() {
  useTitle('Limits')
  const { value, at, problem } = /** @type {import('./state_follow.js').Answered<Limit[]>} */ (useAnswer('/v1/limits?usage', often))
  const bought = useRef(new Bought(counted)).current
  if (value) bought.add(at, value.map((l) => [l.name, l.usage?.bought ?? 0]))
  const words = wordsOf(place.value.q)
  const all = value ?? []
  const rows = all.filter((l) => has(words, l.name))
  return html`
    <div class="tools">
      <h2>Limits <span class="n">${value ? number(all.length) : ''}</span></h2>
      <${Search} label="Search limits" />
    </div>
    <${Wrong} problem=${problem} at=${value ? at : 0} />
    ${value ? html`
      <${Table} label="Limits" kind="limits" columns=${limitColumns} rows=${rows} heights=${[30, 106]} empty=${all.length ? 'No limit matches.' : 'No limit is set.'}
        keyOf=${(/** @type {Limit} */ l) => l.name} cells=${(/** @type {Limit} */ l) => limitCells(l, bought.rate(l.name))} />
      ${all.length > 0 && html`<p class="note">The fleet lets through no more than its agents buy: here in the last ${counted / 1000} s or so, and since the limit was made. Those that wait do so at this agent, for up to a second; who is denied asks again.</p>`}`
      : !problem && html`<p class="start">Asking the agent for the limits …</p>`}`
}

/**
 * @param {Limit} l
 * @param {number} perSecond  tokens that are bought; NaN: not known yet
 */
function limitCells(l, perSecond) {
  const used = perSecond * seconds(l.per)
  const part = used / l.rate
  return [
    html`<a href=${href({ view: 'state', tab: 'limits', q: l.name })}>${shown(l.name)}</a>`,
    Number.isNaN(used) ? html`<span class="note">counting …</span>` : html`<meter class=${part > 0.9 ? 'part' : 'whole'} min="0" max="1" value=${Math.min(1, part)} aria-hidden="true"></meter><span>${number(Math.round(used * 10) / 10)} each ${shown(l.per)}</span>`,
    html`<span class="narrow">of </span>${number(l.rate)} each ${shown(l.per)}`, count(l.burst, 'token'),
    html`${number(l.usage?.bought ?? 0)}<span class="narrow"> in all</span>`,
    l.usage?.waiting ? html`<${Mark} word="warning">${number(l.usage.waiting)}<span class="narrow"> wait here</span></${Mark}>` : html`<span class="note">nobody<span class="narrow"> waits here</span></span>`,
    l.on_unavailable === 'allow' ? html`<${Mark} word="warning">let through, uncounted</${Mark}>` : html`denied<span class="narrow"> while etcd is away</span>`,
  ]
}

/** @param {string | undefined} node */
const nodeOf = (node) => (node ? html`<a href=${href({ view: 'nodes', node })}>${shown(node)}</a>` : '')

/**
 * Whether texts have all words of a search.
 * @param {string[]} words  in lower case
 * @param {(string | undefined)[]} texts
 */
function has(words, ...texts) {
  const text = texts.join(' ').toLowerCase()
  return words.every((w) => text.includes(w))
}
