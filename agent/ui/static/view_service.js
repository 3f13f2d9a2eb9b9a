// A service: all its instances, and why each is answered or is not.
import { useExplanations } from './explain.js'
import { fleet, keyOf } from './fleet.js'
import { number, shown, some } from './format.js'
import { html } from './html.js'
import { Instances } from './instances.js'
import { useLoads } from './loads.js'
import { Command, Filters, Mark, matches, Search, selections, useTitle, wordsOf } from './parts.js'
import { href, place } from './router.js'
import { command } from './shell.js'

/** @param {{service: string}} p */
export function Service({ service }) {
  const why = useExplanations(service)
  useLoads(service)
  const entries = fleet.instances(service)
  const summary = fleet.summaries.value.find((s) => s.key === keyOf(service))
  const name = summary?.name ?? service
  useTitle(shown(name))
  const { q, only } = place.value
  const words = wordsOf(q)
  const fits = selections[Object.hasOwn(selections, only) ? only : '']
  const rows = entries.filter((e) => fits(e) && matches(e, words))
  const n = (/** @type {string} */ key) => entries.filter(selections[key]).length
  return html`
    <p class="path"><a href="/">Now</a> / Service</p>
    <h1 tabindex="-1">${shown(name)}</h1>
    <p class="path"><a href=${href({ view: 'changes', service })}>What has changed</a></p>
    ${fleet.known.value && !summary && html`<p class="banner warning"><span>No instance of ${shown(service)} is registered. Registered ones appear here by themselves.</span></p>`}
    ${summary && html`
      <p class="lead">${summary.healthy
        ? html`Lookups find <b>${number(summary.healthy)}</b> of ${number(summary.total)}${summary.zones.length ? `, in ${summary.zones.length === 1 ? 'zone' : 'zones'} ${some(summary.zones, 8)}` : ''}.`
        : html`<${Mark} word="critical">Lookups find none of ${number(summary.total)}.</${Mark}>`}</p>
      <div class="tools">
        <${Search} label="Search instances" />
        <${Filters} choices=${[
          { only: '', label: 'All', n: entries.length }, { only: 'in', label: 'In', n: n('in') }, { only: 'out', label: 'Out', n: n('out') },
          { only: 'critical', label: 'Critical', n: n('critical') }, { only: 'warning', label: 'Warning', n: n('warning') },
          { only: 'drained', label: 'Drained or down', n: n('drained') }, { only: 'suspect', label: 'Suspect', n: n('suspect') },
        ]} />
      </div>
      <${Instances} label=${`Instances of ${shown(name)}`} entries=${rows} why=${why ?? new Map()} empty="No instance matches." />
      <p class="note">The same in a terminal: <${Command} command=${command('disc', 'lookup', service, '--explain')} />
        <a href=${href({ view: 'try', name: service })}>Try it in all forms</a></p>`}`
}
