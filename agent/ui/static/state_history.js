// What a key was before, as etcd still has it.
import { asProblem, askJSON, token } from './api.js'
import { count, number, seconds, span } from './format.js'
import { html, useEffect, useRef, useSignal } from './html.js'
import { place, refine } from './router.js'
import { openEdit, openNew } from './state_edit.js'
import { Wrong } from './state_parts.js'
import { keyPath } from './state_tree.js'
import { bytesOf, dump, isPlain, lines, textOf } from './state_value.js'
import { joined } from './state_versions.js'

/** @typedef {import('./api.js').Problem} Problem */
/** @typedef {import('../types.js').KVItem} KVItem */
/** @typedef {import('../types.js').KVVersion} KVVersion */
/** @typedef {{versions: KVVersion[], older: string, problem: Problem | null, busy: boolean}} Read */

const page = 10

const pause = 1000 // after one request for the newest versions, in milliseconds

/**
 * @param {object} p
 * @param {string} p.name
 * @param {boolean} p.ready         the key was read, or cannot be
 * @param {KVItem | null} p.item    as it is now
 * @param {number} p.revision       another one after each change
 */
export function History({ name, ready, item, revision }) {
  const open = place.value.only === 'history'
  const state = useSignal(/** @type {Read} */ ({ versions: [], older: '', problem: null, busy: false }))
  const given = token.value
  /** @param {number} from  a revision; 0: now */
  const read = async (from) => {
    state.value = { ...state.peek(), busy: true, problem: null }
    try {
      const answer = await askJSON(`${keyPath(name)}?history&max=${page}${from ? `&rev=${from}` : ''}`)
      state.value = { ...joined(state.peek(), answer, from, page), problem: null, busy: false }
    } catch (error) {
      const problem = asProblem(error)
      // There is nothing before what is shown.
      if (problem.status === 404 && state.peek().versions.length) state.value = { ...state.peek(), older: 'compacted', busy: false }
      else state.value = { ...state.peek(), problem, busy: false }
    }
  }
  const newest = useRef({ ended: false, reads: false, again: false }).current
  /** Reads the newest versions, one request at a time: a key may change more often than etcd can be asked. */
  const readNewest = async () => {
    newest.again = true
    if (newest.reads) return
    newest.reads = true
    while (newest.again && !newest.ended) {
      newest.again = false
      await read(0)
      if (newest.again) await new Promise((resolve) => setTimeout(resolve, pause))
    }
    newest.reads = false
  }
  useEffect(() => () => { newest.ended = true }, [])
  useEffect(() => {
    if (open && ready) readNewest()
  }, [name, open, ready, revision, given])
  const { versions, older, problem, busy } = state.value
  return html`
    <section aria-labelledby="history">
      <div class="tools"><h2 id="history">History</h2>
        <button type="button" aria-expanded=${open} onClick=${() => refine({ only: open ? '' : 'history' })}>${open ? 'Hide it' : 'Show it'}</button></div>
      ${open && html`
        <${Wrong} problem=${problem} once />
        <ol class="versions">${versions.map((v) => html`<li key=${`${v.revision}/${v.deleted ?? false}`}><${Version} v=${v} name=${name} item=${item} /></li>`)}</ol>
        ${busy && html`<p class="note">Asking etcd …</p>`}
        ${!busy && older === 'more' && html`<p><button type="button" onClick=${() => read(versions[versions.length - 1].revision - 1)}>Earlier ones</button></p>`}
        ${!busy && older === 'compacted' && html`<p class="note">etcd has compacted what was before.</p>`}
        ${!busy && older === 'none_found' && html`<p class="note">Nothing earlier was found.</p>`}`}
    </section>`
}

/** @param {{v: KVVersion, name: string, item: KVItem | null}} p */
function Version({ v, name, item }) {
  if (v.deleted) return html`<p><b>${number(v.revision)}</b> deleted, or expired</p>`
  const bytes = bytesOf(v.value ?? '')
  const now = item?.revision === v.revision
  const expires = v.expires ? (v.expires_in ? `, expires in ${span(seconds(v.expires_in))}` : ', had a time to live') : ''
  const again = () => (item ? openEdit(item, bytes) : openNew(name, bytes))
  return html`
    <details>
      <summary><b>${number(v.revision)}</b> ${v.number === 1 ? 'created' : 'changed'}, ${count(bytes.length, 'byte')}${expires}${now ? ', as it is now' : ''} <code>${brief(bytes)}</code></summary>
      <pre tabindex="0" aria-label=${`Value at revision ${v.revision}`}>${brief(bytes, 32_768)}</pre>
      ${!now && html`<button type="button" onClick=${again}>Write it again …</button>`}
    </details>`
}

/**
 * The beginning of a value.
 * @param {Uint8Array} bytes
 * @param {number} [most]
 */
function brief(bytes, most = 0) {
  const text = textOf(bytes)
  if (isPlain(text)) return lines(most ? text.slice(0, most) : text.slice(0, 80).replace(/\s+/g, ' '))
  return dump(bytes, most ? most / 4 : 16).slice(most ? 0 : 10)
}
