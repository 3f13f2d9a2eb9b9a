// Where the reader is: all of it is in the URL, so that a view can be sent to a colleague.
import { signal } from './html.js'

/**
 * What the URL says. A key that is "" is not in the URL.
 * @typedef {object} Place
 * @property {'now' | 'nodes' | 'changes' | 'state' | 'try'} view   but for changes: without a service
 * @property {string} service
 * @property {string} instance        of the service
 * @property {string} node            of the nodes
 * @property {string} name            that is tried, with tag, zone and pick
 * @property {string} tag
 * @property {string} zone
 * @property {string} pick
 * @property {string} q               the search
 * @property {string} only            which rows: see the views
 * @property {string} tab             of shared state: "" is keys
 * @property {string} dir             that alone is shown of the keys
 * @property {string} open            the directories of keys that are open
 * @property {string} key
 * @property {string} as              how its value is shown
 */

const views = /** @type {const} */ (['now', 'nodes', 'changes', 'state', 'try'])
const keys = /** @type {const} */ (['view', 'service', 'instance', 'node', 'name', 'tag', 'zone', 'pick', 'q', 'only', 'tab', 'dir', 'open', 'key', 'as'])

/**
 * @param {string} search
 * @returns {Place}
 */
export function parse(search) {
  const given = new URLSearchParams(search)
  /** @param {string} key */
  const get = (key) => given.get(key) ?? ''
  return {
    view: views.find((v) => v === get('view')) ?? 'now',
    service: get('service'), instance: get('instance'), node: get('node'),
    name: get('name'), tag: get('tag'), zone: get('zone'), pick: get('pick'), q: get('q'), only: get('only'),
    tab: get('tab'), dir: get('dir'), open: get('open'), key: get('key'), as: get('as'),
  }
}

/**
 * The address of a place.
 * @param {Partial<Place>} to
 */
export function href(to) {
  const query = new URLSearchParams()
  for (const key of keys) {
    const value = to[key]
    if (value && value !== 'now') query.set(key, value)
  }
  const text = query.toString()
  return text ? `/?${text}` : '/'
}

/** The place that is shown. */
export const place = signal(parse(location.search))

/** How often the reader has gone to another page; a search is none. */
export const visits = signal(0)

/** @param {Partial<Place>} to */
export function go(to) {
  if (writing) write()
  history.pushState(null, '', href(to))
  place.value = parse(location.search)
  visits.value++
  window.scrollTo(0, 0)
}

/**
 * Browsers take 200 new addresses in 10 s, or 100 in 30 s. A key that is held down makes more: beyond
 * so many in the span one is written in each pause.
 */
const most = 50
const span = 30_000
const pause = 1000

let spanBegan = 0
let written = 0 // in the span
/** @type {ReturnType<typeof setTimeout> | undefined} */
let writing

function write() {
  clearTimeout(writing)
  writing = undefined
  history.replaceState(null, '', href(place.value))
}

/**
 * Changes the place without a new step in the browser's history, as while a search is typed.
 * @param {Partial<Place>} change
 */
export function refine(change) {
  place.value = parse(href({ ...place.value, ...change }).slice(1))
  if (Date.now() - spanBegan > span) [spanBegan, written] = [Date.now(), 0]
  if (++written <= most) write()
  else writing ??= setTimeout(write, pause)
}

/**
 * Follows links to places without loading the page again.
 * @param {MouseEvent} event
 */
function follow(event) {
  const link = event.target instanceof Element ? event.target.closest('a') : null
  const plain = event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey
  if (!link || !plain || event.defaultPrevented || link.origin !== location.origin || link.pathname !== '/') return
  event.preventDefault()
  go(parse(link.search))
}

export function startRouter() {
  document.addEventListener('click', follow)
  window.addEventListener('popstate', () => {
    clearTimeout(writing) // the address is that of another place by now
    writing = undefined
    place.value = parse(location.search)
    visits.value++
  })
}
