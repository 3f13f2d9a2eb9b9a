// Parts of the page that are loaded when they are first shown, so that the first view stays small.
import { html, useEffect, useSignal } from './html.js'
import { visits } from './router.js'

/**
 * A component whose module is loaded when it is first shown.
 * @param {() => Promise<any>} load  returns the component
 * @param {string} [title]  of a whole view, which has a heading from the first moment on
 */
export function later(load, title) {
  /** @type {any} */
  let loaded = null
  /** @param {any} props */
  return function Later(props) {
    const state = useSignal(/** @type {'loading' | 'there' | 'failed'} */ (loaded ? 'there' : 'loading'))
    const get = async () => {
      state.value = 'loading'
      try {
        loaded = await load()
        state.value = 'there'
      } catch {
        state.value = 'failed'
      }
    }
    useEffect(() => {
      if (!loaded) get()
    }, [])
    useEffect(() => {
      // The heading that had the focus is another one by now.
      const heading = title && state.value === 'there' && document.querySelector('main h1')
      if (heading instanceof HTMLElement && visits.peek() > 0 && document.activeElement === document.body) heading.focus({ preventScroll: true })
    }, [state.value])
    if (state.value === 'there') return html`<${loaded} ...${props} />`
    return html`
      ${title && html`<h1 tabindex="-1">${title}</h1>`}
      ${state.value === 'loading'
        ? html`<p class="start">Asking the agent for this view …</p>`
        : html`<p class="banner critical" role="alert"><span>The agent at ${location.host} did not send this view. It is away, or has another page by now.</span>
            <button type="button" onClick=${get}>Try again</button> <button type="button" onClick=${() => location.reload()}>Load the page again</button></p>`}`
  }
}
