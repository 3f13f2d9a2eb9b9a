// The versions of a key that were read, in pages. Nothing here needs a browser.

/** @typedef {import('../types.js').KVVersion} KVVersion */
/** @typedef {{versions: KVVersion[], older: string}} Versions */

/**
 * What is known once a page was read: the newest first, without a gap, and no more than the reader
 * has asked for, however often the key changes.
 * @param {Versions} known
 * @param {Versions} page
 * @param {number} from  the revision that the page was to begin with; 0: the newest
 * @param {number} least  versions that are kept
 * @returns {Versions}
 */
export function joined(known, page, from, least) {
  const last = (from ? known : page).versions.at(-1)
  if (!last) return page
  if (from) return last.revision === from + 1 ? { ...page, versions: [...known.versions, ...page.versions] } : known
  if (!known.versions.some((v) => v.revision === last.revision)) return page // some may be between them
  const rest = known.versions.filter((v) => v.revision < last.revision)
  if (!rest.length) return page
  const all = [...page.versions, ...rest]
  const most = Math.max(least, known.versions.length)
  return { versions: all.slice(0, most), older: all.length > most ? 'more' : known.older }
}
