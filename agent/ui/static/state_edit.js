// Writes and deletions of a key. What will change is shown before it is done, what somebody else has
// changed meanwhile is not overwritten, and each change can be undone.
import { ask, askJSON, asProblem, Problem } from './api.js'
import { Dialog } from './dialog.js'
import { count, number, shown } from './format.js'
import { html, signal, useEffect } from './html.js'
import { newest, notify } from './notices.js'
import { keyPath, whyNoKey } from './state_tree.js'
import { bytesOf, difference, excerpt, fromHex, hexOf, isPlain, same, textOf } from './state_value.js'
import { TokenForm } from './token.js'

/** @typedef {import('../types.js').KVItem} KVItem */

/**
 * What is to become of a key. base: as the reader knows it, null: it is not there; text: the value as
 * it is typed; moved: somebody else has changed it, now is what it is; open: the agent did not answer
 * a request for it, and may have done it.
 * @typedef {object} Draft
 * @property {number} id        another one each time that the dialog is opened
 * @property {string} key
 * @property {boolean} named    the key cannot be changed
 * @property {KVItem | null} base
 * @property {'text' | 'hex'} as
 * @property {string} text
 * @property {string} ttl
 * @property {boolean} remove
 * @property {{now: KVItem | null} | null} moved
 * @property {Problem | null} problem
 * @property {boolean} busy
 * @property {boolean} open
 */

const draft = signal(/** @type {Draft | null} */ (null))

let last = 0

/** @returns {Pick<Draft, 'id' | 'ttl' | 'moved' | 'problem' | 'busy' | 'open' | 'remove'>} */
const fresh = () => ({ id: ++last, ttl: '', moved: null, problem: null, busy: false, open: false, remove: false })

/**
 * Opens the dialog for a key that is not there.
 * @param {string} key  "" or a directory: the reader names it
 * @param {Uint8Array} [value]  to begin with
 */
export function openNew(key, value = new Uint8Array()) {
  draft.value = { ...fresh(), key, named: key !== '' && !key.endsWith('/'), base: null, ...typed(value) }
}

/**
 * @param {KVItem} item
 * @param {Uint8Array} [value]  to begin with, in place of what it has
 */
export function openEdit(item, value) {
  draft.value = { ...fresh(), key: item.key, named: true, base: item, ...typed(value ?? bytesOf(item.value)) }
}

/** @param {KVItem} item */
export function openDelete(item) {
  draft.value = { ...fresh(), key: item.key, named: true, base: item, as: 'text', text: '', remove: true }
}

/**
 * @param {Uint8Array} bytes
 * @returns {Pick<Draft, 'as' | 'text'>}
 */
function typed(bytes) {
  const text = textOf(bytes)
  return isPlain(text) ? { as: 'text', text } : { as: 'hex', text: hexOf(bytes) }
}

/**
 * The value that is typed; null: it is not in hex.
 * @param {Draft} d
 */
const valueOf = (d) => (d.as === 'text' ? new TextEncoder().encode(d.text) : fromHex(d.text))

/** @param {Partial<Draft>} change */
function edit(change) {
  if (draft.value) draft.value = { ...draft.value, ...change }
}

export function EditDialog() {
  useEffect(() => () => { draft.value = null }, []) // when the reader goes elsewhere
  const d = draft.value
  if (!d) return null
  const value = d.remove ? new Uint8Array() : valueOf(d)
  const why = d.named ? '' : whyNoKey(d.key)
  const will = !why && value ? consequences(d, value) : null
  const ready = !!will?.says.length && !d.busy && !d.moved
  const verb = d.remove ? 'Delete' : d.base ? 'Change' : 'Write'
  const title = d.named ? `${verb} ${shown(d.key)}` : 'New key'
  /** @param {Event} event */
  const submit = (event) => {
    event.preventDefault()
    if (ready && value) apply(d, value)
  }
  return html`
    <${Dialog} title=${title} onClose=${() => (draft.value = null)}>
      <form class="fields" onSubmit=${submit}>
        ${!d.named && html`<label>Key <input type="text" name="key" autofocus readonly=${d.busy} value=${d.key} autocomplete="off" spellcheck=${false} maxlength="512" onInput=${(/** @type {any} */ e) => edit({ key: e.target.value })} /></label>`}
        ${!d.remove && html`<${Fields} d=${d} value=${value} />`}
        <div class="preview" role="status">
          ${why ? `That is no key: ${why}.` : !value ? 'That is not hex: give two digits for each byte.' : will?.says.length ? html`<b>What will change</b>
            <ul>${will.says.map((line) => html`<li key=${line}>${line}</li>`)}</ul><${Lines} change=${will.change} />` : 'Nothing will change.'}
        </div>
        ${d.moved && html`<${Moved} d=${d} now=${d.moved.now} />`}
        ${d.problem && html`<p class="banner critical" role="alert"><span>${shown(d.problem.message)}</span></p>`}
        <div class="buttons">
          <button type="submit" class="main" disabled=${!ready} autofocus=${d.remove}>${title === 'New key' ? `Write ${shown(d.key)}` : title}</button>
          <button type="button" onClick=${() => (draft.value = null)}>Cancel</button>
        </div>
      </form>
      ${d.problem?.denied && html`<${TokenForm} done=${() => edit({ problem: null })} />`}
    </${Dialog}>`
}

/** @param {{d: Draft, value: Uint8Array | null}} p */
function Fields({ d, value }) {
  const text = value && textOf(value)
  return html`
    <fieldset><legend>Type it as</legend>
      <label class="check"><input type="radio" name="as" checked=${d.as === 'text'} disabled=${d.busy || !isPlain(text)} onChange=${() => edit({ as: 'text', text: text ?? '' })} /> text</label>
      <label class="check"><input type="radio" name="as" checked=${d.as === 'hex'} disabled=${d.busy || !value} onChange=${() => value && edit({ as: 'hex', text: hexOf(value) })} /> hex</label>
    </fieldset>
    <label>Value <textarea name="value" rows="8" readonly=${d.busy} autofocus=${d.named} spellcheck=${false} value=${d.text} onInput=${(/** @type {any} */ e) => edit({ text: e.target.value })}></textarea></label>
    <label>Delete it after <input type="text" name="ttl" readonly=${d.busy} value=${d.ttl} placeholder="never, or 30s, 10m, 24h" autocomplete="off" onInput=${(/** @type {any} */ e) => edit({ ttl: e.target.value.trim() })} /></label>`
}

/** How many lines of a difference are shown. */
const mostLines = 12

/** @param {{change: {gone: string[], come: string[]} | null}} p */
function Lines({ change }) {
  if (!change) return null
  /**
   * @param {string} sign
   * @param {string[]} all
   * @param {string[]} others
   */
  const part = (sign, all, others) => [...all.slice(0, mostLines).map((l, n) => `${sign}\u00a0${excerpt(l, others[n])}`), ...(all.length > mostLines ? [`${sign}\u00a0… ${number(all.length - mostLines)} more`] : [])]
  return html`<pre tabindex="0" aria-label="Lines that change"><del>${part('-', change.gone, change.come).join('\n')}</del>${change.gone.length && change.come.length ? '\n' : ''}<ins>${part('+', change.come, change.gone).join('\n')}</ins></pre>`
}

/**
 * What somebody else has made of the key, and the way on.
 * @param {{d: Draft, now: KVItem | null}} p
 */
function Moved({ d, now }) {
  const go = () => edit({ base: now, moved: null, problem: null })
  const was = d.base ? `revision ${number(d.base.revision)}` : 'none'
  return html`
    <p class="banner critical" role="alert"><span>${d.open ? 'The key has changed, by what was not answered or by somebody else' : 'Somebody else has changed the key'}: ${now ? `it is at revision ${number(now.revision)} now, and was at ${was}` : 'it is deleted by now'}. Nothing was ${d.remove ? 'deleted' : 'written'}${d.open ? ' this time' : ''}.</span>
      ${(now || !d.remove) && html`<button type="button" onClick=${go}>Compare with what it is now</button>`}</p>`
}

/**
 * What a change will do, in sentences, none: nothing; and the lines that change.
 * @param {Draft} d
 * @param {Uint8Array} value
 */
function consequences(d, value) {
  const says = []
  const before = d.base ? bytesOf(d.base.value) : null
  if (d.remove && before) {
    says.push(`The key is deleted, with its ${count(before.length, 'byte')}.`)
  } else if (!before) {
    says.push(`The key is made, with ${count(value.length, 'byte')}.`)
  } else {
    if (!same(before, value)) says.push(`Its value: ${count(before.length, 'byte')} → ${number(value.length)}.`)
    if (d.base?.expires && !d.ttl) says.push('It does not expire any more.')
  }
  if (d.ttl) says.push(`It is deleted ${d.ttl} after it is written.`)
  if (says.length) says.push(d.base ? `Only if it is still at revision ${number(d.base.revision)}.` : 'Only if it is not there.')
  const change = d.remove ? difference(before ?? value, value) : before && same(before, value) ? null : difference(before ?? new Uint8Array(), value)
  return { says, change: change && (change.gone.length || change.come.length) ? change : null }
}

/**
 * @param {Draft} d
 * @param {Uint8Array<ArrayBuffer>} value
 */
async function apply(d, value) {
  const began = newest()
  edit({ busy: true, problem: null })
  try {
    applied(d, await send(d.key, d.remove ? null : value, d.base?.revision ?? 0, d.ttl), began)
  } catch (error) {
    if (!(error instanceof Problem) || error.status !== 412) return notApplied(d, { problem: asProblem(error) }, began)
    const change = await current(d.key)
    if (d.open && change.moved && isDone(d, value, change.moved.now)) applied(d, change.moved.now?.revision ?? 0, began)
    else notApplied(d, change, began)
  }
}

/**
 * Whether a key is already what it is to become, as where only the answer was lost. A time to live
 * cannot be compared.
 * @param {Draft} d
 * @param {Uint8Array} value
 * @param {KVItem | null} now
 */
function isDone(d, value, now) {
  if (d.remove || !now) return d.remove && !now
  return !d.ttl && !now.expires && same(bytesOf(now.value), value)
}

/** @param {Problem | null | undefined} problem */
const mayBeDone = (problem) => !!problem && (problem.status === 0 || problem.status >= 500)

/**
 * @param {Draft} d
 * @param {number} revision  0: it is not known
 * @param {number} began
 */
function applied(d, revision, began) {
  if (draft.value?.id === d.id) draft.value = null
  const done = d.remove ? 'deleted' : d.base ? 'changed' : 'made'
  const back = d.base && bytesOf(d.base.value)
  // A time to live cannot be given back as it was.
  notify({ about: `key ${d.key}`, text: `${shown(d.key)}: ${done}${revision ? ` at revision ${number(revision)}` : ''}.`, undo: d.base?.expires ? undefined : () => undo(d.key, back, d.remove ? 0 : revision) }, began)
}

/**
 * Says in the dialog why a change was not made; in a notice, where the reader has closed it.
 * @param {Draft} d
 * @param {Partial<Draft>} change
 * @param {number} began
 */
function notApplied(d, change, began) {
  if (draft.value?.id === d.id) return edit({ busy: false, ...change, open: d.open || mayBeDone(change.problem) })
  const why = change.problem ? shown(change.problem.message) : 'somebody else has changed the key.'
  notify({ about: `key ${d.key}`, text: mayBeDone(change.problem) ? `${shown(d.key)}: ${why}` : `${shown(d.key)}: nothing was ${d.remove ? 'deleted' : 'written'}: ${why}`, failed: true }, began)
}

/**
 * Writes a key, or deletes it, if it is still at a revision.
 * @param {string} key
 * @param {Uint8Array<ArrayBuffer> | null} value  null: delete it
 * @param {number} revision  0: it is not there
 * @param {string} [ttl]
 * @returns {Promise<number>} etcd's revision
 */
async function send(key, value, revision, ttl = '') {
  /** @type {Record<string, string>} */
  const headers = revision ? { 'If-Match': `"${revision}"` } : { 'If-None-Match': '*' }
  if (value) headers['Content-Type'] = 'application/octet-stream'
  const answer = await ask(keyPath(key) + (ttl ? `?ttl=${encodeURIComponent(ttl)}` : ''), {
    method: value ? 'PUT' : 'DELETE', headers, body: value ?? undefined,
  })
  return Number(answer.headers.get('Disc-Revision'))
}

/**
 * What etcd has of a key that somebody else has changed.
 * @param {string} key
 * @returns {Promise<Partial<Draft>>}
 */
async function current(key) {
  try {
    const items = /** @type {KVItem[]} */ (await askJSON(`/v1/kv?key=${encodeURIComponent(key)}&consistency=linearizable`))
    return { moved: { now: items[0] ?? null } }
  } catch (error) {
    const { message } = asProblem(error)
    return { problem: new Problem(412, `Somebody else has changed the key, and nothing was written. What it is now cannot be read: ${message}`) }
  }
}

/**
 * Gives a key back what it had, unless somebody else has changed it since.
 * @param {string} key
 * @param {Uint8Array<ArrayBuffer> | null} value  null: it was not there
 * @param {number} revision  of the change; 0: it was deleted
 * @param {boolean} [open]  an undo was not answered
 */
async function undo(key, value, revision, open = false) {
  const began = newest()
  const about = `key ${key}`
  const name = shown(key)
  try {
    notify({ about, text: `${name}: the change was undone at revision ${number(await send(key, value, revision))}.` }, began)
  } catch (error) {
    const problem = asProblem(error)
    if (problem.status === 412) {
      const why = open ? 'the key has changed since, by what was not answered or by somebody else.' : 'somebody else has changed the key since.'
      notify({ about, text: `${name}: the change was not undone${open ? ' this time' : ''}: ${why}`, failed: true }, began)
    } else {
      const unknown = mayBeDone(problem)
      notify({ about, text: `${name}: ${unknown ? '' : 'the change was not undone: '}${shown(problem.message)}`, failed: true, undo: () => undo(key, value, revision, open || unknown) }, began)
    }
  }
}
