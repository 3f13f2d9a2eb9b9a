// The key that works everywhere on the page.

/** Puts the cursor into the search by "/". Further letters would get in the way of speech control. */
export function startKeys() {
  document.addEventListener('keydown', (event) => {
    const target = event.target instanceof Element ? event.target : null
    if (event.key !== '/' || event.ctrlKey || event.metaKey || event.altKey || target?.closest('input, textarea, select, dialog')) return
    const search = document.querySelector('input[type=search]')
    if (!(search instanceof HTMLInputElement)) return
    event.preventDefault()
    search.focus()
    search.select()
  })
}
