// What is known of an instance beside its record, and what has happened to it.
import { Beginning, ChangeList, FeedBanner } from './changes.js'
import { clock, moment, number, seconds, shown, span } from './format.js'
import { useHistory } from './history.js'
import { html } from './html.js'
import { Command, Facts } from './parts.js'
import { href } from './router.js'

/** @typedef {import('../types.js').Why} Why */

/**
 * @param {{service: string, id: string, answer: import('./why.js').Answer}} p
 */
export function InstanceWhy({ service, id, answer }) {
  const { why, problem, at } = answer
  const feed = useHistory({ service, id })
  return html`
    ${why && html`<section aria-labelledby="known"><h2 id="known">What the agent and etcd know</h2>
      <${Facts} rows=${factsOf(why)} />
      <p class="note">As of ${clock(at)}${problem ? html`; since then: ${shown(problem)}` : ''}. The same in a terminal: <${Command} command=${`disc why ${service}/${id}`} /></p></section>`}
    <section aria-labelledby="history"><h2 id="history">History</h2>
      <${FeedBanner} feed=${feed} />
      <${ChangeList} label=${`Changes of ${shown(id)}, the newest first`} feed=${feed} />
      <${Beginning} feed=${feed} of=${` of ${shown(service)}`} />
      <p class="note"><a href=${href({ view: 'changes', service })}>All changes of ${shown(service)}</a></p>
    </section>`
}

/**
 * What is known of an instance, each as a name and a text.
 * @param {Why} w
 */
function factsOf(w) {
  const rows = []
  if (w.missing) rows.push(['Guard', guardOf(w)])
  if (w.owner) rows.push(['Owner', ownerOf(w.owner, w.etcd)])
  if (w.registration) rows.push(['Here', `registered through this agent (${shown(w.registration.source)}), ${shown(w.registration.state)}${w.registration.error ? `: ${shown(w.registration.error)}` : ''}`])
  if (w.etcd?.unreadable) rows.push(['Unreadable', `${shown(w.etcd.key)}: ${shown(w.etcd.unreadable)}`])
  if (w.etcd) rows.push(['etcd', w.etcd.error && !w.etcd.lease ? `could not be asked: ${shown(w.etcd.error)}` : storedIn(w.etcd)])
  rows.push(['View', `revision ${number(w.revision)}, confirmed by etcd ${span(seconds(w.age))} before${w.stale ? ', stale' : ''}`])
  return rows
}

/** @param {Why} w */
function guardOf(w) {
  const text = w.instance?.suspect ? 'a suspect: its record vanished with many others, or when etcd started over' : 'its record is gone from etcd; this agent decides in a moment whether it is lost alone'
  return w.order ? `${text}; ordered to ${shown(w.order.order)} by ${shown(w.order.by)} until ${moment(w.order.until)}` : text
}

/** @type {Record<string, string>} */
const sessions = { alive: ', whose session lives', ended: ', whose session has ended', unknown: '; whether its session lives is not known' }

/**
 * @param {NonNullable<Why['owner']>} o
 * @param {Why['etcd']} stored
 */
function ownerOf(o, stored) {
  return `agent ${shown(o.agent)} on ${shown(o.node)}${o.here ? ' (this one)' : ''}${sessions[o.session] ?? ''}${stored?.heard ? `; etcd heard of it ${span(seconds(stored.heard))} before, and waits for ${span(seconds(stored.ttl))}` : ''}`
}

/**
 * Which keys of an instance etcd has.
 * @param {NonNullable<Why['etcd']>} s
 */
function storedIn(s) {
  const keys = /** @type {[string, number | undefined][]} */ ([[s.leaving ? 'tombstone' : 'record', s.record], ['override', s.override], ['static entry', s.static]])
  const has = keys.filter(([, revision]) => revision).map(([name, revision]) => `the ${name} of revision ${number(revision ?? 0)}`)
  return `has ${has.length ? has.join(', ') : 'nothing of it'}${s.error ? `; it could not be asked for the lease: ${shown(s.error)}` : ''}`
}
