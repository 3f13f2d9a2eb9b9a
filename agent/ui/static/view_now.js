// Now: what is wrong, then all services.
import { fleet } from './fleet.js'
import { count, moment, number, seconds, shown, some, span } from './format.js'
import { ageNow, leaseMargin, memberOf } from './frame.js'
import { html, useComputed } from './html.js'
import { agent, link, nodes } from './live.js'
import { Filters, Mark, Search, Tags, useTitle, wordsOf } from './parts.js'
import { troubles } from './problems.js'
import { href, place } from './router.js'
import { Strip } from './strips.js'
import { Table } from './table.js'

/** @typedef {import('./fleet.js').Summary} Summary */

/** How many problems are shown before the reader asks for all. */
const mostTroubles = 12

export function Now() {
  useTitle('Now')
  const all = fleet.summaries.value
  const a = agent.value?.status
  const wrong = useComputed(() => troubles(fleet.summaries.value, (s) => fleet.instances(s), nodes.value, agent.value?.status ?? null)).value
  return html`
    <div class="heading"><h1 tabindex="-1">Now</h1>${fleet.known.value && html`<${Totals} all=${all} />`}</div>
    ${fleet.known.value ? html`
      ${watchesOf(a) && html`<p class="note">This agent watches only ${watchesOf(a)}, and knows no other service.</p>`}
      <${Troubles} list=${wrong} />
      <${Services} all=${all} />` : html`<p class="start">${link.value.state === 'connecting' ? 'Asking the agent for the fleet …' : 'Nothing is known of the fleet yet.'}</p>`}
    ${a && html`<${ThisAgent} />`}`
}

/**
 * The services that an agent watches, where its settings name them and may be seen; "": it may know all.
 * @param {import('../types.js').Agent | undefined} a
 */
function watchesOf(a) {
  const watch = a?.settings.find((s) => s.name === 'catalog.watch')?.value
  return typeof watch === 'string' && !['auto', 'lazy', 'all', ''].includes(watch) ? shown(watch.split(',').join(', ')) : ''
}

/** @param {{all: Summary[]}} p */
function Totals({ all }) {
  const sum = (/** @type {(s: Summary) => number} */ f) => all.reduce((n, s) => n + f(s), 0)
  const critical = sum((s) => s.critical)
  const warning = sum((s) => s.warning)
  const drained = sum((s) => s.draining)
  return html`
    <ul class="totals" aria-label="In all">
      <li><b>${number(all.length)}</b> ${all.length === 1 ? 'service' : 'services'}</li>
      <li><b>${number(sum((s) => s.total))}</b> ${sum((s) => s.total) === 1 ? 'instance' : 'instances'}</li>
      <li><b>${number(sum((s) => s.healthy))}</b> healthy</li>
      <li class=${critical ? 'critical' : ''}><b>${number(critical)}</b> critical</li>
      <li class=${warning ? 'warning' : ''}><b>${number(warning)}</b> warning</li>
      <li><b>${number(drained)}</b> drained or down</li>
      ${nodes.value && html`<li><a href=${href({ view: 'nodes' })}><b>${number(nodes.value.length)}</b> ${nodes.value.length === 1 ? 'node' : 'nodes'}</a></li>`}
    </ul>`
}

/** @param {{list: import('./problems.js').Trouble[]}} p */
function Troubles({ list }) {
  const every = place.value.only === 'problems'
  const first = every ? list : list.slice(0, mostTroubles)
  if (!list.length) return html`<section aria-labelledby="problems"><h2 id="problems">Problems</h2><p class="calm"><${Mark} word="passing">Nothing is wrong.</${Mark}></p></section>`
  return html`
    <section aria-labelledby="problems">
      <h2 id="problems">Problems <span class="n">${number(list.length)}</span></h2>
      <ul class="troubles">
        ${first.map((t) => html`
          <li key=${t.key} class=${t.kind}>
            <${Mark} word=${t.kind}>${t.to ? html`<a href=${t.to}>${shown(t.what)}</a>` : html`<b>${shown(t.what)}</b>`}</${Mark}>
            <span class="text" title=${t.text}>${t.text}</span>
          </li>`)}
      </ul>
      ${list.length > first.length && html`<p><a href=${href({ only: 'problems' })}>All ${number(list.length)} problems</a></p>`}
    </section>`
}

const columns = [
  { key: 'service', label: 'Service' }, { key: 'healthy', label: 'Healthy' }, { key: 'minutes', label: 'Last 10 min' }, { key: 'critical', label: 'Critical' }, { key: 'warning', label: 'Warning' },
  { key: 'drained', label: 'Drained' }, { key: 'zones', label: 'Zones' }, { key: 'tags', label: 'Tags' }, { key: 'revision', label: 'Revision' },
]

/** @type {Record<string, (s: Summary) => boolean>} */
const kinds = {
  '': () => true,
  unhealthy: (s) => s.healthy < s.total,
  unanswered: (s) => s.healthy === 0,
}

/** @param {{all: Summary[]}} p */
function Services({ all }) {
  const { q, only } = place.value
  const words = wordsOf(q)
  const fits = kinds[Object.hasOwn(kinds, only) ? only : '']
  const rows = all.filter((s) => fits(s) && words.every((w) => s.key.includes(w) || s.tags.some((t) => t.toLowerCase().includes(w)) || s.zones.some((z) => z.toLowerCase().includes(w))))
  return html`
    <section aria-labelledby="services">
      <div class="tools">
        <h2 id="services">Services <span class="n">${rows.length === all.length ? number(all.length) : `${number(rows.length)} of ${number(all.length)}`}</span></h2>
        <${Search} label="Search services, tags, zones" />
        <${Filters} choices=${[
          { only: '', label: 'All', n: all.length },
          { only: 'unhealthy', label: 'Not all healthy', n: all.filter(kinds.unhealthy).length },
          { only: 'unanswered', label: 'Not answered', n: all.filter(kinds.unanswered).length },
        ]} />
      </div>
      <${Table} label="Services" kind="services" columns=${columns} rows=${rows} heights=${[30, 78]} keyOf=${(/** @type {Summary} */ s) => s.key}
        rowClass=${(/** @type {Summary} */ s) => (s.healthy === 0 || s.critical ? 'critical' : s.warning ? 'warning' : '')} cells=${cells}
        empty=${all.length ? `No service matches “${shown(q)}”.` : 'No service is registered.'} />
    </section>`
}

/** @param {Summary} s */
function cells(s) {
  return [
    html`<a href=${href({ service: s.key })}>${shown(s.name)}</a>`,
    html`<meter class=${s.healthy === 0 ? 'none' : s.healthy < s.total ? 'part' : 'whole'} min="0" max=${s.total} value=${s.healthy} aria-hidden="true"></meter>
      <span>${number(s.healthy)} of ${number(s.total)}</span>`,
    html`<${Strip} service=${s.key} />`,
    s.critical ? html`<${Mark} word="critical">${number(s.critical)}<span class="narrow"> critical</span></${Mark}>` : '',
    s.warning ? html`<${Mark} word="warning">${number(s.warning)}<span class="narrow"> warning</span></${Mark}>` : '',
    s.draining ? html`<${Mark} word="drain">${number(s.draining)}<span class="narrow"> drained</span></${Mark}>` : '',
    shown(s.zones.join(', ')),
    html`<${Tags} tags=${s.tags} />`,
    html`<span class="note">${number(s.revision)}</span>`,
  ]
}

function ThisAgent() {
  const a = agent.value?.status
  if (!a) return null
  const margin = leaseMargin()
  const rows = [
    ['Node', html`${shown(a.node)}${a.zone ? `, zone ${shown(a.zone)}` : ''}`],
    ['Version', `${shown(a.version)}, started ${moment(a.started)}`],
    ['Namespace', shown(a.namespace)],
    ['View', `revision ${number(a.catalog.revision)}, confirmed by etcd ${span(ageNow())} ago${a.catalog.stale ? ', stale' : ''}`],
    ['Session', a.session.state === 'alive' ? `lease ${shown(a.session.lease)} of ${span(seconds(a.session.ttl))}; ends in ${span(margin)} unless etcd answers` : 'no lease'],
    ['Member', membersOf(a)],
    ['etcd', a.endpoints.length ? a.endpoints.map(shown).join(', ') : 'its addresses take a token with scope status'],
    ['Feature level', `${a.level.namespace || 'not known yet'}${a.level.target ? `, to rise to ${a.level.target}` : ''}${heldBack(a)}`],
    ['Registers', count(a.registrations.length, 'instance')],
    ['Read anew', `${count(a.catalog.resyncs, 'time')} since the start`],
  ]
  return html`
    <section aria-labelledby="agent">
      <h2 id="agent">The agent that answers</h2>
      <dl class="facts">${rows.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>
      <p class="note">This page is built on Preact, its signals and htm, under <a href=${licences}>their licences</a>.</p>
    </section>`
}

/**
 * Which members of etcd answer.
 * @param {import('../types.js').Agent} a
 */
function membersOf(a) {
  const [watched, renewed] = [memberOf(a.catalog), memberOf(a.session)]
  const words = [watched && `watched at ${shown(watched)}`, renewed && `the lease is renewed at ${shown(renewed)}`].filter(Boolean)
  return words.join(', ') || 'none answers'
}

const licences = new URL('./vendor/LICENSES.txt', import.meta.url).pathname

/**
 * Who keeps the feature level from rising.
 * @param {import('../types.js').Agent} a
 */
function heldBack(a) {
  const behind = a.level.behind ?? []
  return behind.length ? `, held back by ${some([...behind.map((b) => `${b.node} (${b.version || 'unknown version'})`), ...Array(a.level.more ?? 0).fill('')])}` : ''
}
