// How values are shown.

/** Characters that would not show, or would change the order of what is beside them. */
const hidden = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g

/**
 * Text of a record, which anybody may have written: what would not show is escaped. It is still
 * only text.
 * @param {string | undefined} text
 */
export function shown(text) {
  return (text ?? '').replace(hidden, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`)
}

/**
 * Whether all of a text shows, on one line.
 * @param {string} text
 */
export const isPlain = (text) => !text.includes('\n') && text.search(hidden) < 0

const numbers = new Intl.NumberFormat('en')

/** @param {number} n */
export const number = (n) => numbers.format(n)

/**
 * "1 service", "3 services".
 * @param {number} n
 * @param {string} one
 * @param {string} [many]
 */
export const count = (n, one, many = `${one}s`) => `${number(n)} ${n === 1 ? one : many}`

/**
 * The first few of a list, and how many more there are.
 * @param {string[]} list
 * @param {number} [most]
 */
export function some(list, most = 4) {
  const names = list.slice(0, most).map(shown)
  const more = list.length - names.length
  return more > 0 ? `${names.join(', ')} and ${number(more)} more` : names.join(', ')
}

const units = /** @type {Record<string, number>} */ ({ h: 3600, m: 60, s: 1, ms: 1e-3, 'µs': 1e-6, 'us': 1e-6, ns: 1e-9 })

/**
 * Seconds of a duration such as "1m30s" or "350ms".
 * @param {string | undefined} text
 */
export function seconds(text) {
  let sum = 0
  for (const [, n, unit] of (text ?? '').matchAll(/([\d.]+)(h|ms|m|s|µs|us|ns)/g)) sum += Number(n) * units[unit]
  return sum
}

/**
 * A length of time in its two largest units: "3 d 4 h", "12 min", "0.4 s".
 * @param {number} s  seconds
 */
export function span(s) {
  if (!Number.isFinite(s) || s < 0) s = 0
  if (s < 9.95) return `${s.toFixed(1)} s`
  if (s < 120) return `${Math.round(s)} s`
  if (s < 7200) return `${Math.round(s / 60)} min`
  const hours = Math.floor(s / 3600)
  return hours < 48 ? `${hours} h ${Math.floor(s / 60) % 60} min` : `${number(Math.floor(hours / 24))} d ${hours % 24} h`
}

/**
 * How long ago a time is.
 * @param {string | undefined} time  as in JSON
 * @param {number} now  milliseconds
 */
export function age(time, now) {
  const at = time ? Date.parse(time) : NaN
  return Number.isNaN(at) ? '' : span((now - at) / 1000)
}

/** @param {number} ms */
export const clock = (ms) => new Date(ms).toLocaleTimeString('en-GB')

/**
 * @param {string | undefined} time
 */
export function moment(time) {
  const at = time ? Date.parse(time) : NaN
  return Number.isNaN(at) ? '' : new Date(at).toLocaleString('en-GB', { dateStyle: 'medium', timeStyle: 'medium' })
}

/** @param {{address: string, port: number}} e */
export function hostport(e) {
  const host = e.address.includes(':') ? `[${e.address}]` : e.address
  return shown(e.port ? `${host}:${e.port}` : e.address)
}

const reasons = /** @type {Record<string, string>} */ ({
  left: 'its agent deregistered it',
  expired: 'its lease expired: its agent died or was cut off',
  removed: 'its key was deleted',
})

/** @param {string} reason  of a departure */
export const departed = (reason) => reasons[reason] ?? 'it left while this page was not connected'
