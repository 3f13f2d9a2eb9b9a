// A key: its value as text, JSON or hex, and what it was before.
import { count, number, shown } from './format.js'
import { html, useMemo, useSignal } from './html.js'
import { Command, useTitle } from './parts.js'
import { href, place, refine } from './router.js'
import { command } from './shell.js'
import { openDelete, openEdit, openNew } from './state_edit.js'
import { useKey } from './state_follow.js'
import { History } from './state_history.js'
import { crumbs } from './state_keys.js'
import { Wrong } from './state_parts.js'
import { keyPath, whyNoKey } from './state_tree.js'
import { bytesOf, dump, formOf, indent, isJSON, lines, textOf } from './state_value.js'

/** @typedef {import('../types.js').KVItem} KVItem */

/** @param {{name: string}} p */
export function Key({ name }) {
  useTitle(shown(name))
  const why = whyNoKey(name)
  const { known, item, deleted, problem } = useKey(why ? '' : keyPath(name))
  const { open, dir, q } = place.value
  return html`
    <p class="path"><a href=${href({ view: 'state', open, dir, q })}>Shared state</a>${crumbs(name)}</p>
    <h1 tabindex="-1" class="key">${shown(name)}</h1>
    ${why ? html`<p class="banner warning"><span>No agent reads or writes this key: ${why}. Another program wrote it into etcd; etcdctl shows it.</span></p>` : html`
      <${Wrong} problem=${problem} />
      ${!known && !problem && html`<p class="start">Asking the agent for the key …</p>`}
      ${known && deleted > 0 && (item
        ? html`<p class="banner critical" role="status"><span>It was deleted, or has expired, by revision ${number(deleted)}. Below is what was last known.</span></p>`
        : html`<p class="banner warning" role="status"><span>The key is not there. If it is written, it appears here by itself.</span></p>`)}
      ${known && html`
        <div class="buttons">
          ${deleted ? html`<button type="button" onClick=${() => openNew(name, item ? bytesOf(item.value) : undefined)}>Write it …</button>` : item && html`
            <button type="button" onClick=${() => openEdit(item)}>Edit …</button>
            <button type="button" onClick=${() => openDelete(item)}>Delete …</button>`}
        </div>
        ${item && html`<${Value} item=${item} />`}`}
      <${History} ready=${known || problem !== null} name=${name} item=${deleted ? null : item} revision=${deleted || (item?.revision ?? 0)} />
      <p class="note">The same in a terminal: <${Command} command=${command('disc', 'kv', 'get', ...(name.startsWith('-') ? ['--'] : []), name)} /></p>`}`
}

/** @param {{item: KVItem}} p */
function Value({ item }) {
  const bytes = useMemo(() => bytesOf(item.value), [item.value])
  return html`
    <dl class="facts">
      <div><dt>Revision</dt><dd>${number(item.revision)}, made at ${number(item.created)}</dd></div>
      <div><dt>Size</dt><dd>${count(bytes.length, 'byte')}</dd></div>
      <div><dt>Expires</dt><dd>${item.expires ? 'yes: it has a time to live, which its history shows' : 'no'}</dd></div>
    </dl>
    <section aria-labelledby="value"><${Shown} bytes=${bytes} label="Value" /></section>`
}

const forms = /** @type {const} */ ([['text', 'Text'], ['json', 'JSON'], ['hex', 'Hex']])

/** What is drawn before the reader asks for all, in characters or bytes. */
const part = 32_768

/**
 * A value in the form that the reader chose, which the URL has.
 * @param {{bytes: Uint8Array, label: string}} p
 */
function Shown({ bytes, label }) {
  const whole = useSignal(false)
  const text = useMemo(() => textOf(bytes), [bytes])
  const json = useMemo(() => isJSON(text), [text])
  const wanted = place.value.as
  const fits = /** @type {Record<string, boolean>} */ ({ text: text !== null, json, hex: true })
  const form = fits[wanted] ? wanted : formOf(bytes)
  const most = whole.value ? Infinity : part
  const content = useMemo(() => valueAs(bytes, text, form, most), [bytes, form, most])
  return html`
    <div class="tools"><h2 id="value">${label}</h2>
      <div class="filters" role="group" aria-label="Show as">
        ${forms.map(([as, name]) => html`<button type="button" key=${as} aria-pressed=${form === as} disabled=${!fits[as]} onClick=${() => refine({ as })}>${name}</button>`)}
      </div></div>
    ${bytes.length ? html`<pre tabindex="0" class=${`value ${form}`} aria-labelledby="value">${content.text}</pre>` : html`<p class="note">It is empty.</p>`}
    ${content.cut && html`<p class="note">This is the beginning of it. <button type="button" onClick=${() => (whole.value = true)}>Show all ${count(bytes.length, 'byte')}</button></p>`}`
}

/**
 * @param {Uint8Array} bytes
 * @param {string | null} text
 * @param {string} form
 * @param {number} most
 */
function valueAs(bytes, text, form, most) {
  if (form === 'hex' || text === null) return { text: dump(bytes, Math.min(bytes.length, most / 4)), cut: bytes.length > most / 4 }
  const all = form === 'json' ? indent(text, most) : text
  return { text: lines(all.slice(0, most)), cut: all.length > most }
}
