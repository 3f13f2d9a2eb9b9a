// An instance: its record, the operator's override, its checks, and why it is answered or is not.
import { openChange } from './change.js'
import { fleet } from './fleet.js'
import { age, departed, hostport, moment, number, shown } from './format.js'
import { html } from './html.js'
import { later } from './later.js'
import { agent, nodes, now } from './live.js'
import { useLoads } from './loads.js'
import { outputOf } from './outputs.js'
import { Command, Facts, Mark, Tags, useTitle, wordOf } from './parts.js'
import { href } from './router.js'
import { partsOf } from './steps.js'
import { useWhy } from './why.js'

/** @typedef {import('../types.js').Entry} Entry */

const InstanceWhy = later(async () => (await import('./instance_why.js')).InstanceWhy)

/** @type {Record<string, string>} */
const states = { answered: 'answered', left_out: 'not answered', gone: 'gone' }

/** @param {{service: string, id: string}} p */
export function Instance({ service, id }) {
  const e = fleet.instance(service, id)
  const gone = e ? undefined : fleet.departure(service, id)
  const answer = useWhy(service, id)
  const why = answer.why
  useLoads(service)
  useTitle(shown(`${service}/${id}`))
  const any = e ?? gone?.entry
  return html`
    <p class="path"><a href="/">Now</a> / <a href=${href({ service })}>${shown(any?.service ?? service)}</a> / Instance</p>
    <h1 tabindex="-1">${shown(id)}</h1>
    ${gone && html`<p class="banner critical"><span>It is gone since revision ${number(gone.revision)}: ${departed(gone.reason)}. Below is what was last known.</span></p>`}
    ${!any && fleet.known.value && html`<p class="banner warning"><span>${why ? `It is ${states[why.state] ?? shown(why.state)}: ${shown(why.reason)}.`
      : answer.problem ? `${shown(answer.problem)}.` : `No instance ${shown(id)} of ${shown(service)} is registered.`} If it comes, it appears here by itself.</span></p>`}
    ${any ? html`<${Details} e=${any} why=${gone ? null : why} problem=${gone ? '' : answer.problem} steps=${why?.next ?? []} gone=${!!gone} />` : html`<${Steps} steps=${why?.next ?? []} />`}
    <${InstanceWhy} service=${service} id=${id} answer=${answer} />`
}

/** @param {{e: Entry, why: import('../types.js').Why | null, problem: string, steps: string[], gone: boolean}} p */
function Details({ e, why, problem, steps, gone }) {
  const owner = nodes.value?.find((n) => n.agent === e.owner)
  const facts = [
    ['Address', html`<span class="mono">${hostport(e)}</span>`],
    ...Object.entries(e.ports).map(([name, port]) => [`Port ${shown(name)}`, port]),
    ['Node', e.node ? html`<a href=${href({ view: 'nodes', node: e.node })}>${shown(e.node)}</a>` : '–'],
    ['Zone', shown(e.zone) || '–'],
    ['Weight', e.weight],
    ['Slots', e.slots],
    ['Load', e.utilization === undefined ? 'not reported' : `${Math.round(e.utilization * 100)} %`],
    ['Tags', e.tags.length ? html`<${Tags} tags=${e.tags} />` : '–'],
    ...Object.entries(e.meta).map(([key, value]) => [shown(key), html`<span class="mono">${shown(value)}</span>`]),
    ['Registered', e.registered_at ? `${moment(e.registered_at)}, ${age(e.registered_at, now.value)} ago` : '–'],
    ['Source', e.source === 'static' ? 'static: made by an operator, lasts until it is removed' : 'agent: its record is under the lease of its agent'],
    ['Owner', e.owner ? html`<span class="mono">${shown(e.owner)}</span> ${owner ? `on ${shown(owner.node)}, version ${shown(owner.version)}` : e.suspect ? html`<${Mark} word="critical">not heard of</${Mark}>` : ''}` : '–'],
    ['Run', e.run ? html`<span class="mono">${shown(e.run)}</span>` : '–'],
    ['Revision', number(e.revision)],
    ...(e.deregister_after ? [['Deregistered', `when it is critical for ${e.deregister_after}`]] : []),
  ]
  return html`
    <p class="lead"><${Mark} word=${wordOf(e)}>${e.state === 'up' ? e.status : `${e.state}, ${e.status}`}</${Mark}>
      ${why && html` – <b>${states[why.state] ?? shown(why.state)}</b>: ${shown(why.reason)}.`}</p>
    ${!why && problem && html`<p class="note" role="status">Why it is answered or not is not known: ${shown(problem)}</p>`}
    ${!gone && html`<div class="buttons">
      ${e.state === 'up'
        ? html`<button type="button" onClick=${() => openChange(e, { state: 'drain' })}>Drain …</button>`
        : html`<button type="button" onClick=${() => openChange(e, { state: 'up' })}>Undrain …</button>`}
      <button type="button" onClick=${() => openChange(e)}>Change state or weight …</button>
      ${e.override && html`<button type="button" onClick=${() => openChange(e, { remove: true })}>Remove the override …</button>`}
    </div>`}
    <${Steps} steps=${steps} />
    <${Checks} e=${e} />
    <section aria-labelledby="record"><h2 id="record">Record</h2><${Facts} rows=${facts} /></section>
    ${e.override && html`<section aria-labelledby="override"><h2 id="override">Override</h2><${Facts} rows=${Object.entries(e.override).map(([k, v]) => [shown(k), html`<span class="mono">${shown(typeof v === 'string' ? v : JSON.stringify(v))}</span>`])} /></section>`}
    ${e.shadowed && html`<section aria-labelledby="twin"><h2 id="twin">Static entry behind the record</h2><p class="note">It is answered when the record is gone.</p>
      <${Facts} rows=${[['Address', hostport(e.shadowed)], ['Weight', e.shadowed.weight], ['Tags', shown(e.shadowed.tags.join(', ')) || '–']]} /></section>`}`
}

/**
 * What to do, with the commands to copy.
 * @param {{steps: string[]}} p
 */
function Steps({ steps }) {
  if (!steps.length) return null
  return html`
    <section aria-labelledby="next"><h2 id="next">What to do</h2>
      <ul class="next">${steps.map((step, n) => html`<li key=${n}>${partsOf(step).map((part) => (part.command ? html`<${Command} command=${part.text} />` : shown(part.text)))}</li>`)}</ul>
    </section>`
}

/** @param {{e: Entry}} p */
function Checks({ e }) {
  const checks = e.checks ?? []
  const mine = agent.value?.status.owner === e.owner
  return html`
    <section aria-labelledby="checks"><h2 id="checks">Checks <span class="n">${checks.length}</span></h2>
      ${!checks.length && html`<p class="note">It has none, so that it passes for as long as its agent is there.</p>`}
      <ul class="checks">${checks.map((c) => {
        const output = outputOf(e, c.id)
        return html`<li key=${c.id}><${Mark} word=${c.status}>${c.status}</${Mark}> <b>${shown(c.name || c.id)}</b> <span class="note">${shown(c.type)}</span>
          ${output ? html`<pre tabindex="0" aria-label=${`Output of ${shown(c.name || c.id)}`}>${output}</pre>` : c.status !== 'passing' && html`<p class="note">${mine
            ? 'Its output takes a token with scope status.' : `Its output is with its agent${e.node ? ` on ${shown(e.node)}` : ''}.`}</p>`}</li>`
      })}</ul>
    </section>`
}
