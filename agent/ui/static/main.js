// The page: starts what keeps it up to date, and shows the place that the URL names.
import { ChangeDialog } from './change.js'
import { Banners, Header, Notices } from './frame.js'
import { html, render, useEffect, useRef } from './html.js'
import { later } from './later.js'
import { startLive } from './live.js'
import { place, startRouter, visits } from './router.js'
import { startKeys } from './keys.js'
import { startStrips } from './strips.js'
import { TokenDialog } from './token.js'
import { Instance } from './view_instance.js'
import { Nodes } from './view_nodes.js'
import { Now } from './view_now.js'
import { Service } from './view_service.js'

const Changes = later(async () => (await import('./view_changes.js')).Changes, 'Changes')
const State = later(async () => (await import('./view_state.js')).State, 'Shared state')
const Try = later(async () => (await import('./view_try.js')).Try, 'Try it')

function Page() {
  return html`
    <${Header} />
    <${Banners} />
    <${Main} />
    <${Notices} />
    <${ChangeDialog} />
    <${TokenDialog} />`
}

function Main() {
  const at = place.value
  const main = useRef(/** @type {HTMLElement | null} */ (null))
  const visit = visits.value
  useEffect(() => {
    // Screen readers read the new heading, and the next Tab begins there.
    if (visit > 0) main.current?.querySelector('h1')?.focus({ preventScroll: true })
  }, [visit])
  return html`<main ref=${main} id="main">${viewOf(at)}</main>`
}

/** @param {import('./router.js').Place} at */
function viewOf(at) {
  if (at.view === 'changes') return html`<${Changes} key=${`changes/${at.service}`} service=${at.service} />`
  if (at.service && at.instance) return html`<${Instance} key=${`${at.service}/${at.instance}`} service=${at.service} id=${at.instance} />`
  if (at.service) return html`<${Service} key=${at.service} service=${at.service} />`
  if (at.view === 'try') return html`<${Try} />`
  if (at.view === 'nodes') return html`<${Nodes} />`
  if (at.view === 'state') return html`<${State} />`
  return html`<${Now} />`
}

const root = /** @type {HTMLElement} */ (document.getElementById('page'))
root.textContent = ''
startRouter()
startKeys()
startLive()
startStrips()
render(html`<${Page} />`, root)
