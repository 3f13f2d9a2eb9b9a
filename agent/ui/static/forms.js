// The forms in which an agent answers for a name: what is sent, and the commands that ask the same.
import { answerText, DNSError, query, types, writtenName } from './dns.js'
import { shown } from './format.js'
import { command } from './shell.js'

/**
 * What is asked. tag, zone and pick may be "".
 * @typedef {{name: string, tag: string, zone: string, pick: string}} Asked
 */

/**
 * What is to be known to ask. dns and grpc are where the agent listens; "": nowhere; undefined: not known here.
 * isService: the name is that of a service.
 * @typedef {{origin: string, withToken: boolean, domain: string, dns: string | undefined, grpc: string | undefined, isService: boolean}} About
 */

/**
 * A form. Where it cannot ask for the name, problem says why.
 * @typedef {object} Form
 * @property {string} key
 * @property {string} title
 * @property {string} path
 * @property {RequestInit} options
 * @property {string[]} commands
 * @property {string[]} notes       what else is to be said of it
 * @property {string} problem
 * @property {((body: Uint8Array<ArrayBuffer>) => string) | null} read  makes text of a body that is none
 */

const dnsMessage = 'application/dns-message'

/**
 * Why nothing can be asked for; "": it can.
 * @param {Asked} asked
 */
export const refusal = (asked) => (asked.name.replaceAll('.', '') ? '' : 'A name has more than dots. Ask for a service, such as web.')

/**
 * @param {Asked} asked
 * @param {About} about
 * @returns {Form[]}
 */
export function formsOf(asked, about) {
  return [jsonForm(asked, about), textForm(asked, about), ...['A', 'AAAA', 'SRV'].map((type) => dnsForm(asked, about, type)), prometheusForm(asked, about), envoyForm(asked, about)]
}

/**
 * The parameters of a query, without those that are "".
 * @param {[string, string][]} pairs
 */
function params(...pairs) {
  const text = pairs.filter(([, value]) => value).map(([key, value]) => `${key}=${encodeURIComponent(value)}`).join('&')
  return text && `?${text}`
}

/**
 * @param {About} about
 * @param {string} path
 * @param {string[]} more
 */
function curl(about, path, ...more) {
  const token = about.withToken ? ' -H "Authorization: Bearer $DISC_TOKEN"' : ''
  return `curl -i${token} ${command(...more, about.origin + path)}`
}

/**
 * @param {Asked} a
 * @param {About} about
 * @param {string} output
 */
function discLookup(a, about, output) {
  const first = !a.name.startsWith('-') // else it is an option
  const words = ['disc', 'lookup', ...(first ? [a.name] : [])]
  if (!['http://127.0.0.1:3472', 'http://localhost:3472'].includes(about.origin)) words.push('--agent', about.origin)
  if (a.tag) words.push('--tag', /[",\r\n]/.test(a.tag) ? `"${a.tag.replaceAll('"', '""')}"` : a.tag)
  if (a.zone) words.push('--zone', a.zone)
  if (a.pick) words.push('--pick', a.pick)
  return command(...words, '-o', output, ...(first ? [] : ['--', a.name]))
}

/** @param {Asked} a @param {About} about @returns {Form} */
function jsonForm(a, about) {
  const path = `/v1/lookup/${encodeURIComponent(a.name)}${params(['tag', a.tag], ['zone', a.zone], ['pick', a.pick])}`
  return { key: 'json', title: 'HTTP, as JSON', path, options: {}, commands: [curl(about, path), discLookup(a, about, 'json')], notes: [], problem: '', read: null }
}

/** @param {Asked} a @param {About} about @returns {Form} */
function textForm(a, about) {
  const path = `/v1/lookup/${encodeURIComponent(a.name)}${params(['tag', a.tag], ['zone', a.zone], ['pick', a.pick], ['format', 'text'])}`
  return { key: 'text', title: 'HTTP, as text', path, options: {}, commands: [curl(about, path), discLookup(a, about, 'addr')], notes: [], problem: '', read: null }
}

/**
 * The name in DNS, without a last dot: a tag goes before it.
 * @param {Asked} a
 * @param {string} domain
 */
function dnsName(a, domain) {
  const zone = domain.replace(/^\.+|\.+$/g, '')
  const name = a.name.replace(/\.$/, '')
  const inside = name.toLowerCase().endsWith(`.${zone.toLowerCase()}`)
  return `${a.tag ? `${a.tag}.` : ''}${name}${inside ? '' : `.${zone}`}`
}

/**
 * DNS, over HTTP as a page can ask (RFC 8484).
 * @param {Asked} a
 * @param {About} about
 * @param {string} type
 * @returns {Form}
 */
function dnsForm(a, about, type) {
  const name = dnsName(a, about.domain)
  const notes = []
  if (about.dns === '') notes.push('The DNS server of this agent is off, and the answer came over HTTP. Switch it on with dns.listen: disc agent --dns 127.0.0.1:3453, or DISC_DNS.')
  const lost = missing({ zone: a.zone, pick: a.pick })
  if (lost) notes.push(`DNS has no ${lost}.`)
  if (about.isService && a.name.includes('.')) notes.push('DNS takes what is before a dot for a tag: a service whose name has a dot is found over HTTP alone.')
  const over = curl(about, `/resolve${params(['name', writtenName(name)], ['type', type])}`)
  /** @type {Form} */
  const form = { key: `dns-${type.toLowerCase()}`, title: `DNS, ${type}`, path: '/dns-query', options: {}, commands: about.dns ? [dig(about, name, type)] : [over], notes, problem: '', read: answerText }
  try {
    if (a.tag.includes('.')) throw new DNSError(`DNS cannot ask for the tag ${shown(a.tag)}: it has a dot.`)
    const packet = query(name, types[type])
    form.path = `/dns-query?dns=${btoa(String.fromCharCode(...packet)).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '')}`
    form.options = { headers: { Accept: dnsMessage } }
  } catch (error) {
    if (!(error instanceof DNSError)) throw error
    form.problem = error.message
    form.commands = []
  }
  return form
}

/**
 * @param {About} about
 * @param {string} name
 * @param {string} type
 */
function dig(about, name, type) {
  const [, host, port] = /^(.*):(\d+)$/.exec(about.dns ?? '') ?? ['', '', '53']
  const bare = host.replace(/^\[|\]$/g, '')
  const everywhere = ['', '0.0.0.0', '::'].includes(bare)
  return command('dig', '-p', port, `@${everywhere ? new URL(about.origin).hostname.replace(/^\[|\]$/g, '') : bare}`, writtenName(name), type)
}

/** @param {Asked} a @param {About} about @returns {Form} */
function prometheusForm(a, about) {
  const path = `/v1/sd/prometheus${params(['service', a.name], ['tag', a.tag], ['zone', a.zone])}`
  const notes = []
  if (!about.isService) notes.push('http_sd takes the name of a service, and no other.')
  if (a.pick) notes.push('http_sd has no pick.')
  return { key: 'http-sd', title: 'Prometheus, http_sd', path, options: {}, commands: [curl(about, path)], notes, problem: '', read: null }
}

/** @param {Asked} a @param {About} about @returns {Form} */
function envoyForm(a, about) {
  const path = '/v3/discovery:endpoints'
  const body = JSON.stringify({ resource_names: [a.tag ? `${a.tag}.${a.name}` : a.name] })
  const lost = missing({ zone: a.zone, pick: a.pick })
  const notes = []
  if (about.grpc === '') notes.push('The stream of EDS is off in this agent. Switch it on with grpc.listen: disc agent --grpc 127.0.0.1:18000, or DISC_GRPC.')
  if (lost) notes.push(`EDS has no ${lost}.`)
  return { key: 'eds', title: 'Envoy, EDS', path, options: { method: 'POST', body }, commands: [curl(about, path, '-d', body)], notes, problem: '', read: null }
}

/**
 * The parts of a question that a form lacks, where they are given.
 * @param {Record<string, string>} parts
 */
const missing = (parts) => Object.entries(parts).filter(([, value]) => value).map(([name]) => name).join(' and no ')

/**
 * What is sent, in a line or two.
 * @param {Form} form
 */
export const requestLine = (form) => `${form.options.method ?? 'GET'} ${form.path}${form.options.body ? ` ${form.options.body}` : ''}`

