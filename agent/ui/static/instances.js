// The table of instances, of one service or of one node.
import { openChange } from './change.js'
import { age, hostport, shown } from './format.js'
import { html } from './html.js'
import { now } from './live.js'
import { failures } from './outputs.js'
import { Mark, Tags, wordOf } from './parts.js'
import { href } from './router.js'
import { Table } from './table.js'

/** @typedef {import('../types.js').Entry} Entry */
/** @typedef {import('./explain.js').Explanation} Explanation */

const columns = [
  { key: 'id', label: 'Instance' }, { key: 'status', label: 'Status' }, { key: 'why', label: 'Lookup' }, { key: 'checks', label: 'Checks' },
  { key: 'address', label: 'Address' }, { key: 'zone', label: 'Zone' }, { key: 'node', label: 'Node' }, { key: 'weight', label: 'Weight' },
  { key: 'load', label: 'Load' }, { key: 'tags', label: 'Tags' }, { key: 'age', label: 'Age' }, { key: 'act', label: 'Change' },
]

/**
 * @param {object} p
 * @param {string} p.label
 * @param {Entry[]} p.entries
 * @param {Map<string, Explanation> | null} [p.why]  by id; null: not asked
 * @param {boolean} [p.withService]
 * @param {string} p.empty
 */
export function Instances({ label, entries, why = null, withService = false, empty }) {
  const shownColumns = columns.map((c) => (c.key === 'why' ? { ...c, hidden: !why } : c))
  const at = now.value
  return html`
    <${Table} label=${label} kind=${why ? 'instances explained' : 'instances'} columns=${shownColumns} rows=${entries} heights=${[30, 84]} empty=${empty}
      keyOf=${(/** @type {Entry} */ e) => `${e.service}/${e.id}`} rowClass=${wordOf}
      cells=${(/** @type {Entry} */ e) => cells(e, why?.get(e.id), withService, at)} />`
}

/**
 * @param {Entry} e
 * @param {Explanation | undefined} why
 * @param {boolean} withService
 * @param {number} at
 */
function cells(e, why, withService, at) {
  const name = withService ? `${e.service}/${e.id}` : e.id
  return [
    html`<a href=${href({ service: e.service.toLowerCase(), instance: e.id })}>${shown(name)}</a>`,
    html`<${Mark} word=${wordOf(e)}>${e.state === 'up' ? (e.suspect ? 'suspect' : e.status) : `${e.state}, ${e.status}`}</${Mark}>`,
    why && reasonOf(e, why),
    checksOf(e),
    html`<span class="mono">${hostport(e)}</span>`,
    shown(e.zone),
    e.node ? html`<a href=${href({ view: 'nodes', node: e.node })}>${shown(e.node)}</a>` : '',
    e.weight,
    e.utilization === undefined ? '' : `${Math.round(e.utilization * 100)} %`,
    html`<${Tags} tags=${e.tags} />`,
    age(e.registered_at, at) || (e.source === 'static' ? 'static' : ''),
    html`
      <button type="button" class="quiet" aria-label=${`${e.state === 'up' ? 'Drain' : 'Undrain'} ${shown(name)}`}
        onClick=${() => openChange(e, { state: e.state === 'up' ? 'drain' : 'up' })}>${e.state === 'up' ? 'Drain' : 'Undrain'}</button>`,
  ]
}

/**
 * Why an instance is in or out, without what is beside it: its state, its status, and the check that
 * gives it its status.
 * @param {Entry} e
 * @param {Explanation} why
 */
function reasonOf(e, why) {
  const [reason] = why.why.split('; check "')
  const status = reason === `its status is ${e.status}` && (e.status === 'passing' || failures(e).length > 0)
  const said = status || reason === `its state is ${e.state}`
  return html`<span class=${why.in ? 'in' : 'out'} title=${shown(why.why)}><b>${why.in ? 'in' : 'out'}</b> ${said ? '' : shown(reason)}</span>`
}

/**
 * The checks of an instance: those that do not pass with their output, as far as it is known.
 * @param {Entry} e
 */
function checksOf(e) {
  const bad = failures(e)
  if (!bad.length) return html`<span class="note">${(e.checks ?? []).map((c) => shown(c.name || c.id)).join(', ')}</span>`
  return bad.map((f) => html`<span key=${f.id} class=${f.status} title=${f.text}>${f.text} </span>`)
}
