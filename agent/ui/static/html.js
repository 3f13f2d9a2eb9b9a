// What the page is built on, in one place.
import { h } from './vendor/preact.js'
import htm from './vendor/htm.js'

export { render } from './vendor/preact.js'
export { useEffect, useLayoutEffect, useMemo, useRef } from './vendor/hooks.js'
export { batch, computed, effect, signal, useComputed, useSignal } from './vendor/signals.js'

/**
 * Makes elements of a template. Values become text or attributes, never markup.
 * @type {(strings: TemplateStringsArray, ...values: unknown[]) => any}
 */
export const html = htm.bind(h)
