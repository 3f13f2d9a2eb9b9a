// What is around each view: the header with the badge of freshness, what is wrong with the
// connection, and notices of what was done.
import { token } from './api.js'
import { clock, number, seconds, shown, span } from './format.js'
import { html } from './html.js'
import { agent, link, namespace, now, outdated, retryNow } from './live.js'
import { dismiss, notices } from './notices.js'
import { href, place } from './router.js'
import { openToken } from './token.js'

export function Header() {
  const at = place.value
  /** @param {boolean} here */
  const current = (here) => (here ? 'page' : undefined)
  return html`
    <header class="bar">
      <a class="skip" href="#main" onClick=${(/** @type {Event} */ e) => skip(e)}>Skip to the content</a>
      <nav aria-label="Views">
        <a class="brand" href="/">disc</a>
        <a href="/" aria-current=${current(at.view === 'now' && !at.service)}>Now</a>
        <a href=${href({ view: 'nodes' })} aria-current=${current(at.view === 'nodes' && !at.service)}>Nodes</a>
        <a href=${href({ view: 'changes' })} aria-current=${current(at.view === 'changes')}>Changes</a>
        <a href=${href({ view: 'state' })} aria-current=${current(at.view === 'state' && !at.service)}>Shared state</a>
        <a href=${href({ view: 'try' })} aria-current=${current(at.view === 'try' && !at.service)}>Try it</a>
      </nav>
      <${Freshness} />
      <button type="button" class="quiet" onClick=${openToken}>${token.value ? 'Token given' : 'Token'}</button>
    </header>`
}

/** @param {Event} event */
function skip(event) {
  event.preventDefault()
  const heading = document.querySelector('main h1')
  if (heading instanceof HTMLElement) heading.focus()
}

/** Seconds since etcd confirmed what the page shows. */
export function ageNow() {
  const a = agent.value
  return a ? seconds(a.status.catalog.age) + Math.max(0, now.value - a.at) / 1000 : NaN
}

/** Seconds until the agent's lease ends unless etcd answers it. */
export function leaseMargin() {
  const a = agent.value
  if (!a || a.status.session.state !== 'alive') return NaN
  return Math.max(0, seconds(a.status.session.ttl) - seconds(a.status.session.last_keepalive) - (now.value - a.at) / 1000)
}

/**
 * The member of etcd that answers: where it is or, where the agent does not say that, its id.
 * @param {{endpoint?: string, member?: string}} by
 */
export const memberOf = (by) => by.endpoint?.replace(/^https?:\/\//, '') || by.member || ''

/** @param {import('../types.js').Agent} a */
function memberTitle(a) {
  const name = (/** @type {{endpoint?: string, member?: string}} */ by) => shown([by.endpoint, by.member && `member ${by.member}`].filter(Boolean).join(', '))
  const renewed = name(a.session)
  return `the member of etcd that is watched: ${name(a.catalog)}${renewed ? `; the lease is renewed at ${renewed}` : ''}`
}

function Freshness() {
  const a = agent.value?.status
  const state = link.value.state
  const stale = a?.catalog.stale
  const margin = leaseMargin()
  const [kind, word] = state === 'live' ? (stale ? ['warning', 'stale'] : ['good', 'live']) : state === 'connecting' ? ['quiet', 'connecting'] : ['critical', state === 'refused' ? 'refused' : 'away']
  return html`
    <div class=${`freshness ${kind}`} role="group" aria-label="Freshness">
      <span class="light" aria-hidden="true"></span><b role="status">${word}</b>
      ${a && html`
        <span title="etcd's revision up to which the page is complete">rev ${number(a.catalog.revision)}</span>
        <span class="wide" aria-hidden="true" title="since etcd last confirmed it">${span(ageNow())} old</span>
        ${margin >= 0 && html`<span class=${`wide ${margin < 3 ? 'warning' : ''}`} aria-hidden="true" title="until the agent's lease ends, unless etcd answers before">lease ${span(margin)}</span>`}
        ${memberOf(a.catalog) && html`<span class="wide" title=${memberTitle(a)}>etcd ${shown(memberOf(a.catalog))}</span>`}
        <span class="wide" title="the agent that answers">${shown(a.node)}<span class="version"> ${shown(a.version)}</span></span>`}
    </div>`
}

/** Says in a sentence each what keeps the page from being up to date. Nothing on it is lost. */
export function Banners() {
  const l = link.value
  const a = agent.value
  const list = []
  if (l.state === 'away') {
    const wait = Math.max(0, Math.ceil((l.retryAt - now.value) / 1000))
    list.push(html`
      <p class="banner critical" key="away">
        <span>${shown(l.why)} What you see is as of ${clock(l.since)}; the page tries again<span aria-hidden="true">${wait ? ` in ${wait} s` : ' now'}</span>.</span>
        <button type="button" onClick=${retryNow}>Try now</button>
      </p>`)
  }
  if (l.state === 'refused') {
    list.push(html`
      <p class="banner critical" key="refused">
        <span>The agent refuses to show the fleet: ${shown(l.why)}.</span>
        <button type="button" onClick=${openToken}>Give a token</button>
      </p>`)
  }
  if (l.state === 'live' && a?.status.catalog.stale) {
    list.push(html`
      <p class="banner warning" key="stale">
        <span>etcd has not confirmed the view of this agent<span aria-hidden="true"> for ${span(ageNow())}</span>${a.status.catalog.error ? `: ${shown(a.status.catalog.error)}` : ''}.
        Lookups are still answered, from what you see here. Changes since then are not in it.</span>
      </p>`)
  }
  if (a && a.status.namespace !== namespace.value) {
    list.push(html`
      <p class="banner warning" key="namespace">
        <span>The agent shows namespace ${shown(a.status.namespace)} now; it was ${shown(namespace.value)} when this page was opened.</span>
      </p>`)
  }
  if (outdated.value) {
    list.push(html`
      <p class="banner warning" key="outdated">
        <span>This page is older than the agent${a ? `, which is ${shown(a.status.version)} now` : ''}. Load it again to get the agent's own.</span>
        <button type="button" onClick=${() => location.reload()}>Load again</button>
      </p>`)
  }
  return html`<div role="status" aria-label="Connection">${list}</div>`
}

export function Notices() {
  return html`
    <div class="notices" role="log" aria-label="Done">
      ${notices.value.map((n) => html`
        <p class=${`notice ${n.failed ? 'critical' : ''}`} key=${n.id}>
          <span>${n.text}</span>
          ${n.undo && html`<button type="button" onClick=${() => { dismiss(n.id); n.undo?.() }}>Undo</button>`}
          <button type="button" class="quiet" aria-label="Dismiss" onClick=${() => dismiss(n.id)}>✕</button>
        </p>`)}
    </div>`
}
