// What is wrong, worst first.
import { count, number, shown, some, span } from './format.js'
import { failures } from './outputs.js'
import { href } from './router.js'

/** @typedef {import('../types.js').Entry} Entry */
/** @typedef {import('../types.js').Agent} Agent */
/** @typedef {import('../types.js').FleetNode} FleetNode */

/**
 * rank sorts: 0 is the worst.
 * @typedef {{rank: number, kind: 'critical' | 'warning', what: string, text: string, to: string, key: string}} Trouble
 */

/**
 * @param {import('./fleet.js').Summary[]} services
 * @param {(service: string) => Entry[]} instances
 * @param {FleetNode[] | null} nodes
 * @param {Agent | null} agent
 * @returns {Trouble[]}
 */
export function troubles(services, instances, nodes, agent) {
  const list = services.flatMap((s) => ofService(s, instances))
  if (nodes) list.push(...unheardOf(services, instances, nodes))
  if (agent) list.push(...ofAgent(agent))
  return list.sort((a, b) => a.rank - b.rank || (a.what < b.what ? -1 : 1))
}

/**
 * @param {import('./fleet.js').Summary} s
 * @param {(service: string) => Entry[]} instances
 */
function ofService(s, instances) {
  /** @type {Trouble[]} */
  const list = []
  const to = (/** @type {string} */ only) => href({ service: s.key, only })
  /** @param {(e: Entry) => boolean} f */
  const ids = (f) => some(instances(s.key).filter(f).map((e) => e.id))
  /**
   * The same, and what a check of the first of them says.
   * @param {(e: Entry) => boolean} f
   */
  const because = (f) => {
    const first = instances(s.key).find(f)
    const failure = first && failures(first)[0]
    return failure ? `${ids(f)} – ${failure.text}` : ids(f)
  }
  const critical = (/** @type {Entry} */ e) => e.state === 'up' && e.status === 'critical'
  if (s.healthy === 0) {
    const why = [s.critical && `${number(s.critical)} critical`, s.draining && `${number(s.draining)} drained or down`].filter(Boolean).join(', ')
    list.push({ rank: 0, kind: 'critical', what: s.name, key: `none/${s.key}`, to: to('out'),
      text: `no instance answers lookups: ${why} of ${number(s.total)}${s.critical ? `: ${because(critical)}` : ''}` })
  } else if (s.critical) {
    list.push({ rank: 1, kind: 'critical', what: s.name, key: `critical/${s.key}`, to: to('critical'),
      text: `${number(s.critical)} of ${count(s.total, 'instance')} critical: ${because(critical)}` })
  }
  if (s.suspects) {
    list.push({ rank: 2, kind: 'critical', what: s.name, key: `suspects/${s.key}`, to: to('suspect'),
      text: `${count(s.suspects, 'suspect')}, which vanished with many others and ${s.suspects === 1 ? 'is' : 'are'} kept until a probe fails: ${ids((e) => !!e.suspect)}` })
  }
  if (s.warning) {
    list.push({ rank: 7, kind: 'warning', what: s.name, key: `warning/${s.key}`, to: to('warning'),
      text: `${number(s.warning)} of ${count(s.total, 'instance')} warning: ${because((e) => e.state === 'up' && e.status === 'warning')}` })
  }
  return list
}

/**
 * Nodes that have instances in the view, and no agent that is heard of.
 * @param {import('./fleet.js').Summary[]} services
 * @param {(service: string) => Entry[]} instances
 * @param {FleetNode[]} nodes
 * @returns {Trouble[]}
 */
function unheardOf(services, instances, nodes) {
  const owners = new Set(nodes.map((n) => n.agent))
  /** @type {Map<string, number>} */
  const lost = new Map()
  for (const s of services) {
    if (!s.suspects) continue // the instances of a lost agent are gone, or suspects
    for (const e of instances(s.key)) {
      if (e.suspect && e.owner && !owners.has(e.owner)) lost.set(e.node ?? '', (lost.get(e.node ?? '') ?? 0) + 1)
    }
  }
  return [...lost].map(([node, n]) => ({ rank: 3, kind: 'critical', what: node, key: `node/${node}`, to: href({ view: 'nodes', node }),
    text: `its agent has not been heard of; it has ${count(n, 'instance')} in the view` }))
}

/** @param {Agent} a */
function ofAgent(a) {
  /** @type {Trouble[]} */
  const list = []
  /**
   * @param {number} rank
   * @param {'critical' | 'warning'} kind
   * @param {string} key
   * @param {string} text
   * @param {string} [to]
   */
  const add = (rank, kind, key, text, to = '') => list.push({ rank, kind, what: `agent ${a.node}`, key: `agent/${key}`, to, text })
  if (a.session.state !== 'alive') add(1, 'critical', 'session', `its session in etcd is not alive: ${shown(a.session.error) || 'it has no lease'}`)
  if (a.ungranted) add(2, 'critical', 'ungranted', `it grants no lock and no claim: ${shown(a.ungranted)}`)
  for (const r of a.registrations) {
    const to = href({ service: r.service, instance: r.id })
    if (r.state === 'conflict') add(4, 'critical', `conflict/${r.service}/${r.id}`, `${r.service}/${r.id} is registered twice: ${shown(r.error) || 'another agent has it'}`, to)
    else if (r.error) add(4, 'critical', `error/${r.service}/${r.id}`, `${r.service}/${r.id} is not in etcd as registered: ${shown(r.error)}`, to)
  }
  if (a.catalog.broken) add(5, 'critical', 'broken', `${count(a.catalog.broken, 'record')} in etcd cannot be read; the agent's log names each`)
  if (a.unsaved) add(5, 'critical', 'unsaved', `changes of registrations are lost if it ends now: ${shown(a.unsaved)}`)
  for (const text of a.unusable ?? []) add(5, 'warning', `unusable/${text}`, `a saved registration cannot be used: ${shown(text)}`)
  for (const c of a.certificates ?? []) {
    const left = (Date.parse(c.expires) - Date.now()) / 1000
    if (left <= 0) add(1, 'critical', `certificate/${c.setting}`, `the certificate of ${c.setting} has expired`)
    else if (c.soon) add(6, 'warning', `certificate/${c.setting}`, `the certificate of ${c.setting} expires in ${span(left)}`)
  }
  if (a.level.error) add(8, 'warning', 'level', `the feature level: ${shown(a.level.error)}`)
  return list
}
