// Whether somebody looks at the page: for one that nobody sees, nothing is followed.

/** A page that nobody sees does not follow the changes any more after this time. */
export const hiddenTime = 30_000 // it gives its connection back: a browser has six to a host

let left = false // the reader is on another page, from which the browser may bring this one back

export function startSeen() {
  window.addEventListener('pagehide', () => (left = true))
  window.addEventListener('pageshow', () => (left = false))
}

/** Whether nobody looks at the page. */
export const isUnseen = () => document.hidden || left

/**
 * Ends a stream when the reader leaves the page, or has not looked at it for a while.
 * @param {AbortController} stop
 */
export function stopWhenHidden(stop) {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer
  const look = () => {
    clearTimeout(timer)
    if (document.hidden) timer = setTimeout(() => stop.abort(), hiddenTime)
  }
  const leave = () => stop.abort()
  look()
  document.addEventListener('visibilitychange', look)
  window.addEventListener('pagehide', leave)
  return () => {
    clearTimeout(timer)
    window.removeEventListener('pagehide', leave)
    document.removeEventListener('visibilitychange', look)
  }
}

/**
 * Waits until somebody looks at the page.
 * @param {AbortSignal} stop
 */
export function seen(stop) {
  return new Promise((resolve) => {
    const look = () => {
      if (isUnseen() && !stop.aborted) return
      document.removeEventListener('visibilitychange', look)
      window.removeEventListener('pageshow', look)
      stop.removeEventListener('abort', look)
      resolve(undefined)
    }
    document.addEventListener('visibilitychange', look)
    window.addEventListener('pageshow', look)
    stop.addEventListener('abort', look)
    look() // somebody may be back already
  })
}
