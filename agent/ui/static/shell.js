// Commands for a shell. What is in them comes from an address or a record, and somebody pastes them
// into a terminal: each word is one word there, and only text.
import { isPlain } from './format.js'

/**
 * A word as sh reads it. What would not show, or would act on the terminal that it is pasted into,
 * is written in octal: $'…' is in bash, zsh, ksh and POSIX of 2024.
 * @param {string} word
 */
export function quote(word) {
  if (/^[\w@%+=:,./-]+$/.test(word) && !/^[=~]/.test(word)) return word
  if (isPlain(word)) return `'${word.replaceAll("'", "'\\''")}'`
  const bytes = [...new TextEncoder().encode(word)].map((b) => (b < 0x20 || b > 0x7e || b === 0x27 || b === 0x5c ? `\\${b.toString(8).padStart(3, '0')}` : String.fromCharCode(b)))
  return `$'${bytes.join('')}'`
}

/** @param {string[]} words */
export const command = (...words) => words.map(quote).join(' ')
