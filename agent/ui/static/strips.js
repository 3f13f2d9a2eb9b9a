// A strip for each service: how many of its instances were healthy in the last minutes.
import { ask, jsonOf, Problem } from './api.js'
import { fleet } from './fleet.js'
import { seconds } from './format.js'
import { computed, effect, html, useComputed } from './html.js'
import { agent, link, now } from './live.js'
import { hiddenTime } from './seen.js'
import { inWords, slotOf, slots, slotTime, Tracks } from './tracks.js'

/** @typedef {import('./tracks.js').Counts} Counts */
/** @typedef {import('./fleet.js').Summary} Summary */

/** The most changes that the agent gives at once. Of earlier ones, nothing is drawn. */
const most = 10_000
const timeout = 20_000

const tracks = new Tracks()
const slotNow = computed(() => slotOf(now.value))
const trusted = computed(() => link.value.state === 'live' && !!agent.value && !agent.value.status.catalog.stale && fleet.known.value)

/** Takes note of each change of a service from now on, and of what the agent knows of before. */
export function startStrips() {
  effect(takeNote)
  let before = false
  effect(() => {
    if (trusted.value === before) return
    before = trusted.value
    if (before) return void load()
    const a = agent.peek()
    const stale = a?.status.catalog.stale ? 1000 * seconds(a.status.catalog.age) : 0
    tracks.lose(Date.now() - stale)
  })
  let hidden = 0
  document.addEventListener('visibilitychange', () => {
    if (document.hidden) hidden = Date.now()
    else if (hidden && Date.now() - hidden > hiddenTime && trusted.peek()) {
      tracks.lose(hidden) // a page that nobody sees does not follow the changes
      load()
    }
  })
}

/** The summaries that were taken note of. @type {Map<string, Summary>} */
let noted = new Map()

function takeNote() {
  const at = Date.now()
  const list = fleet.summaries.value
  const before = noted
  noted = new Map(list.map((s) => [s.key, s]))
  for (const s of list) {
    if (before.get(s.key) !== s) tracks.record(s.key, at, { healthy: s.healthy, out: s.total - s.healthy, unsure: 0 })
  }
  for (const key of before.keys()) if (!noted.has(key)) tracks.record(key, at, { healthy: 0, out: 0, unsure: 0 })
  tracks.changed()
}

/** Reads what the agent knows of the last minutes. From now on, the page sees it itself. */
async function load() {
  const began = Date.now()
  const minutes = (slots * slotTime) / 60_000
  tracks.found(began)
  if (!keepsHistory()) return
  try {
    const answer = await ask(`/v1/history?since=${minutes}m&limit=${most}`, { signal: AbortSignal.timeout(timeout) })
    const history = await jsonOf(answer)
    if (!trusted.peek()) return
    // The clock of the agent, to the second.
    const date = Date.parse(answer.headers.get('Date') ?? '')
    const skew = Number.isNaN(date) ? 0 : date + 500 - (began + Date.now()) / 2
    tracks.rebuild(history, began - minutes * 60_000, Math.abs(skew) < 1000 ? 0 : skew, (key) => fleet.instances(key), fleet.summaries.peek().map((s) => s.key))
  } catch (error) {
    // What the agent does not say is drawn as not known; the link says what is wrong.
    if (!(error instanceof Problem) && !(error instanceof DOMException)) console.error(error)
  }
}

/** Whether the agent may have a history: where its settings may be seen, they say so. */
function keepsHistory() {
  const bytes = agent.peek()?.status.settings.find((s) => s.name === 'catalog.history_bytes')?.value
  return bytes === undefined || parseInt(String(bytes), 10) !== 0
}

/** @param {{service: string}} p */
export function Strip({ service }) {
  const list = useComputed(() => {
    tracks.changes.value
    slotNow.value
    return tracks.read(service, Date.now())
  }).value
  const most = Math.max(1, ...list.map((c) => (c ? c.healthy + c.unsure + c.out : 0)))
  const words = inWords(list)
  return html`
    <svg class="strip" viewBox="0 0 ${slots} ${height}" preserveAspectRatio="none" role="img" aria-label=${words}>
      <title>${words}</title>
      <path class="known" d=${area(list, () => 0, (c) => (c.unsure ? c.healthy : most), most) + area(list, (c) => c.healthy + c.unsure, () => most, most)} />
      <path class="up" d=${area(list, () => 0, (c) => c.healthy, most)} />
      <path class="out" d=${area(list, (c) => c.healthy + c.unsure, (c) => c.healthy + c.unsure + (c.healthy ? c.out : 0), most)} />
      <path class="none" d=${area(list, (c) => c.unsure, (c) => (c.healthy ? 0 : c.unsure + c.out), most)} />
    </svg>`
}

const height = 20

/**
 * The outline of what lies between two numbers of each slot.
 * @param {(Counts | null)[]} list
 * @param {(c: Counts) => number} from
 * @param {(c: Counts) => number} to
 * @param {number} most
 */
function area(list, from, to, most) {
  let path = ''
  const y = (/** @type {number} */ n) => +(height - (height * n) / most).toFixed(2)
  for (let n = 0; n < list.length; ) {
    const c = list[n]
    const first = n++
    if (!c || to(c) <= from(c)) continue
    while (n < list.length && list[n] && from(/** @type {Counts} */ (list[n])) === from(c) && to(/** @type {Counts} */ (list[n])) === to(c)) n++
    path += `M${first} ${y(from(c))}V${y(to(c))}H${n}V${y(from(c))}Z`
  }
  return path
}
