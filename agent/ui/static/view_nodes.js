// Nodes: the agents of the fleet, and what each of them registers.
import { fleet, isHealthy } from './fleet.js'
import { age, number, shown } from './format.js'
import { html, useComputed } from './html.js'
import { Instances } from './instances.js'
import { agent, nodes, now } from './live.js'
import { Mark, matches, Search, Tags, useTitle, wordsOf } from './parts.js'
import { href, place } from './router.js'
import { Table } from './table.js'

/** @typedef {import('../types.js').Entry} Entry */
/** @typedef {import('../types.js').FleetNode} FleetNode */

/**
 * An agent, or a node that only instances name.
 * @typedef {{key: string, node: string, record: FleetNode | null, entries: Entry[], healthy: number}} Row
 */

export function Nodes() {
  const name = place.value.node
  return name ? html`<${Node} key=${name} name=${name} />` : html`<${AllNodes} />`
}

const columns = [
  { key: 'node', label: 'Node' }, { key: 'session', label: 'Session' }, { key: 'zone', label: 'Zone' }, { key: 'address', label: 'Address' },
  { key: 'version', label: 'Version' }, { key: 'level', label: 'Level' }, { key: 'healthy', label: 'Registers' }, { key: 'age', label: 'Runs for' },
]

/**
 * Whether the agent of instances is gone: they are suspects. Otherwise this agent only does not watch
 * the records of agents.
 * @param {Entry[]} entries
 */
const isLost = (entries) => entries.some((e) => e.suspect)

/** All rows: agents by node, then nodes without an agent, which come first. */
function rowsOfFleet() {
  /** @type {Map<string, Row>} */
  const byOwner = new Map()
  /** @type {Map<string, Row>} */
  const lost = new Map()
  for (const record of nodes.value ?? []) byOwner.set(record.agent, { key: record.agent, node: record.node, record, entries: [], healthy: 0 })
  for (const e of fleet.everything()) {
    if (e.source === 'static') continue
    let row = byOwner.get(e.owner ?? '')
    if (!row) {
      const key = `${e.node ?? ''}/${e.owner ?? ''}`
      row = lost.get(key) ?? { key, node: e.node ?? '', record: null, entries: [], healthy: 0 }
      lost.set(key, row)
    }
    row.entries.push(e)
    if (isHealthy(e)) row.healthy++
  }
  const byNode = (/** @type {Row} */ a, /** @type {Row} */ b) => (a.node < b.node ? -1 : 1)
  return [...[...lost.values()].sort(byNode), ...[...byOwner.values()].sort(byNode)]
}

function AllNodes() {
  useTitle('Nodes')
  const all = useComputed(rowsOfFleet).value
  const words = wordsOf(place.value.q)
  const rows = all.filter((r) => words.every((w) => `${r.node} ${r.record?.zone ?? ''} ${r.record?.version ?? ''} ${r.record?.address ?? ''}`.toLowerCase().includes(w)))
  const own = agent.value?.status.owner
  return html`
    <h1 tabindex="-1">Nodes <span class="n">${number(all.length)}</span></h1>
    <div class="tools"><${Search} label="Search nodes, zones, versions" /></div>
    ${nodes.value === null ? html`<p class="start">Asking the agent for the nodes …</p>` : html`
      <${Table} label="Nodes" kind="nodes" columns=${columns} rows=${rows} heights=${[30, 60]} empty=${all.length ? 'No node matches.' : 'No agent is registered.'}
        keyOf=${(/** @type {Row} */ r) => r.key} rowClass=${(/** @type {Row} */ r) => (!r.record && isLost(r.entries) ? 'critical' : '')}
        cells=${(/** @type {Row} */ r) => [
          html`<a href=${href({ view: 'nodes', node: r.node })}>${shown(r.node) || 'without a name'}</a>${own && r.record?.agent === own ? html` <${Tags} tags=${['this agent']} />` : ''}`,
          r.record ? html`<${Mark} word="passing">alive</${Mark}>` : isLost(r.entries) ? html`<${Mark} word="critical">not heard of</${Mark}>` : html`<span class="note">not known here</span>`,
          shown(r.record?.zone), html`<span class="mono">${shown(r.record?.address)}</span>`, shown(r.record?.version), r.record ? r.record.level ?? 1 : '',
          r.entries.length ? html`${number(r.healthy)} of ${number(r.entries.length)} healthy` : html`<span class="note">nothing</span>`,
          age(r.record?.started, now.value),
        ]} />`}`
}

/** @param {{name: string}} p */
function Node({ name }) {
  useTitle(shown(name))
  const records = (nodes.value ?? []).filter((n) => n.node === name)
  const entries = useComputed(() => fleet.everything().filter((e) => e.node === name).sort((a, b) => (`${a.service}/${a.id}` < `${b.service}/${b.id}` ? -1 : 1))).value
  const rows = entries.filter((e) => matches(e, wordsOf(place.value.q)))
  return html`
    <p class="path"><a href=${href({ view: 'nodes' })}>Nodes</a> / Node</p>
    <h1 tabindex="-1">${shown(name)}</h1>
    ${nodes.value && !records.length && (isLost(entries)
      ? html`<p class="banner critical"><span>No agent on ${shown(name)} is heard of: it has ended, or its lease has expired.</span></p>`
      : html`<p class="banner warning"><span>This agent knows of no agent on ${shown(name)}.</span></p>`)}
    ${records.map((n) => html`<p class="lead" key=${n.agent}><${Mark} word="passing">alive</${Mark}> – version ${shown(n.version)}${n.zone ? `, zone ${shown(n.zone)}` : ''}${n.address ? `, at ${shown(n.address)}` : ''}, running for ${age(n.started, now.value)}; agent <span class="mono">${shown(n.agent)}</span>.</p>`)}
    <div class="tools"><h2>Instances <span class="n">${number(entries.length)}</span></h2><${Search} label="Search instances" /></div>
    <${Instances} label=${`Instances on ${shown(name)}`} entries=${rows} withService=${true} empty=${entries.length ? 'No instance matches.' : 'It has no instances.'} />`
}
