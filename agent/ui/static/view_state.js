// Shared state: keys, locks, claims and rate limits. Its modules come when it is opened first.
import { html } from './html.js'
import { place, href } from './router.js'
import { EditDialog } from './state_edit.js'
import { Claims, Limits, Locks } from './state_held.js'
import { Key } from './state_key.js'
import { Keys } from './state_keys.js'

const tabs = [
  { tab: '', label: 'Keys', view: Keys },
  { tab: 'locks', label: 'Locks', view: Locks },
  { tab: 'claims', label: 'Claims', view: Claims },
  { tab: 'limits', label: 'Limits', view: Limits },
]

export function State() {
  const at = place.value
  if (at.key) return html`<${Key} key=${at.key} name=${at.key} /><${EditDialog} />`
  const here = tabs.find((t) => t.tab === at.tab) ?? tabs[0]
  return html`
    <h1 tabindex="-1">Shared state</h1>
    <nav class="tabs" aria-label="Shared state">
      ${tabs.map((t) => html`<a key=${t.tab} href=${href({ view: 'state', tab: t.tab })} aria-current=${t === here ? 'page' : undefined}>${t.label}</a>`)}
    </nav>
    <${here.view} key=${`${here.tab} ${at.dir}`} />
    <${EditDialog} />`
}
