// DNS messages (RFC 1035): a query, and an answer in the form of dig. An answer is read within
// bounds, whatever is in it.
import { shown } from './format.js'

/** A name that DNS cannot ask for, or an answer that is none. The message is for the reader. */
export class DNSError extends Error {}

/** @type {Record<string, number>} */
export const types = { A: 1, NS: 2, CNAME: 5, SOA: 6, PTR: 12, HINFO: 13, TXT: 16, AAAA: 28, SRV: 33, OPT: 41 }
const typeNames = new Map(Object.entries(types).map(([name, code]) => [code, name]))
const statuses = ['NOERROR', 'FORMERR', 'SERVFAIL', 'NXDOMAIN', 'NOTIMP', 'REFUSED']
const flags = /** @type {[string, number][]} */ ([['qr', 0x8000], ['aa', 0x400], ['tc', 0x200], ['rd', 0x100], ['ra', 0x80], ['ad', 0x20], ['cd', 0x10]])

const maxMessage = 65_535
const maxName = 255
const maxLabel = 63
const maxPointers = 126 // a name has no more labels
const mostShown = 200 // records of a section
const payload = 1232 // bytes over UDP that EDNS offers; an answer over HTTP has no such bound

/**
 * The bytes of a name.
 * @param {string} name  without a last dot
 */
function pack(name) {
  const out = []
  for (const label of name.split('.')) {
    const bytes = new TextEncoder().encode(label)
    if (!bytes.length) throw new DNSError(`DNS cannot ask for ${shown(name)}: nothing is between two of its dots.`)
    if (bytes.length > maxLabel) throw new DNSError(`DNS cannot ask for ${shown(name)}: ${shown(label)} has ${bytes.length} bytes, and ${maxLabel} are allowed between two dots.`)
    out.push(bytes.length, ...bytes)
  }
  out.push(0)
  if (out.length > maxName) throw new DNSError(`DNS cannot ask for ${shown(name)}: the name has ${out.length} bytes, and ${maxName} are allowed.`)
  return out
}

/**
 * A query, as RFC 8484 likes it: its id is 0. It asks by EDNS for the reasons of errors (RFC 8914).
 * @param {string} name  without a last dot
 * @param {number} type
 */
export function query(name, type) {
  const header = [0, 0, 0x01, 0, 0, 1, 0, 0, 0, 0, 0, 1]
  const options = [0, 0, types.OPT, payload >> 8, payload & 0xff, 0, 0, 0, 0, 0, 0]
  return new Uint8Array([...header, ...pack(name), 0, type, 0, 1, ...options])
}

/**
 * A name in the form of files and commands: what is not a letter, a digit, "-" or "_" is escaped, and
 * so is what would be an option at the begin.
 * @param {Uint8Array[]} labels
 */
function written(labels) {
  const text = labels.map((label) => [...label].map((b) => (/[\w-]/.test(String.fromCharCode(b)) ? String.fromCharCode(b) : `\\${String(b).padStart(3, '0')}`)).join(''))
  return text.join('.').replace(/^-/, '\\045')
}

/**
 * The name as a command takes it.
 * @param {string} name
 */
export const writtenName = (name) => written(name.split('.').map((label) => new TextEncoder().encode(label)))

/** @typedef {{name: string, type: number, class: number, ttl: number, data: string}} DNSRecord */

/** Reads a message from its begin to its end. */
class Reader {
  /** @param {Uint8Array<ArrayBuffer>} bytes */
  constructor(bytes) {
    this.bytes = bytes
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.at = 0
    this.end = bytes.length
  }

  /**
   * Moves on by n bytes and returns where they begin.
   * @param {number} n
   */
  take(n) {
    const from = this.at
    if (from + n > this.end) throw new DNSError(`The answer is no DNS message: it ends at byte ${this.end} within a field.`)
    this.at += n
    return from
  }

  byte() { return this.view.getUint8(this.take(1)) }
  short() { return this.view.getUint16(this.take(2)) }
  long() { return this.view.getUint32(this.take(4)) }

  /** @param {number} n */
  slice(n) {
    const from = this.take(n)
    return this.bytes.subarray(from, from + n)
  }

  /** A name. Its pointers lead back only, so that it ends (RFC 1035, section 4.1.4). */
  name() {
    const labels = []
    let [length, pointers, begin, back] = [1, 0, this.at, -1]
    const end = this.end
    for (let n = this.byte(); n !== 0; n = this.byte()) {
      if (n >= 0xc0) {
        const target = ((n & 0x3f) << 8) | this.byte()
        if (back < 0) back = this.at
        if (target >= begin || ++pointers > maxPointers) throw new DNSError(`The answer is no DNS message: the name before byte ${this.at} has no end.`)
        this.at = begin = target
        this.end = this.bytes.length
        continue
      }
      length += n + 1
      if (n > maxLabel || length > maxName) throw new DNSError(`The answer is no DNS message: the name before byte ${this.at} is too long.`)
      labels.push(this.slice(n))
    }
    if (back >= 0) this.at = back
    this.end = end
    return `${written(labels)}.`
  }

  question() {
    return { name: this.name(), type: this.short(), class: this.short() }
  }

  /** @returns {DNSRecord} */
  record() {
    const name = this.name()
    const [type, kind, ttl, length] = [this.short(), this.short(), this.long(), this.short()]
    const end = this.take(length) + length
    const rest = this.end
    this.at = end - length
    this.end = end
    const data = this.data(type)
    if (this.at !== end) throw new DNSError(`The answer is no DNS message: its record before byte ${end} has ${end - this.at} bytes too many.`)
    this.end = rest
    return { name, type, class: kind, ttl, data }
  }

  /**
   * What a record says.
   * @param {number} type
   */
  data(type) {
    const left = this.end - this.at
    switch (type) {
      case types.A: return this.slice(4).join('.')
      case types.AAAA: return address(this.slice(16))
      case types.NS: case types.CNAME: case types.PTR: return this.name()
      case types.SRV: return `${this.short()} ${this.short()} ${this.short()} ${this.name()}`
      case types.SOA: return `${this.name()} ${this.name()} ${this.long()} ${this.long()} ${this.long()} ${this.long()} ${this.long()}`
      case types.TXT: case types.HINFO: return this.strings()
      case types.OPT: return this.options()
    }
    return `\\# ${left} ${hex(this.slice(left))}`
  }

  strings() {
    const all = []
    while (this.at < this.end) all.push(`"${[...this.slice(this.byte())].map((b) => (b < 0x20 || b > 0x7e ? `\\${String(b).padStart(3, '0')}` : b === 0x22 || b === 0x5c ? `\\${String.fromCharCode(b)}` : String.fromCharCode(b))).join('')}"`)
    return all.join(' ')
  }

  options() {
    const all = []
    while (this.at < this.end) {
      const [code, length] = [this.short(), this.short()]
      if (code === 15 && length >= 2) all.push(`; EDE: ${this.short()} ${shown(new TextDecoder().decode(this.slice(length - 2))).replaceAll('\n', '\\u000a')}`.trimEnd())
      else all.push(`; OPT ${code}: ${hex(this.slice(length))}`)
    }
    return all.join('\n')
  }
}

/** @param {Uint8Array} bytes */
const hex = (bytes) => [...bytes].map((b) => b.toString(16).padStart(2, '0')).join('')

/**
 * An IPv6 address: the longest run of zeros is "::" (RFC 5952).
 * @param {Uint8Array} bytes
 */
function address(bytes) {
  const groups = Array.from({ length: 8 }, (_, n) => ((bytes[2 * n] << 8) | bytes[2 * n + 1]).toString(16))
  let best = { from: 0, length: 1 } // a single zero is written
  for (let from = 0; from < 8; from++) {
    let length = 0
    while (groups[from + length] === '0') length++
    if (length > best.length) best = { from, length }
  }
  if (best.length === 1) return groups.join(':')
  return `${groups.slice(0, best.from).join(':')}::${groups.slice(best.from + best.length).join(':')}`
}

/**
 * An answer in the form of dig. It throws a DNSError for what is none.
 * @param {Uint8Array<ArrayBuffer>} bytes
 */
export function answerText(bytes) {
  if (bytes.length > maxMessage) throw new DNSError(`The answer is no DNS message: it has more than ${maxMessage} bytes.`)
  const r = new Reader(bytes)
  const [id, bits, ...counts] = [r.short(), r.short(), r.short(), r.short(), r.short(), r.short()]
  const questions = Array.from({ length: counts[0] }, () => r.question())
  const sections = counts.slice(1).map((n) => Array.from({ length: n }, () => r.record()))
  if (r.at !== r.end) throw new DNSError(`The answer is no DNS message: ${r.end - r.at} bytes are after its end.`)
  const opt = sections[2].find((record) => record.type === types.OPT)
  const code = (bits & 0xf) | (opt ? (opt.ttl >>> 24) << 4 : 0)
  const lines = [
    `;; status: ${statuses[code] ?? `RCODE${code}`}, id: ${id}`,
    `;; flags: ${flags.filter(([, bit]) => bits & bit).map(([name]) => name).join(' ')}; QUERY: ${counts[0]}, ANSWER: ${counts[1]}, AUTHORITY: ${counts[2]}, ADDITIONAL: ${counts[3]}`,
  ]
  if (opt) lines.push(`; EDNS: version ${(opt.ttl >>> 16) & 0xff}, udp ${opt.class}`, ...(opt.data ? [opt.data] : []))
  if (questions.length) lines.push('', ';; QUESTION SECTION:', ...few(questions.map((q) => `;${q.name}\t\t${classOf(q.class)}\t${typeOf(q.type)}`)))
  for (const [n, title] of ['ANSWER', 'AUTHORITY', 'ADDITIONAL'].entries()) {
    const records = sections[n].filter((record) => record !== opt)
    if (records.length) lines.push('', `;; ${title} SECTION:`, ...few(records.map((d) => `${d.name}\t${d.ttl}\t${classOf(d.class)}\t${typeOf(d.type)}\t${d.data}`)))
  }
  return lines.join('\n')
}

/** @param {string[]} lines */
const few = (lines) => (lines.length <= mostShown ? lines : [...lines.slice(0, mostShown), `; and ${lines.length - mostShown} more`])

/** @param {number} code */
const typeOf = (code) => typeNames.get(code) ?? `TYPE${code}`

/** @param {number} code */
const classOf = (code) => (code === 1 ? 'IN' : `CLASS${code}`)

/**
 * Bytes in lines of 16, with what is text of them beside.
 * @param {Uint8Array} bytes
 */
export function dump(bytes) {
  const lines = []
  for (let at = 0; at < bytes.length; at += 16) {
    const row = bytes.subarray(at, at + 16)
    const pairs = [...row].map((b) => b.toString(16).padStart(2, '0')).join(' ')
    lines.push(`${at.toString(16).padStart(4, '0')}  ${pairs.padEnd(47)}  ${[...row].map((b) => (b < 0x20 || b > 0x7e ? '.' : String.fromCharCode(b))).join('')}`)
  }
  return lines.join('\n')
}
