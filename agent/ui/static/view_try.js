// Try it: one name, asked in all forms side by side, each answer as it comes from the wire.
import { Problem, token } from './api.js'
import { DNSError, dump } from './dns.js'
import { exchange } from './exchange.js'
import { fleet, keyOf } from './fleet.js'
import { clock, count, number, shown } from './format.js'
import { formsOf, refusal, requestLine } from './forms.js'
import { html, signal, useEffect, useLayoutEffect, useRef, useSignal } from './html.js'
import { agent, link } from './live.js'
import { Command, Mark, useTitle } from './parts.js'
import { place, refine } from './router.js'

/** @typedef {import('./forms.js').Asked} Asked */
/** @typedef {import('./forms.js').Form} Form */

/** The last answer in a form, and why there was none since. */
/** @typedef {{answer: import('./exchange.js').Answer | null, problem: string}} Outcome */

/** How much of a body is shown, in characters. */
const mostShown = 1 << 14

/** How many bytes of a message are shown as bytes. */
const mostDumped = 4096

/** The least time between two rounds; more where the answers take long. */
const least = 500

/** The most between two rounds. */
const longest = 30_000

/** How often the reader has asked. */
const asks = signal(0)

export function Try() {
  const { name, tag, zone, pick } = place.value
  const asked = { name: name.trim(), tag: tag.trim(), zone, pick }
  useTitle(asked.name ? shown(`Try ${asked.name}`) : 'Try it')
  const problem = asked.name && refusal(asked)
  const known = useRef(false) // and stays so while the stream of changes is opened anew
  known.current ||= agent.value !== null && link.value.state !== 'connecting'
  return html`
    <h1 tabindex="-1">Try it</h1>
    <${Question} asked=${asked} />
    ${problem && html`<p class="banner warning"><span>${problem}</span></p>`}
    ${!asked.name && html`<p class="start">Give the name of a service, such as web. The agent is asked for it in each form that it answers in.</p>`}
    ${asked.name && !problem && (known.current
      ? html`<${Answers} key=${JSON.stringify(asked)} asked=${asked} />`
      : html`<p class="start">Asking the agent what it is called in DNS …</p>`)}`
}

/**
 * Takes what is to be asked. What is typed stays while the fleet changes.
 * @param {{asked: Asked}} p
 */
function Question({ asked }) {
  const typed = useSignal(asked)
  useLayoutEffect(() => {
    typed.value = asked
  }, [JSON.stringify(asked)])
  /** @param {Event} event */
  const submit = (event) => {
    event.preventDefault()
    asks.value++
    refine({ ...typed.value, name: typed.value.name.trim(), tag: typed.value.tag.trim() })
  }
  const onInput = (/** @type {any} */ event) => (typed.value = { ...typed.value, [event.target.name]: event.target.value })
  const services = fleet.summaries.value
  const service = services.find((s) => s.key === keyOf(typed.value.name.trim()))
  const { name, tag, zone, pick } = typed.value
  return html`
    <form class="ask" onSubmit=${submit} onInput=${onInput}>
      <label>Name <input type="search" name="name" value=${name} maxlength="1024" required list="names" autocomplete="off" spellcheck=${false} /></label>
      <label>Tag <input type="text" name="tag" value=${tag} maxlength="63" list="tags" autocomplete="off" spellcheck=${false} /></label>
      <label>Zone <input type="text" name="zone" value=${zone} list="zones" autocomplete="off" spellcheck=${false} /></label>
      <label>Pick <input type="number" name="pick" value=${pick} min="1" max="65536" placeholder="all" /></label>
      <button type="submit" class="main">Ask</button>
      <${Choices} id="names" values=${services.filter((s) => s.key.includes(keyOf(name.trim()))).map((s) => s.name)} />
      <${Choices} id="tags" values=${service?.tags ?? []} />
      <${Choices} id="zones" values=${service?.zones ?? []} />
    </form>`
}

/** @param {{id: string, values: string[]}} p */
function Choices({ id, values }) {
  return html`<datalist id=${id}>${values.slice(0, 100).map((value) => html`<option key=${value} value=${value}></option>`)}</datalist>`
}

/** @param {string} name  of a setting; undefined where it is not shown to everybody */
function settingOf(name) {
  const value = agent.value?.status.settings.find((s) => s.name === name)?.value
  return value === undefined ? undefined : String(value ?? '')
}

/** @param {{asked: Asked}} p */
function Answers({ asked }) {
  const service = fleet.summaries.value.find((s) => s.key === keyOf(asked.name))
  const forms = formsOf(asked, {
    origin: location.origin, withToken: token.value !== '', domain: agent.value?.status.domain ?? 'disc',
    dns: settingOf('dns.listen'), grpc: settingOf('grpc.listen'), isService: service !== undefined,
  })
  const version = useRef('')
  const { state, since } = link.value
  if (state === 'live' || state === 'refused') version.current = `${state} ${since} ${versionOf(asked)} ${token.value} ${forms.map((f) => f.path).join(' ')}`
  const [outcomes, busy] = useOutcomes(forms, version.current)
  const there = forms.filter((f) => outcomes.get(f.key)?.answer)
  return html`
    <p class="note" role="status">${busy && !there.length ? 'Asking …' : `Answered in ${there.length} of ${forms.length} forms.`}</p>
    <div class="forms">${forms.map((form) => html`<${FormCard} key=${form.key} form=${form} outcome=${outcomes.get(form.key)} />`)}</div>`
}

/**
 * Another text after each change of the fleet that may change an answer.
 * @param {Asked} asked
 */
function versionOf(asked) {
  const labels = new Set([keyOf(asked.name), ...keyOf(asked.name).split('.').map((label) => label.replace(/^_/, ''))])
  return fleet.summaries.value.filter((s) => labels.has(s.key)).map((s) => `${s.key} ${s.revision} ${s.total} ${s.suspects}`).join()
}

/**
 * Asks in all forms, one after the other, so that none waits for a connection; and again when the
 * version changes, the reader asks, or a form has failed. What was answered stays until there is
 * another answer.
 * @param {Form[]} forms
 * @param {string} version
 * @returns {[Map<string, Outcome>, boolean]}
 */
function useOutcomes(forms, version) {
  const outcomes = useSignal(/** @type {Map<string, Outcome>} */ (new Map()))
  const busy = useSignal(true)
  const wanted = useRef({ forms, version: '' })
  const running = useRef(false)
  const wake = useRef(() => {})
  const hasten = useRef(() => {}) // ends what a wait is longer for a failure
  const stop = useRef(new AbortController())
  wanted.current = { forms, version: `${version} ${asks.value}` }
  useEffect(() => () => stop.current.abort(), [])
  useEffect(() => wake.current(), [asks.value])
  useEffect(() => {
    if (running.current) hasten.current()
    else follow()
  }, [wanted.current.version])

  const follow = async () => {
    running.current = true
    let [asked, failures] = ['', 0]
    while (!stop.current.signal.aborted && (asked !== wanted.current.version || failures)) {
      asked = wanted.current.version
      const began = Date.now()
      busy.value = true
      for (const form of wanted.current.forms) {
        if (form.problem || stop.current.signal.aborted) continue
        const outcome = await tryForm(form, outcomes.peek().get(form.key), stop.current.signal)
        outcomes.value = new Map(outcomes.peek()).set(form.key, outcome)
      }
      busy.value = false
      failures = link.peek().state === 'live' && wanted.current.forms.some((f) => mayPass(outcomes.peek().get(f.key))) ? failures + 1 : 0
      await new Promise((resolve) => {
        const soon = Date.now() + Math.min(longest, Math.max(least, 5 * (Date.now() - began)))
        wake.current = () => resolve(undefined)
        hasten.current = () => setTimeout(resolve, soon - Date.now())
        if (failures && asked === wanted.current.version) setTimeout(resolve, Math.max(soon - Date.now(), Math.min(longest, 2 ** failures * least)))
        else hasten.current()
      })
    }
    running.current = false
  }
  return [outcomes.value, busy.value]
}

/**
 * Whether another answer may come by itself: an agent that has just begun has no view yet.
 * @param {Outcome | undefined} outcome
 */
const mayPass = (outcome) => outcome !== undefined && (outcome.problem !== '' || (outcome.answer?.status ?? 0) >= 500)

/**
 * @param {Form} form
 * @param {Outcome | undefined} before
 * @param {AbortSignal} stop
 * @returns {Promise<Outcome>}
 */
async function tryForm(form, before, stop) {
  try {
    return { answer: await exchange(form.path, form.options, stop), problem: '' }
  } catch (error) {
    if (!stop.aborted && !(error instanceof Problem)) console.error(error)
    return { answer: before?.answer ?? null, problem: error instanceof Problem ? error.message : String(error) }
  }
}

/** @param {{form: Form, outcome: Outcome | undefined}} p */
function FormCard({ form, outcome }) {
  const answer = outcome?.answer
  const id = `form-${form.key}`
  return html`
    <section class="form" aria-labelledby=${id}>
      <h2 id=${id}>${form.title}</h2>
      ${form.problem ? html`<p>${form.problem}</p>` : html`<p class="mono request">${shown(requestLine(form))}</p>`}
      ${form.commands.map((c) => html`<p key=${c}><${Command} command=${c} /></p>`)}
      ${form.notes.map((note) => html`<p class="note" key=${note}>${note}</p>`)}
      ${outcome?.problem && html`<p class="banner critical"><span>${shown(outcome.problem)}${answer ? ` Below is the answer of ${clock(answer.at)}.` : ''}</span></p>`}
      ${answer && html`<${AnswerText} form=${form} answer=${answer} />`}
    </section>`
}

/** @param {{form: Form, answer: import('./exchange.js').Answer}} p */
function AnswerText({ form, answer }) {
  const isMessage = form.read && answer.status === 200
  return html`
    <p class="outcome"><${Mark} word=${answer.status < 300 ? 'passing' : 'critical'}>${answer.status} ${shown(answer.reason)}</${Mark}> ${`in ${milliseconds(answer.took)}, ${sizeOf(answer)}`}</p>
    <pre tabindex="0" role="group" aria-label=${`Answer of ${form.title}`}><span class="note">${answer.headers.map(([name, value]) => `${name}: ${shown(value)}\n`).join('')}${'\n'}</span>${textOf(form, answer)}</pre>
    ${isMessage && html`<details><summary>${answer.body.length > mostDumped ? `The first ${number(mostDumped)} bytes` : 'The bytes'}</summary>
      <pre tabindex="0" role="group" aria-label=${`Bytes of ${form.title}`}>${dump(answer.body.subarray(0, mostDumped))}</pre></details>`}`
}

/** @param {import('./exchange.js').Answer} answer */
function sizeOf({ cut, length, body }) {
  return cut ? `the first ${number(body.length)}${length ? ` of ${number(length)}` : ''} bytes` : count(length, 'byte')
}

/**
 * The body as text; of a DNS message what it says.
 * @param {Form} form
 * @param {import('./exchange.js').Answer} answer
 */
function textOf(form, answer) {
  if (form.read && answer.status === 200) {
    try {
      return form.read(answer.body)
    } catch (error) {
      if (error instanceof DNSError) return error.message
      throw error
    }
  }
  const text = new TextDecoder().decode(answer.body)
  return text.length > mostShown || answer.cut ? `${shown(text.slice(0, mostShown))} …\n\nThis is the beginning; the command shows all of it.` : shown(text)
}

/** @param {number} ms */
const milliseconds = (ms) => `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`
