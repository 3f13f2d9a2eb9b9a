// Changes of an instance's override. What will change is shown before it is done, and each change
// can be undone.
import { ask, asProblem, instancePath } from './api.js'
import { Dialog } from './dialog.js'
import { fleet, isHealthy } from './fleet.js'
import { count, number, shown } from './format.js'
import { html, signal } from './html.js'
import { newest, notify } from './notices.js'
import { TokenForm } from './token.js'

/** @typedef {import('./api.js').Problem} Problem */
/** @typedef {import('../types.js').Entry} Entry */
/** @typedef {import('../types.js').Override} Override */
/** @typedef {import('../types.js').State} State */

/**
 * What is to become of an instance. state, weight: undefined until the reader chooses, so that what others
 * change meanwhile stays; weight: as it is typed; remove: the override goes as a whole.
 * @typedef {{entry: Entry, state?: State, weight?: string, remove: boolean, problem: Problem | null, busy: boolean}} Draft
 */

const draft = signal(/** @type {Draft | null} */ (null))

/**
 * Opens the dialog, with a change to begin with.
 * @param {Entry} entry
 * @param {{state?: State, remove?: boolean}} [change]
 */
export function openChange(entry, change = {}) {
  draft.value = { entry, state: change.state, remove: change.remove ?? false, problem: null, busy: false }
}

/**
 * The instance as it is now, and what becomes of it; there: whether it still is.
 * @param {Draft} d
 */
function targetOf(d) {
  const e = fleet.instance(d.entry.service, d.entry.id)
  return { e: e ?? d.entry, there: !!e, state: d.remove ? 'up' : d.state ?? (e ?? d.entry).state }
}

/** @param {Partial<Draft>} change */
function edit(change) {
  if (draft.value) draft.value = { ...draft.value, ...change }
}

/** @type {Record<State, string>} */
const meanings = {
  up: 'answered according to its status',
  drain: 'no new callers; those that it has may finish',
  down: 'never answered',
}

export function ChangeDialog() {
  const d = draft.value
  if (!d) return null
  const { e, there, state: chosen } = targetOf(d)
  const name = `${e.service}/${e.id}`
  const lines = there ? consequences(d) : []
  /** @param {Event} event */
  const submit = (event) => {
    event.preventDefault()
    if (lines.length && !d.busy) apply()
  }
  return html`
    <${Dialog} title=${`Change ${shown(name)}`} onClose=${() => (draft.value = null)}>
      <form class="fields" onSubmit=${submit}>
        <fieldset disabled=${d.remove}>
          <legend>State</legend>
          ${(/** @type {State[]} */ (['up', 'drain', 'down'])).map((state) => html`
            <label class="check"><input type="radio" name="state" value=${state} checked=${chosen === state} onChange=${() => edit({ state })} />
              <b>${state}</b> <span class="note">${meanings[state]}</span></label>`)}
        </fieldset>
        <label>Weight <input type="number" name="weight" min="0" max="65535" step="1" value=${d.weight ?? e.weight} disabled=${d.remove}
          onInput=${(/** @type {any} */ event) => edit({ weight: event.target.value })} /></label>
        ${e.override && html`
          <label class="check"><input type="checkbox" name="remove" checked=${d.remove} onChange=${() => edit({ remove: !d.remove })} />
            Remove the override: all is as the record says</label>`}
        <div class="preview" role="status">
          ${lines.length ? html`<b>What will change</b><ul>${lines.map((line) => html`<li key=${line}>${line}</li>`)}</ul>` : there ? 'Nothing will change.' : 'It is gone: nothing can be changed.'}
        </div>
        ${d.problem && html`<p class="banner critical" role="alert">${shown(d.problem.message)}</p>`}
        <div class="buttons">
          <button type="submit" class="main" disabled=${!lines.length || d.busy} autofocus>${label(d)} ${shown(name)}</button>
          <button type="button" onClick=${() => (draft.value = null)}>Cancel</button>
        </div>
      </form>
      ${d.problem?.denied && html`<${TokenForm} done=${() => edit({ problem: null })} />`}
    </${Dialog}>`
}

/** @param {Draft} d */
function label(d) {
  if (d.remove) return 'Remove the override of'
  const { e, state } = targetOf(d)
  if (state !== e.state) return { up: e.state === 'drain' ? 'Undrain' : 'Set up', drain: 'Drain', down: 'Set down' }[state]
  return 'Change'
}

/**
 * The override that is to be, as a merge patch (RFC 7396); {} changes nothing.
 * @param {Draft} d
 */
function patchOf(d) {
  /** @type {Record<string, unknown>} */
  const patch = {}
  const { e, state } = targetOf(d)
  if (state !== e.state) patch.state = state === 'up' ? null : state
  const weight = Number(d.weight)
  if (d.weight?.trim() && Number.isInteger(weight) && weight !== e.weight) patch.weight = weight
  return patch
}

/**
 * What a change will do, in sentences; none: nothing.
 * @param {Draft} d
 */
function consequences(d) {
  const { e, state } = targetOf(d)
  const lines = []
  const patch = patchOf(d)
  if (state !== e.state) lines.push(`Its state: ${e.state} → ${state}.`)
  if (!d.remove && 'weight' in patch) lines.push(`Its weight: ${number(e.weight)} → ${number(Number(d.weight))}.`)
  if (d.remove) {
    for (const field of Object.keys(e.override ?? {})) if (field !== 'state') lines.push(`Its ${shown(field)} is that of the record again.`)
  }
  const before = fleet.instances(e.service).filter(isHealthy).length
  const after = before - Number(isHealthy(e)) + Number(isHealthy({ ...e, state }))
  if (after !== before) lines.push(`Lookups of ${shown(e.service)} find ${count(after, 'instance')} in place of ${number(before)}.`)
  if (after === 0 && before > 0) lines.push('Nothing is left to answer lookups.')
  return lines
}

async function apply() {
  const d = draft.value
  if (!d) return
  const began = newest()
  const { e } = targetOf(d)
  const before = e.override ?? {}
  const patch = d.remove ? Object.fromEntries(Object.keys(before).map((field) => [field, null])) : patchOf(d)
  edit({ busy: true, problem: null })
  try {
    const revision = await send(e, patch)
    draft.value = null
    const name = `${shown(e.service)}/${shown(e.id)}`
    notify({ about: name, text: `${name}: ${done(d, e, patch)} at revision ${number(revision)}.`, undo: () => undo(e, patch, before) }, began)
  } catch (error) {
    edit({ busy: false, problem: asProblem(error) })
  }
}

/**
 * @param {Draft} d
 * @param {Entry} e  as it was before
 * @param {Record<string, unknown>} patch
 */
function done(d, e, patch) {
  if (d.remove) return 'the override was removed'
  const parts = []
  if ('state' in patch) parts.push(`state ${e.state} → ${d.state}`)
  if ('weight' in patch) parts.push(`weight ${e.weight} → ${patch.weight}`)
  return parts.join(', ')
}

/**
 * Patches the override of an instance and returns etcd's revision.
 * @param {Entry} e
 * @param {Record<string, unknown>} patch
 */
async function send(e, patch) {
  const answer = await ask(`${instancePath(e.service, e.id)}/override`, {
    method: 'PATCH', headers: { 'Content-Type': 'application/merge-patch+json' }, body: JSON.stringify(patch),
  })
  return Number(answer.headers.get('Disc-Revision'))
}

/**
 * Gives the fields that were changed the values they had, and leaves alone what others changed since.
 * @param {Entry} e
 * @param {Record<string, unknown>} patch
 * @param {Override} before
 */
async function undo(e, patch, before) {
  const began = newest()
  const back = Object.fromEntries(Object.keys(patch).map((field) => [field, before[/** @type {keyof Override} */ (field)] ?? null]))
  const name = `${shown(e.service)}/${shown(e.id)}`
  try {
    notify({ about: name, text: `${name}: the change was undone at revision ${number(await send(e, back))}.` }, began)
  } catch (error) {
    const why = asProblem(error).message
    notify({ about: name, text: `${name}: the change was not undone: ${shown(why)}`, failed: true, undo: () => undo(e, patch, before) }, began)
  }
}
