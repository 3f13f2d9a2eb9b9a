// Commands in the sentences of the agent.

/** What is in double quotes, or a command: of characters that a shell has no use for. */
const quoted = /"(?:[^"\\]|\\.)*"|'((?:disc|etcdctl) [\w.:/@=-]+(?: (?:[\w.:/@=-]+|&& disc))*)'/g

/**
 * Splits a sentence at its commands. What is in double quotes is a name that somebody else has
 * chosen, and has none.
 * @param {string} text
 * @returns {{text: string, command: boolean}[]}
 */
export function partsOf(text) {
  const parts = []
  let last = 0
  for (const m of text.matchAll(quoted)) {
    if (!m[1]) continue
    parts.push({ text: text.slice(last, m.index), command: false }, { text: m[1], command: true })
    last = m.index + m[0].length
  }
  return [...parts, { text: text.slice(last), command: false }].filter((p) => p.text)
}
