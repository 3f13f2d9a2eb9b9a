// Values as text, JSON or hex, and what differs between two. Nothing here needs a browser.
import { shown } from './format.js'

/** @typedef {'text' | 'json' | 'hex'} Form */

/**
 * The bytes of a value in base64.
 * @param {string} base64
 */
export const bytesOf = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))

/**
 * The text that bytes are in UTF-8; null: none.
 * @param {Uint8Array} bytes
 */
export function textOf(bytes) {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch {
    return null
  }
}

/**
 * Whether a field for text gives back what it was given: it would change the ends of lines.
 * @param {string | null} text
 * @returns {text is string}
 */
export const isPlain = (text) => text !== null && !/[^\P{Cc}\n\t]/u.test(text)

/**
 * Text as it is shown; a tab is no character that does not show.
 * @param {string} text
 */
export const lines = (text) => text.split('\t').map(shown).join('\t')

/** @param {string | null} text */
export function isJSON(text) {
  if (text === null || !/^\s*[[{]/.test(text)) return false
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}

/**
 * How a value is shown unless the reader chooses.
 * @param {Uint8Array} bytes
 * @returns {Form}
 */
export function formOf(bytes) {
  const text = textOf(bytes)
  return isJSON(text) ? 'json' : isPlain(text) ? 'text' : 'hex'
}

const deepest = 32 // levels that are indented

/**
 * JSON with a line for each member. All else stays as it is written, such as the digits of numbers.
 * @param {string} text  valid JSON
 * @param {number} most  characters after which it may end
 */
export function indent(text, most) {
  const out = []
  let size = 0
  let depth = 0
  let line = false // a new line is due
  for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"|[[\]{},:]|[^\s"[\]{},:]+/g)) {
    if (token === ']' || token === '}') {
      depth--
      if (!line) out.push('\n', '  '.repeat(Math.min(depth, deepest))) // it is not empty
    } else if (line) {
      out.push('\n', '  '.repeat(Math.min(depth, deepest)))
    }
    line = false
    out.push(token === ':' ? ': ' : token)
    if (token === '[' || token === '{') {
      depth++
      line = true
    } else if (token === ',') {
      line = true
    }
    size += token.length + (line ? 1 + 2 * Math.min(depth, deepest) : 0)
    if (size > most) break
  }
  return out.join('')
}

/**
 * Bytes as hexdump -C shows them.
 * @param {Uint8Array} bytes
 * @param {number} [most]  bytes
 */
export function dump(bytes, most = bytes.length) {
  const lines = []
  for (let at = 0; at < Math.min(bytes.length, most); at += 16) {
    const part = bytes.subarray(at, Math.min(at + 16, most))
    const ascii = [...part].map((b) => (b >= 0x20 && b < 0x7f ? String.fromCharCode(b) : '.')).join('')
    lines.push(`${at.toString(16).padStart(8, '0')}  ${hexOf(part).padEnd(47)}  ${ascii}`)
  }
  return lines.join('\n')
}

/** @param {Uint8Array} bytes */
export const hexOf = (bytes) => [...bytes].map((b) => b.toString(16).padStart(2, '0')).join(' ')

/**
 * The bytes that a text in hex has; null: it is none.
 * @param {string} text
 */
export function fromHex(text) {
  const digits = text.replace(/\s+/g, '')
  if (digits.length % 2 || /[^0-9a-f]/i.test(digits)) return null
  const bytes = new Uint8Array(digits.length / 2)
  for (let n = 0; n < bytes.length; n++) bytes[n] = parseInt(digits.slice(2 * n, 2 * n + 2), 16)
  return bytes
}

/**
 * @param {Uint8Array} a
 * @param {Uint8Array} b
 */
export const same = (a, b) => a.length === b.length && a.every((byte, n) => byte === b[n])

/**
 * What differs between two values, in lines: those that go, and those that come.
 * @param {Uint8Array} before
 * @param {Uint8Array} after
 */
export function difference(before, after) {
  const a = linesOf(before, after)
  const b = linesOf(after, before)
  let first = 0
  while (first < a.length && first < b.length && a[first] === b[first]) first++
  let end = 0
  while (end < a.length - first && end < b.length - first && a[a.length - 1 - end] === b[b.length - 1 - end]) end++
  return { gone: a.slice(first, a.length - end), come: b.slice(first, b.length - end) }
}

const longest = 200 // characters of a line that are shown
const around = 40 // characters before the first that differs

/**
 * A line of a difference as it is shown. Of a long one, such as JSON without spaces, it is the part
 * where it begins to differ from the line in whose place it comes.
 * @param {string} line
 * @param {string} [other]
 */
export function excerpt(line, other = '') {
  let from = 0
  while (from < line.length && from < other.length && line[from] === other[from]) from++
  from = line.length > longest || other.length > longest ? Math.max(0, from - around) : 0
  return `${from ? '… ' : ''}${lines(line.slice(from, from + longest))}${line.length > from + longest ? ' …' : ''}`
}

/**
 * The lines of a value: of its dump, where it or what it is compared with is no plain text.
 * @param {Uint8Array} bytes
 * @param {Uint8Array} other
 */
function linesOf(bytes, other) {
  if (!bytes.length) return []
  const text = textOf(bytes)
  return isPlain(text) && isPlain(textOf(other)) ? text.split('\n') : dump(bytes).split('\n')
}
