// The token that the reader gives.
import { token, useToken } from './api.js'
import { Dialog } from './dialog.js'
import { html, signal, useRef } from './html.js'

const open = signal(false)

export function openToken() {
  open.value = true
}

export function TokenDialog() {
  if (!open.value) return null
  const close = () => (open.value = false)
  return html`
    <${Dialog} title="Token" onClose=${close}>
      <p>Where an agent tells its callers apart, a token with scope <code>operate</code> changes instances, and one with
      scope <code>status</code> shows errors and the outputs of checks. Keys take <code>kv-read</code> to be read, and <code>kv</code> to be
      written.</p>
      <${TokenForm} done=${close} />
      ${token.value && html`<p><button type="button" onClick=${() => { useToken('', false); close() }}>Forget the token</button></p>`}
    </${Dialog}>`
}

/**
 * @param {object} p
 * @param {() => void} p.done
 */
export function TokenForm({ done }) {
  const value = useRef(/** @type {HTMLInputElement | null} */ (null))
  const keep = useRef(/** @type {HTMLInputElement | null} */ (null))
  /** @param {Event} event */
  const submit = (event) => {
    event.preventDefault()
    useToken(value.current?.value ?? '', keep.current?.checked ?? false)
    done()
  }
  return html`
    <form class="fields" onSubmit=${submit}>
      <label>Token <input ref=${value} type="password" name="token" autocomplete="off" required /></label>
      <label class="check"><input ref=${keep} type="checkbox" name="keep" /> Keep it in this tab until the tab is closed</label>
      <button type="submit" class="main">Use the token</button>
    </form>`
}
