// The keys as a tree. The agent lists the keys alone, from etcd, and copies no value for it.
import { count, number, shown } from './format.js'
import { html, useRef } from './html.js'
import { Search, useTitle, wordsOf } from './parts.js'
import { go, href, place, refine } from './router.js'
import { openNew } from './state_edit.js'
import { useAnswer } from './state_follow.js'
import { Wrong } from './state_parts.js'
import { dirsOf, found, joinDirs, keyPath, splitDirs, treeOf } from './state_tree.js'
import { Table } from './table.js'

/** @typedef {import('./state_tree.js').Node} Node */

const columns = [{ key: 'key', label: 'Key' }, { key: 'below', label: 'Below it' }]

export function Keys() {
  useTitle('Keys')
  const { dir, q } = place.value
  const { value, at, problem } = /** @type {import('./state_follow.js').Answered<string[]>} */ (
    useAnswer(`${dir ? keyPath(dir) : '/v1/kv'}?keys&consistency=linearizable`, { every: 500, waits: true }))
  const keys = value ?? []
  const open = splitDirs(place.value.open)
  const words = wordsOf(q)
  const rows = words.length ? found(keys, words) : treeOf(keys, dir, open)
  return html`
    ${dir && html`<p class="path"><a href=${href({ view: 'state' })}>All keys</a>${crumbs(dir)}</p>`}
    <div class="tools">
      <h2>${dir ? html`<span class="mono">${shown(dir)}</span>` : 'Keys'} <span class="n">${value ? (words.length ? `${number(rows.length)} of ${number(keys.length)}` : number(keys.length)) : ''}</span></h2>
      <${Search} label="Search keys" />
      <button type="button" onClick=${() => openNew(dir)}>New key …</button>
    </div>
    <${Wrong} problem=${problem} at=${value ? at : 0} />
    ${problem && !value && html`<${OneDirectory} />`}
    ${value ? html`
      <${Table} label="Keys" kind="keys" columns=${columns} rows=${rows} heights=${[28, 40]} keyOf=${(/** @type {Node} */ r) => r.key} cells=${(/** @type {Node} */ r) => cells(r, open)}
        rowClass=${(/** @type {Node} */ r) => (r.dir ? 'dir' : '')} empty=${keys.length ? 'No key matches.' : dir ? `No key is below ${shown(dir)}.` : 'No key is written.'} />`
      : !problem && html`<p class="start">Asking the agent for the keys …</p>`}`
}

/**
 * @param {Node} row
 * @param {Set<string>} open
 */
function cells(row, open) {
  const name = shown(row.name) || '(empty)'
  const style = { paddingLeft: `${Math.min(row.depth, 12) * 18}px` }
  if (!row.dir) return [html`<span style=${style}><span class="twist" aria-hidden="true"></span><a href=${href({ ...place.value, key: row.key })}>${name}</a></span>`, '']
  /** @param {boolean} want */
  const set = (want) => {
    const next = new Set([...open].filter((d) => want || !d.startsWith(row.key)))
    if (want) next.add(row.key)
    refine({ open: joinDirs(next) })
  }
  /** @param {Event} event */
  const toggle = (event) => {
    event.preventDefault()
    set(!row.open)
  }
  /** @param {KeyboardEvent} event */
  const arrows = (event) => {
    if (event.key === ' ' || (event.key === 'ArrowRight' ? !row.open : event.key === 'ArrowLeft' && row.open)) {
      event.preventDefault()
      set(!row.open)
    }
  }
  return [
    html`<span style=${style}><span class="twist" aria-hidden="true">${row.open ? '▾' : '▸'}</span><a href=${href({ view: 'state', dir: row.key })} role="button" aria-expanded=${row.open} onClick=${toggle} onKeyDown=${arrows}>${name}</a></span>`,
    html`<span class="note">${count(row.count, 'key')}</span>`,
  ]
}

/**
 * The directories that a key or a directory is in, as links.
 * @param {string} key
 */
export function crumbs(key) {
  let before = ''
  return dirsOf(key).map((dir) => {
    const name = dir.slice(before.length, -1)
    before = dir
    return html`<span key=${dir}> / <a href=${href({ view: 'state', dir })}>${shown(name) || '(empty)'}</a></span>`
  })
}

/** Where not all keys can be listed, one directory may be. */
function OneDirectory() {
  const field = useRef(/** @type {HTMLInputElement | null} */ (null))
  /** @param {Event} event */
  const submit = (event) => {
    event.preventDefault()
    const dir = field.current?.value ?? ''
    go({ view: 'state', dir: dir.endsWith('/') ? dir : `${dir}/` })
  }
  return html`
    <form class="panel fields" onSubmit=${submit}>
      <p>Keys of one directory may be shown where not all are.</p>
      <label>Directory <input ref=${field} type="text" name="dir" placeholder="app/" autocomplete="off" spellcheck=${false} required /></label>
      <div><button type="submit">Show it</button></div>
    </form>`
}
