// Parts that the views of shared state share.
import { token } from './api.js'
import { clock, shown } from './format.js'
import { html } from './html.js'
import { TokenForm } from './token.js'

/** @typedef {import('./api.js').Problem} Problem */

/**
 * Says what is wrong with an answer, and takes a token where that may help.
 * @param {{problem: Problem | null, at?: number, once?: boolean}} p  at: when there was an answer last, in milliseconds; once: it is not asked for again
 */
export function Wrong({ problem, at = 0, once = false }) {
  if (!problem) return null
  return html`
    <p class="banner critical" role="alert"><span>${shown(problem.message)}${/[.!?]$/.test(problem.message) ? '' : '.'}${at ? ` What you see is as of ${clock(at)}.` : ''}${once || problem.final ? '' : ' The page tries again.'}</span></p>
    ${problem.denied && html`<div class="panel"><p>${token.value ? 'The token that is given does not suffice.' : 'This takes a token.'}</p><${TokenForm} done=${() => {}} /></div>`}`
}
