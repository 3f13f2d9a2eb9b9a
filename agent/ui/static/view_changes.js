// Changes: who came, went and changed, and why, the newest first.
import { Beginning, Changes as ChangeTable, FeedBanner, kinds, matchesChange } from './changes.js'
import { fleet } from './fleet.js'
import { count, number, shown } from './format.js'
import { useHistory } from './history.js'
import { html, useComputed, useEffect, useLayoutEffect, useRef, useSignal } from './html.js'
import { Filters, Search, useTitle, wordsOf } from './parts.js'
import { go, href, place } from './router.js'

/** @typedef {import('../types.js').Change} Change */

/** @param {{service: string}} p */
export function Changes({ service }) {
  const feed = useHistory({ service })
  const name = useComputed(() => fleet.summaries.value.find((s) => s.key === service.toLowerCase())?.name ?? service).value
  useTitle(name ? `Changes of ${shown(name)}` : 'Changes')
  const table = useRef(/** @type {HTMLElement | null} */ (null))
  const all = feed.changes.value
  const { length, newer } = useHold(table, all)
  const list = all.slice(0, length)
  const { q, only } = place.value
  const words = wordsOf(q)
  const fits = kinds[Object.hasOwn(kinds, only) ? only : '']
  const rows = list.filter((c) => fits(c) && matchesChange(c, words)).reverse()
  const n = (/** @type {string} */ key) => list.filter(kinds[key]).length
  const state = feed.link.value.state
  return html`
    <h1 tabindex="-1">${name ? html`Changes of ${shown(name)}` : 'Changes'}</h1>
    <${FeedBanner} feed=${feed} />
    <div class="tools">
      <${ServiceFilter} service=${service} />
      <${Search} label="Search changes, reasons" />
      <${Filters} choices=${[
        { only: '', label: 'All', n: list.length }, { only: 'came', label: 'Came', n: n('came') }, { only: 'went', label: 'Went', n: n('went') },
        { only: 'changed', label: 'Changed', n: n('changed') }, { only: 'gaps', label: 'Gaps', n: n('gaps') },
      ]} />
    </div>
    ${state === 'reading' && !all.length ? html`<p class="start">Asking the agent for the changes …</p>` : html`
      <div ref=${table}>
        <p class="newer">${newer > 0 && html`<button type="button" class="main" onClick=${showNewest}>${count(newer, 'new change')}, show</button>`}</p>
        ${(rows.length > 0 || (feed.known.value && state !== 'off' && state !== 'refused')) && html`<${ChangeTable} label="Changes, the newest first" changes=${rows} empty=${list.length ? `None of ${number(list.length)} changes matches.` : 'There is no change yet. Those to come appear here by themselves.'} />`}
      </div>
      <${Beginning} feed=${feed} of=${name ? ` of ${shown(name)}` : ''} />`}`
}

/**
 * Keeps the rows where they are while the reader is further down, or goes from row to row: new
 * changes wait at the top. It returns how many changes are shown, and how many wait.
 * @param {{current: HTMLElement | null}} table
 * @param {Change[]} all
 */
function useHold(table, all) {
  const held = useSignal('') // the cursor of the newest change that is shown
  const newest = useRef('')
  newest.current = all.at(-1)?.cursor ?? ''
  useEffect(() => {
    const look = () => {
      const down = (table.current?.getBoundingClientRect().top ?? 0) < 0
      if (!down && !table.current?.querySelector('.table')?.contains(document.activeElement)) held.value = ''
      else if (!held.peek()) held.value = newest.current
    }
    const left = () => setTimeout(look) // the focus is nowhere yet
    addEventListener('scroll', look, { passive: true })
    addEventListener('focusin', look)
    addEventListener('focusout', left)
    return () => {
      removeEventListener('scroll', look)
      removeEventListener('focusin', look)
      removeEventListener('focusout', left)
    }
  }, [])
  if (!held.value) return { length: all.length, newer: 0 }
  const length = all.findLastIndex((c) => c.cursor === held.value) + 1 || all.length
  return { length, newer: all.length - length }
}

function showNewest() {
  scrollTo(0, 0)
  const heading = document.querySelector('main h1')
  if (heading instanceof HTMLElement) heading.focus({ preventScroll: true })
}

/**
 * Chooses the service, which is kept in the URL. Any name can be typed: also that of a service that is gone.
 * @param {{service: string}} p
 */
function ServiceFilter({ service }) {
  const here = useSignal(false) // names are listed for who is about to choose
  const field = useRef(/** @type {HTMLInputElement | null} */ (null))
  useLayoutEffect(() => { // before anybody can see the field or type into it
    if (field.current) field.current.value = service
  }, [service]) // not whenever the view is drawn: somebody may be typing
  /** @param {string} name */
  const choose = (name) => {
    if (name !== service) go({ ...place.value, view: 'changes', service: name })
  }
  return html`
    <div class="filter">
      <input type="text" ref=${field} list="service-names" aria-label="Service" placeholder="All services" autocomplete="off" spellcheck=${false}
        onFocus=${() => (here.value = true)} onBlur=${() => (here.value = false)} onChange=${(/** @type {any} */ e) => choose(e.target.value.trim())} />
      <datalist id="service-names">${here.value && fleet.summaries.value.map((s) => html`<option value=${s.name} key=${s.key} />`)}</datalist>
      ${service && html`<a href=${href({ view: 'changes' })}>All services</a>`}
    </div>`
}
