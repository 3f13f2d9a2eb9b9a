// How changes are shown, on their own view and on that of an instance.
import { keyOf } from './fleet.js'
import { moment, number, shown } from './format.js'
import { computed, html, useSignal } from './html.js'
import { now } from './live.js'
import { Mark } from './parts.js'
import { href } from './router.js'
import { Table } from './table.js'

/** @typedef {import('../types.js').Change} Change */
/** @typedef {import('./history.js').Feed} Feed */

/** Changes of what the agent sees, not of an instance. @type {Record<string, string>} */
const ofTheView = { gap: 'gap', started_over: 'started over', watched: 'watched', unwatched: 'not watched' }

/** @type {Record<string, (c: Change) => boolean>} */
export const kinds = {
  '': () => true,
  came: (c) => c.change === 'added' || c.change === 'returned',
  went: (c) => c.change === 'gone' || c.change === 'suspect',
  changed: (c) => c.change === 'changed',
  gaps: (c) => c.change in ofTheView,
}

/** Fields that the reason tells already, or that are of no use to people. */
const inWhy = ['checks', 'override', 'owner', 'run']

/**
 * The fields of a change with both values.
 * @param {Change} c
 */
function values(c) {
  const parts = (c.fields ?? []).filter((f) => !inWhy.includes(f.field)).map((f) =>
    f.from === '' && c.change === 'added' ? `${shown(f.field)} ${shown(f.to)}` : `${shown(f.field)} ${shown(f.from) || '–'} → ${shown(f.to) || '–'}`)
  const lasted = c.since ? [`${seenAt(c.since)} – ${seenAt(c.seen)}`] : []
  return [...lasted, ...parts, ...(c.cut ? ['…'] : [])].join(', ')
}

const today = computed(() => new Date(now.value).toDateString())

/**
 * Why a change happened. Of a gap the agent says that what it found follows, and here it is above.
 * @param {Change} c
 */
const reasonOf = (c) => (c.change === 'gap' && c.since
  ? 'this agent was cut off from etcd: what it found by comparing afterwards is marked so, and what came and went meanwhile is missing' : shown(c.why))

/**
 * A time by the clock of the agent.
 * @param {string | undefined} time
 */
function seenAt(time) {
  const at = time ? new Date(time) : null
  if (!at || Number.isNaN(at.getTime())) return ''
  const clock = at.toLocaleTimeString('en-GB')
  return at.toDateString() === today.value ? `~${clock}` : `~${at.toLocaleDateString('en-GB', { day: 'numeric', month: 'short' })} ${clock}`
}

const tones = ['passing', 'warning', 'critical']

/**
 * How bad a change is; "": it says nothing of that.
 * @param {Change} c
 */
function toneOf(c) {
  const status = c.fields?.find((f) => f.field === 'status')?.to ?? ''
  switch (c.change) {
    case 'gone':
      return c.reason === 'left' || c.reason === 'static' ? 'down' : 'critical'
    case 'suspect':
      return 'suspect'
    case 'gap':
    case 'started_over':
    case 'unwatched':
      return 'gap'
  }
  return tones.includes(status) ? status : ''
}

/**
 * Whether a change has all words of a search somewhere.
 * @param {Change} c
 * @param {string[]} words  in lower case
 */
export function matchesChange(c, words) {
  if (!words.length) return true
  const text = `${c.service ?? ''}/${c.id ?? ''} ${c.change} ${ofTheView[c.change] ?? ''} ${c.reason ?? ''} ${c.revision} ${c.why} ${values(c)}`.toLowerCase()
  return words.every((word) => text.includes(word))
}

const columns = [
  { key: 'seen', label: 'Seen' }, { key: 'revision', label: 'Revision' }, { key: 'name', label: 'Instance' },
  { key: 'change', label: 'Change' }, { key: 'what', label: 'What' }, { key: 'why', label: 'Why' },
]

/**
 * The table of changes.
 * @param {{label: string, changes: Change[], empty: string}} p
 */
export function Changes({ label, changes, empty }) {
  return html`<${Table} label=${label} kind="changes" columns=${columns} rows=${changes} heights=${[30, 84]} empty=${empty}
    keyOf=${(/** @type {Change} */ c) => c.cursor} rowClass=${toneOf} cells=${cells} />`
}

/** @param {Change} c */
function cells(c) {
  const tone = toneOf(c)
  const kind = ofTheView[c.change] ?? shown(c.change)
  const what = values(c)
  const why = reasonOf(c)
  return [
    html`<time datetime=${c.seen} title=${`${moment(c.seen)}, by the clock of the agent`}>${seenAt(c.seen)}</time>`,
    c.revision ? number(c.revision) : '',
    nameOf(c),
    html`<${Mark} word=${tone === 'gap' ? '' : tone}>${kind}</${Mark}>`,
    html`<span title=${what}>${what}</span>`,
    html`${c.listed && html`<span class="tag" title="found by comparing with etcd: there may have been other changes before it">compared</span> `}<span title=${why}>${why}</span>`,
  ]
}

/**
 * The instance that a change is of, or all of a service, or all.
 * @param {Change} c
 */
function nameOf(c) {
  if (!c.service) return html`<span tabindex="-1">all</span>`
  if (!c.id) return html`<a href=${href({ service: keyOf(c.service) })}>${shown(c.service)}</a>`
  return html`<a href=${href({ service: keyOf(c.service), instance: c.id })}>${shown(`${c.service}/${c.id}`)}</a>`
}

const firstShown = 50
const nextShown = 500

/**
 * The changes of one instance, with all that there is to say of each.
 * @param {{label: string, feed: Feed}} p
 */
export function ChangeList({ label, feed }) {
  const most = useSignal(firstShown)
  const all = feed.changes.value
  const list = all.slice(-most.value).reverse()
  return html`
    <ul class="history" aria-label=${label}>${list.map((c) => {
      const [seen, revision, , change, what, why] = cells(c)
      return html`<li key=${c.cursor} class=${toneOf(c)}>${seen}<span class="note">rev ${revision}</span><span>${change}</span><span>${what} <span class="note">${why}</span></span></li>`
    })}</ul>
    ${list.length < all.length && html`<p class="buttons"><button type="button" onClick=${() => (most.value += nextShown)}>Show more of ${number(all.length)}</button></p>`}`
}

/**
 * Says what keeps the changes from being up to date, if something does.
 * @param {{feed: Feed}} p
 */
export function FeedBanner({ feed }) {
  const { state, why } = feed.link.value
  if (state === 'away') return html`<p class="banner critical" role="status"><span>${shown(why)} ${feed.known.value ? 'The changes below stay; those to come follow when it is back.' : 'The changes come when it is back.'}</span></p>`
  if (state === 'refused') return html`<p class="banner critical" role="status"><span>The agent refuses to show the changes: ${shown(why)}.</span></p>`
  if (state === 'off') return html`<p class="banner warning" role="status"><span>No changes are shown: ${shown(why)}.</span></p>`
  return null
}

/**
 * Says where the changes begin, and reads older ones.
 * @param {{feed: Feed, of: string}} p
 */
export function Beginning({ feed, of }) {
  const begins = feed.begins.value
  const state = feed.link.value.state
  if (!begins) {
    if (!feed.known.value || state === 'off' || state === 'refused') return null
    return html`<p class="note">This agent has seen no changes${of}${feed.watched.value ? '' : ', and does not watch for them'}.</p>`
  }
  return html`
    ${feed.older.value && html`<p class="buttons"><button type="button" disabled=${feed.reading.value} onClick=${() => feed.readOlder()}>Older changes</button></p>`}
    ${feed.problem.value && html`<p class="banner critical" role="status"><span>Older changes were not read: ${shown(feed.problem.value)}</span></p>`}
    <p class="note">The history of this agent begins at revision ${number(begins.revision)}, ${seenAt(begins.seen)}${begins.dropped
      ? '; it had no room for what came before (catalog.history_bytes)' : ', when it began to watch'}.
      ${!feed.watched.value && ` It does not watch ${of ? 'this service' : 'all services'} now.`}</p>`
}
