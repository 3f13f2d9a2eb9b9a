// Keys as a tree, and what a key may be. Nothing here needs a browser.

/**
 * A row of the tree: a key, or a directory, whose name ends in "/".
 * @typedef {object} Node
 * @property {string} key
 * @property {string} name   what it adds to its directory
 * @property {number} depth
 * @property {boolean} dir
 * @property {boolean} open  a directory whose keys are shown
 * @property {number} count  the keys below a directory
 */

/**
 * The rows of a tree: all directories at the top, and what is in those that are open.
 * @param {string[]} keys  sorted
 * @param {string} base  a directory that all keys are below; "": none
 * @param {Set<string>} open  directories
 */
export function treeOf(keys, base, open) {
  /** @type {Node[]} */
  const rows = []
  let n = 0
  /**
   * @param {string} prefix
   * @param {number} depth
   */
  const walk = (prefix, depth) => {
    while (n < keys.length && keys[n].startsWith(prefix)) {
      const slash = keys[n].indexOf('/', prefix.length)
      if (slash < 0) {
        rows.push({ key: keys[n], name: keys[n].slice(prefix.length), depth, dir: false, open: false, count: 0 })
        n++
        continue
      }
      const dir = keys[n].slice(0, slash + 1)
      const row = { key: dir, name: dir.slice(prefix.length), depth, dir: true, open: open.has(dir), count: 0 }
      const first = n
      rows.push(row)
      if (row.open) walk(dir, depth + 1)
      while (n < keys.length && keys[n].startsWith(dir)) n++
      row.count = n - first
    }
  }
  walk(base, 0)
  return rows
}

/**
 * The keys that have all words of a search.
 * @param {string[]} keys
 * @param {string[]} words  in lower case
 * @returns {Node[]}
 */
export function found(keys, words) {
  return keys.filter((key) => words.every((w) => key.toLowerCase().includes(w)))
    .map((key) => ({ key, name: key, depth: 0, dir: false, open: false, count: 0 }))
}

/**
 * A set of directories as a text, which the URL has.
 * @param {Iterable<string>} dirs
 */
export const joinDirs = (dirs) => [...dirs].sort().map((d) => d.replace(/[%,]/g, encodeURIComponent)).join(',')

/**
 * @param {string} text
 * @returns {Set<string>}
 */
export function splitDirs(text) {
  return new Set(text.split(',').filter(Boolean).map((d) => d.replace(/%2C|%25/gi, decodeURIComponent)))
}

/**
 * The directories that a key is in, the outermost first.
 * @param {string} key
 */
export function dirsOf(key) {
  const list = []
  for (let n = key.indexOf('/'); n >= 0 && n < key.length - 1; n = key.indexOf('/', n + 1)) list.push(key.slice(0, n + 1))
  return list
}

const maxKey = 512

/**
 * Why a text is no key that an agent reads or writes; "": it is one. Other programs may have written
 * others into etcd.
 * @param {string} key
 */
export function whyNoKey(key) {
  if (key === '') return 'it is empty'
  if (new TextEncoder().encode(key).length > maxKey) return `it has more than ${maxKey} bytes`
  if (/\p{Cc}/u.test(key)) return 'it has control characters'
  const segments = key.split('/')
  if (segments.includes('')) return 'it has an empty part before, after or between “/”'
  if (segments.includes('.') || segments.includes('..')) return 'a part of it is “.” or “..”'
  return ''
}

/**
 * The path of a key, or of a directory, in the API.
 * @param {string} key
 */
export const keyPath = (key) => `/v1/kv/${encodeURIComponent(key)}`
