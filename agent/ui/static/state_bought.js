// How fast tokens of limits are bought, from what was bought in all. Nothing here needs a browser.

export class Bought {
  /**
   * What was bought by when, oldest first, by the limit.
   * @type {Map<string, {at: number, bought: number}[]>}
   */
  #seen = new Map()
  #at = 0

  /** @param {number} window  over which it is counted, in milliseconds */
  constructor(window) {
    this.window = window
  }

  /**
   * Notes what was bought of all limits by a time, in milliseconds.
   * @param {number} at
   * @param {[string, number][]} all
   */
  add(at, all) {
    if (at <= this.#at) return
    this.#at = at
    /** @type {Map<string, {at: number, bought: number}[]>} */
    const next = new Map()
    for (const [name, bought] of all) {
      const before = this.#seen.get(name) ?? []
      const last = before[before.length - 1]
      // A count that goes back is that of another limit.
      const list = last && bought < last.bought ? [] : [...before]
      list.push({ at, bought })
      while (list.length > 2 && list[1].at <= at - this.window) list.shift()
      next.set(name, list)
    }
    this.#seen = next
  }

  /**
   * Tokens a second in the window; NaN: not known yet.
   * @param {string} name
   */
  rate(name) {
    const list = this.#seen.get(name) ?? []
    if (list.length < 2) return NaN
    const first = list[0]
    const last = list[list.length - 1]
    return ((last.bought - first.bought) * 1000) / (last.at - first.at)
  }
}
