// A table of any length, of which only the rows in view are in the document.
import { html, useEffect, useLayoutEffect, useRef, useSignal } from './html.js'

/** @typedef {{key: string, label: string, hidden?: boolean}} Column */

/** Rows beyond both ends of the view. */
const beyond = 12

const narrow = matchMedia('(max-width: 720px)')

/**
 * The height of a row, and the rows in view: from first to before last.
 * @param {{current: HTMLElement | null}} body
 * @param {[number, number]} heights
 */
function useView(body, heights) {
  const height = useSignal(heights[narrow.matches ? 1 : 0])
  const first = useSignal(0)
  const last = useSignal(60)
  useLayoutEffect(() => {
    const look = () => {
      if (!body.current) return
      height.value = heights[narrow.matches ? 1 : 0]
      const top = Math.floor(-body.current.getBoundingClientRect().top / height.value)
      const from = Math.max(0, top - beyond)
      // In steps, so that most scrolling draws nothing.
      first.value = from - (from % 6)
      last.value = first.value + Math.ceil(innerHeight / height.value) + 2 * beyond + 6
    }
    look()
    addEventListener('scroll', look, { passive: true })
    addEventListener('resize', look)
    return () => {
      removeEventListener('scroll', look)
      removeEventListener('resize', look)
    }
  }, [])
  return { height: height.value, first: first.value, last: last.value }
}

/**
 * Keys from row to row. focused is the row with the focus, which stays in the document; -1: none.
 * @param {{current: HTMLElement | null}} body
 * @param {number} rows
 * @param {number} height  of a row
 */
function useRowKeys(body, rows, height) {
  const focused = useSignal(-1)
  const wanted = useRef(-1) // the row that gets the focus once it is drawn

  // Focuses the wanted row, if there is one and it is drawn.
  const focusWanted = () => {
    const link = wanted.current < 0 ? null : body.current?.querySelector(`[data-row="${wanted.current}"] :is(a, [tabindex])`)
    if (!(link instanceof HTMLElement)) return
    wanted.current = -1
    link.focus({ preventScroll: true })
    link.closest('[role=row]')?.scrollIntoView({ block: 'nearest' })
  }
  useEffect(focusWanted)

  /** @param {KeyboardEvent} event */
  const onKeyDown = (event) => {
    const at = rowOf(event.target)
    const page = Math.max(1, Math.floor(innerHeight / height) - 4)
    const step = /** @type {Record<string, number>} */ ({ ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -rows, End: rows })[event.key]
    if (at < 0 || step === undefined || event.ctrlKey || event.metaKey || event.altKey) return
    event.preventDefault()
    const to = Math.min(rows - 1, Math.max(0, at + step))
    wanted.current = to
    focusWanted() // at once, so that the next key finds it there
    if (wanted.current >= 0) focused.value = to // it is drawn first
  }
  return {
    focused: focused.value, onKeyDown,
    onFocusIn: (/** @type {FocusEvent} */ e) => (focused.value = rowOf(e.target)),
    onFocusOut: () => { if (wanted.current < 0) focused.value = -1 },
  }
}

/**
 * @template T
 * @param {object} p
 * @param {string} p.label          what the table has, for screen readers
 * @param {string} p.kind           the class of the table, which has its columns
 * @param {Column[]} p.columns
 * @param {T[]} p.rows
 * @param {(row: T) => string} p.keyOf
 * @param {(row: T) => any[]} p.cells
 * @param {(row: T) => string} [p.rowClass]
 * @param {string} p.empty          what is said of no rows
 * @param {[number, number]} p.heights  of a row: on a wide screen, and on a narrow one
 */
export function Table({ label, kind, columns, rows, keyOf, cells, rowClass, empty, heights }) {
  const body = useRef(/** @type {HTMLElement | null} */ (null))
  const { height, first, last } = useView(body, heights)
  const { focused, onKeyDown, onFocusIn, onFocusOut } = useRowKeys(body, rows.length, height)
  const visible = columns.map((c) => !c.hidden)
  return html`
    <div role="table" class=${`table ${kind}`} aria-label=${label} aria-rowcount=${rows.length + 1} onKeyDown=${onKeyDown} onFocusIn=${onFocusIn} onFocusOut=${onFocusOut}>
      <div role="rowgroup" class="head"><div role="row" aria-rowindex="1" class="row">
        ${columns.map((c, n) => visible[n] && html`<div role="columnheader" class=${`cell ${c.key}`} key=${c.key}>${c.label}</div>`)}
      </div></div>
      ${!rows.length && html`<div role="rowgroup"><div role="row" class="empty"><div role="cell">${empty}</div></div></div>`}
      <div role=${rows.length ? 'rowgroup' : 'presentation'} class="body" ref=${body} style=${{ height: `${rows.length * height}px` }}>
        ${drawn(rows.length, first, last, focused).map((n) => {
          const row = rows[n]
          return html`
            <div role="row" aria-rowindex=${n + 2} data-row=${n} key=${keyOf(row)} class=${`row ${rowClass?.(row) ?? ''}`}
              style=${{ transform: `translateY(${n * height}px)`, height: `${height}px` }}>
              ${cells(row).map((value, k) => visible[k] && html`<div role="cell" class=${`cell ${columns[k].key}`} key=${columns[k].key}>${value}</div>`)}
            </div>`
        })}
      </div>
    </div>`
}

/**
 * The rows that are in the document, in their order: those from first to before last, and the one with the focus.
 * @param {number} rows
 * @param {number} first
 * @param {number} last
 * @param {number} focused
 */
function drawn(rows, first, last, focused) {
  const list = []
  const end = Math.min(rows, last)
  if (focused >= 0 && focused < first && focused < rows) list.push(focused)
  for (let n = first; n < end; n++) list.push(n)
  if (focused >= end && focused < rows) list.push(focused)
  return list
}

/**
 * The number of the row that an element is in; -1: none.
 * @param {EventTarget | null} target
 */
function rowOf(target) {
  const row = target instanceof Element ? target.closest('[data-row]') : null
  return row ? Number(row.getAttribute('data-row')) : -1
}
