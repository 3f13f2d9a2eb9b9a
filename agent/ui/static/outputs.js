// What the checks of an instance last printed.
import { shown } from './format.js'
import { agent } from './live.js'

/** @typedef {import('../types.js').Entry} Entry */

/**
 * The output of a check: from the record or, if this agent runs the check, from its status.
 * @param {Entry} e
 * @param {string} check
 */
export function outputOf(e, check) {
  const inRecord = e.checks?.find((c) => c.id === check)?.output
  const own = agent.value?.status.registrations.find((r) => r.id === e.id && r.service.toLowerCase() === e.service.toLowerCase())
  return shown(inRecord || own?.checks.find((c) => c.id === check)?.output).trim()
}

/**
 * What each check says that does not pass, the worst first.
 * @param {Entry} e
 */
export function failures(e) {
  const bad = (e.checks ?? []).filter((c) => c.status !== 'passing')
  bad.sort((a, b) => Number(b.status === 'critical') - Number(a.status === 'critical'))
  return bad.map((c) => {
    const output = outputOf(e, c.id)
    return { id: c.id, status: c.status, text: `${shown(c.name || c.id)} ${c.status === 'critical' ? 'fails' : 'warns'}${output ? `: ${output}` : ''}` }
  })
}
