// Small parts that several views show.
import { isHealthy } from './fleet.js'
import { number, shown } from './format.js'
import { html, useLayoutEffect, useRef, useSignal } from './html.js'
import { place, refine } from './router.js'

/** @typedef {import('../types.js').Entry} Entry */

/** @type {Record<string, string>} */
const marks = { passing: '●', warning: '▲', critical: '✕', drain: '‖', down: '■', suspect: '?' }

/**
 * A word with its mark, so that colour is not all that tells.
 * @param {{word: string, children?: any}} p
 */
export function Mark({ word, children }) {
  return html`<span class=${`mark ${word}`}><span aria-hidden="true">${marks[word] ?? ''}</span> ${children ?? word}</span>`
}

/**
 * The worst that is to be said of an instance, in a word.
 * @param {Entry} e
 */
export function wordOf(e) {
  if (e.state !== 'up') return e.state
  return e.suspect ? 'suspect' : e.status
}

/** @param {{tags: string[]}} p */
export function Tags({ tags }) {
  return tags.map((tag) => html`<span class="tag" key=${tag}>${shown(tag)}</span>`)
}

/**
 * A search, which is kept in the URL.
 * @param {{label: string}} p
 */
export function Search({ label }) {
  return html`
    <input type="search" aria-label=${label} placeholder=${`${label}  /`} value=${place.value.q} autocomplete="off" spellcheck=${false}
      onInput=${(/** @type {any} */ e) => refine({ q: e.target.value })}
      onKeyDown=${(/** @type {KeyboardEvent} */ e) => { if (e.key === 'ArrowDown') firstRow(e) }} />`
}

/** @param {KeyboardEvent} event */
function firstRow(event) {
  const link = document.querySelector('[data-row] :is(a, [tabindex])')
  if (!(link instanceof HTMLElement)) return
  event.preventDefault()
  link.focus()
}

/**
 * Chooses which rows are shown, which is kept in the URL.
 * @param {{choices: {only: string, label: string, n: number}[]}} p
 */
export function Filters({ choices }) {
  const only = place.value.only
  return html`
    <div class="filters" role="group" aria-label="Show">
      ${choices.map((c) => (c.n > 0 || c.only === '' || c.only === only) && html`
        <button type="button" key=${c.only} aria-pressed=${only === c.only} onClick=${() => refine({ only: c.only })}>${c.label} <span class="n">${number(c.n)}</span></button>`)}
    </div>`
}

/** @type {Record<string, (e: Entry) => boolean>} */
export const selections = {
  '': () => true,
  in: isHealthy,
  out: (e) => !isHealthy(e),
  critical: (e) => e.state === 'up' && e.status === 'critical',
  warning: (e) => e.state === 'up' && e.status === 'warning',
  drained: (e) => e.state !== 'up',
  suspect: (e) => !!e.suspect,
}

/**
 * Whether an instance has all words of a search somewhere.
 * @param {Entry} e
 * @param {string[]} words  in lower case
 */
export function matches(e, words) {
  if (!words.length) return true
  const text = `${e.service} ${e.id} ${e.node ?? ''} ${e.zone ?? ''} ${e.address}:${e.port} ${e.state} ${e.status} ${e.tags.join(' ')} ${Object.entries(e.meta).map((m) => m.join('=')).join(' ')}`.toLowerCase()
  return words.every((word) => text.includes(word))
}

/** @param {string} q */
export const wordsOf = (q) => q.toLowerCase().split(/\s+/).filter(Boolean)

/**
 * Sets the title of the document, for the browser's tabs and history.
 * @param {string} title
 */
export function useTitle(title) {
  useLayoutEffect(() => {
    document.title = `${title} – disc`
  }, [title])
}

/**
 * Names with their values.
 * @param {{rows: any[][]}} p
 */
export function Facts({ rows }) {
  return html`<dl class="facts">${rows.map(([name, value], n) => html`<div key=${`${n}/${name}`}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`
}

/**
 * A command with a button that copies it. Where the browser lets no script copy, it is selected.
 * @param {{command: string}} p
 */
export function Command({ command }) {
  const copied = useSignal('')
  const code = useRef(/** @type {HTMLElement | null} */ (null))
  const copy = async () => {
    copied.value = (await copyText(command)) ? 'Copied' : 'Selected'
    if (copied.value === 'Selected' && code.current) getSelection()?.selectAllChildren(code.current)
    setTimeout(() => (copied.value = ''), 2000)
  }
  return html`<span class="command"><code ref=${code}>${command}</code>
    <button type="button" class="quiet" aria-label=${`Copy ${command}`} onClick=${copy}>Copy</button> <span role="status">${copied.value}</span></span>`
}

/**
 * Copies a text, where the browser allows that: over plain HTTP from another host it does not.
 * @param {string} text
 */
async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text)
    return true
  } catch {
    return false
  }
}
