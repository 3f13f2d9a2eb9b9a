// A dialog: the browser keeps the focus in it, and Escape closes it.
import { html, useLayoutEffect, useRef } from './html.js'

/**
 * @param {object} p
 * @param {string} p.title
 * @param {() => void} p.onClose
 * @param {any} p.children
 */
export function Dialog({ title, onClose, children }) {
  const dialog = useRef(/** @type {HTMLDialogElement | null} */ (null))
  useLayoutEffect(() => {
    const before = document.activeElement
    dialog.current?.showModal()
    return () => {
      if (before instanceof HTMLElement && before.isConnected) before.focus()
    }
  }, [])
  return html`
    <dialog ref=${dialog} aria-labelledby="dialog-title" onClose=${onClose}>
      <h2 id="dialog-title">${title}</h2>
      ${children}
    </dialog>`
}
