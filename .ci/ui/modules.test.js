// Tests of the page's modules that need no browser: node --test. check puts page/static beside it.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seconds, shown, some, span } from './page/static/format.js'
import { Fleet } from './page/static/fleet.js'
import { partsOf } from './page/static/steps.js'
import { inWords, slots, slotTime, Tracks } from './page/static/tracks.js'
import { Bought } from './page/static/state_bought.js'
import { dirsOf, found, joinDirs, keyPath, splitDirs, treeOf, whyNoKey } from './page/static/state_tree.js'
import { bytesOf, difference, dump, excerpt, formOf, fromHex, hexOf, indent, isPlain, lines } from './page/static/state_value.js'
import { joined } from './page/static/state_versions.js'

globalThis.sessionStorage ??= /** @type {any} */ ({ getItem: () => null })
const { Parser } = await import('./page/static/events.js')
const { ask, token } = await import('./page/static/api.js')

/** @param {string[]} pieces */
function parse(...pieces) {
  const parser = new Parser('before')
  return pieces.flatMap((piece) => [...parser.push(piece)])
}

test('events come whole, wherever the pieces end', () => {
  const text = ': \nid: 1-e\nevent: put\ndata: {"a":\ndata: "b"}\n\nid: 2-e\n\nevent: delete\ndata:x\n\n'
  const want = [
    { type: 'put', data: '{"a":\n"b"}', id: '1-e' },
    { type: 'id', data: '', id: '2-e' },
    { type: 'delete', data: 'x', id: '2-e' },
  ]
  assert.deepEqual(parse(text), want)
  assert.deepEqual(parse(...text), want)
  for (let n = 1; n < text.length; n++) assert.deepEqual(parse(text.slice(0, n), text.slice(n)), want)
})

test('an event that is cut off is none', () => {
  assert.deepEqual(parse('event: put\ndata: x\n'), [])
})

/** @param {string} service @param {string} id @param {object} [more] */
const entry = (service, id, more) => /** @type {any} */ ({ service, id, address: '10.0.0.1', port: 1, ports: {}, weight: 1, tags: [], meta: {}, slots: 1, status: 'passing', state: 'up', source: 'agent', revision: 1, ...more })

test('the fleet follows events', () => {
  const fleet = new Fleet()
  const ids = () => fleet.instances('WEB').map((e) => e.id)
  fleet.apply([{ type: 'reset', revision: 1, instances: [entry('Web', 'web-10'), entry('Web', 'web-2'), entry('db', 'db-1', { status: 'critical' })] }])
  assert.deepEqual(ids(), ['web-2', 'web-10'])
  assert.deepEqual(fleet.summaries.value.map((s) => [s.name, s.healthy, s.total, s.critical]), [['db', 0, 1, 1], ['Web', 2, 2, 0]])

  fleet.apply([
    { type: 'put', revision: 2, service: 'web', id: 'web-2', instance: entry('Web', 'web-2', { state: 'drain' }) },
    { type: 'delete', revision: 3, service: 'db', id: 'db-1', reason: 'expired' },
  ])
  assert.deepEqual(fleet.summaries.value.map((s) => [s.name, s.healthy, s.draining]), [['Web', 1, 1]])
  assert.equal(fleet.departure('db', 'db-1')?.reason, 'expired')

  // What a reset lacks is gone; what it has again is not gone any more.
  fleet.apply([{ type: 'reset', revision: 9, instances: [entry('db', 'db-1')] }])
  assert.deepEqual(ids(), [])
  assert.equal(fleet.departure('web', 'web-10')?.revision, 9)
  assert.equal(fleet.departure('db', 'db-1'), undefined)
})

test('a change does not forget the load', () => {
  const fleet = new Fleet()
  fleet.apply([{ type: 'reset', revision: 1, instances: [entry('web', 'a', { utilization: 0.5 })] }])
  fleet.apply([{ type: 'put', revision: 2, instance: entry('web', 'a') }])
  assert.equal(fleet.instance('web', 'a')?.utilization, 0.5)
  fleet.setLoads('web', new Map([['a', 0.7], ['b', 1]]))
  assert.equal(fleet.instance('web', 'a')?.utilization, 0.7)
})

test('a reset has the loads, so that one that it lacks is gone', () => {
  const fleet = new Fleet()
  fleet.apply([{ type: 'reset', revision: 1, instances: [entry('web', 'a', { utilization: 0.5 })] }])
  fleet.apply([{ type: 'reset', revision: 2, instances: [entry('web', 'a')] }])
  assert.equal(fleet.instance('web', 'a')?.utilization, undefined)
})

test('a request that is not answered ends', async (t) => {
  globalThis.location ??= /** @type {any} */ ({ host: 'host-1' })
  let end = new AbortController()
  t.mock.method(AbortSignal, 'timeout', () => end.signal)
  t.mock.method(globalThis, 'fetch', (/** @type {string} */ _, /** @type {RequestInit} */ o) =>
    new Promise((_, reject) => o.signal?.addEventListener('abort', () => reject(o.signal?.reason))))
  for (const [options, says] of /** @type {const} */ ([
    [{}, /^The agent at host-1 did not answer within 30 s\.$/],
    [{ method: 'PATCH', signal: new AbortController().signal }, /within 30 s\. Whether it did what it was asked is not known\.$/],
  ])) {
    end = new AbortController()
    const asked = assert.rejects(ask('/v1/agent', options), { name: 'Error', status: 0, message: says })
    end.abort(new DOMException('', 'TimeoutError'))
    await asked
  }
})

test('a token that cannot be sent is refused', async () => {
  for (const bad of ['disc…', 'disc ops', 'disc\nops']) {
    token.value = bad
    await assert.rejects(ask('/v1/agent'), { status: 401, message: /token has a character/ })
  }
  token.value = ''
})

test('a command is one of the agent, and none of a name', () => {
  const commands = (/** @type {string} */ text) => partsOf(text).filter((p) => p.command).map((p) => p.text)
  assert.deepEqual(partsOf("Put it back with 'disc undrain web/web-1'."), [
    { text: 'Put it back with ', command: false }, { text: 'disc undrain web/web-1', command: true }, { text: '.', command: false },
  ])
  assert.deepEqual(commands("'disc unset a/b --static && disc set a/b [::1]:80' writes one"), []) // brackets are for the shell
  assert.deepEqual(commands("'disc unset a/b --static && disc set a/b 10.0.0.1:80' writes one"), ['disc unset a/b --static && disc set a/b 10.0.0.1:80'])
  assert.deepEqual(commands(`Its check "'disc unset a/b'\\" 'disc unset c/d'" is critical: 'disc status -o json' has all`), ['disc status -o json'])
  for (const bad of ['disc x; reboot', 'disc $(reboot)', 'disc `reboot`', 'disc x | sh', 'disc x && rm -rf', 'disc x\nreboot', 'curl x']) assert.deepEqual(commands(`'${bad}'`), [])
})

const noon = Math.ceil(Date.UTC(2026, 0, 31, 12) / slotTime) * slotTime
/** @param {number} slot  after noon @param {number} [ms] */
const at = (slot, ms = 0) => noon + slot * slotTime + ms
/** @param {number} ms */
const time = (ms) => new Date(ms).toISOString()
/** @param {number} healthy @param {number} [out] @param {number} [unsure] */
const counts = (healthy, out = 0, unsure = 0) => ({ healthy, out, unsure })
/** The newest slots, each as healthy/out/unsure. @param {Tracks} tracks @param {number} n @param {number} now @param {string} [key] */
const newest = (tracks, n, now, key = 'web') => tracks.read(key, now).slice(-n).map((c) => (c ? `${c.healthy}/${c.out}/${c.unsure}` : '?'))
/** @param {number} ms @param {string} id @param {string} change @param {Record<string, string[]>} [fields] @param {object} [more] */
const change = (ms, id, change, fields = {}, more) => /** @type {any} */ ({ seen: time(ms), service: id && 'Web', id, change, fields: Object.entries(fields).map(([field, [from, to]]) => ({ field, from, to })), ...more })
/** @param {any[]} changes @param {number} begins @param {object} [more] */
const history = (changes, begins, more) => /** @type {any} */ ({ begins: { revision: 1, seen: time(begins) }, changes, watched: true, end: '9-x', ...more })

test('a track has what the page sees', () => {
  const tracks = new Tracks()
  assert.deepEqual(newest(tracks, 2, at(0)), ['?', '?'])
  tracks.record('web', at(0, 1), counts(3))
  tracks.found(at(0, 1))
  assert.deepEqual(newest(tracks, 2, at(0, 2)), ['?', '3/0/0'])
  tracks.record('web', at(1, 10), counts(1, 2)) // a dip within a slot is seen
  tracks.record('web', at(1, 20), counts(3))
  tracks.record('web', at(3), counts(2)) // one left in order: none is out
  assert.deepEqual(newest(tracks, 5, at(3, 1)), ['?', '?', '1/2/0', '3/0/0', '2/0/0'])
  tracks.lose(at(5, 1))
  assert.deepEqual(newest(tracks, 3, at(6, 1)), ['2/0/0', '?', '?'])
  tracks.found(at(7, 1))
  assert.deepEqual(newest(tracks, 4, at(8, 1)), ['?', '?', '?', '2/0/0'])
  tracks.record('web', at(9), counts(0))
  assert.deepEqual(newest(tracks, 2, at(10)), ['0/0/0', '0/0/0'])
  for (let n = 10; n < 10 * slots; n++) tracks.record('db', at(n), counts(n % 3))
  assert.equal(tracks.read('db', at(10 * slots)).length, slots)
  assert.deepEqual(newest(tracks, 1, at(10 * slots), 'db'), ['2/0/0'])
  assert.equal(tracks.read('web', at(10 * slots)).every((c) => c?.healthy === 0), true)
})

test('a track has what the agent knows', () => {
  const tracks = new Tracks()
  tracks.record('web', at(20), counts(2, 1))
  tracks.found(at(20))
  const now = [entry('Web', 'a', { status: 'critical' }), entry('Web', 'b'), entry('Web', 'c')]
  const changes = [
    change(at(2, 5), 'c', 'added', { address: ['', 'x'], status: ['', 'critical'], state: ['', 'drain'] }),
    change(at(4, 5), 'c', 'changed', { status: ['critical', 'warning'] }),
    change(at(6, 5), 'c', 'changed', { state: ['drain', 'up'], override: ['state=drain', ''] }),
    change(at(8, 5), 'a', 'changed', { status: ['passing', 'critical'] }),
    change(at(10, 5), 'd', 'gone'),
  ]
  const skew = 5000
  tracks.rebuild(history(changes.map((c) => ({ ...c, seen: time(Date.parse(c.seen) + skew) })), at(0) + skew), at(-5), skew, () => /** @type {any} */ (now), ['web', 'db'])
  const want = ['?', '2/0/1', '2/0/1', '2/1/1', '2/1/1', '2/1/1', '2/1/1', '2/1/1', '3/0/1', '2/1/1', '2/1/1', '2/1/1', '2/1/0']
  assert.deepEqual(newest(tracks, 22, at(20)).slice(0, 13), want)
  assert.deepEqual(newest(tracks, 1, at(20)), ['2/1/0'])
  assert.equal(inWords(tracks.read('web', at(20))), 'In the last 10 min: 2 to 3 healthy, up to 1 not, of some it is not known; 7 min of it not known')
  assert.equal(newest(tracks, 22, at(20), 'db')[0], '?')

  // What comes within a slot is there in that slot, from its beginning on.
  const arrived = new Tracks()
  arrived.found(at(0, 9))
  arrived.rebuild(history([change(at(0, 5), 'a', 'added', { status: ['', 'passing'] })], at(0, 1)), at(-5), 0, () => [entry('Web', 'a')], ['web'])
  assert.deepEqual(newest(arrived, 1, at(0, 9)), ['1/0/0'])
  assert.deepEqual(newest(arrived, 2, at(1)), ['?', '1/0/0'])
})

test('what is not known is a hole', () => {
  const now = () => [entry('Web', 'a')]
  const read = (/** @type {any} */ h, /** @type {number} */ from = at(-slots)) => {
    const tracks = new Tracks()
    tracks.found(at(10))
    tracks.rebuild(h, from, 0, now, ['web'])
    return newest(tracks, 11, at(10)).map((c) => (c === '?' ? '?' : '.')).join('')
  }
  assert.equal(read(history([], at(3))), '???........')
  assert.equal(read(history([], at(-100))), '...........')
  assert.equal(read({ begins: null, changes: [], watched: false, end: '' }), '??????????.')
  assert.equal(read(history([change(at(4), 'a', 'changed')], at(-100), { truncated: true })), '????.......')
  assert.equal(read(history([change(at(6, 1), '', 'gap', {}, { since: time(at(3, 9)) })], at(0))), '...????....')
  assert.equal(read(history([change(at(4), '', 'watched')], at(0))), '????.......')
  assert.equal(read(history([change(at(2), '', 'unwatched', {}, { service: 'web' }), change(at(5), '', 'watched', {}, { service: 'WEB' })], at(0))), '..???......')
  assert.equal(read(history([change(at(2), '', 'unwatched', {}, { service: 'db' })], at(0))), '...........')
  assert.equal(read(history([change(at(2), '', 'unwatched', {}, { service: 'web' }), change(at(5), '', 'watched')], at(0))), '?????......') // all of them

  // What the page has seen before the agent was started anew stays.
  const tracks = new Tracks()
  tracks.record('web', at(1), counts(1))
  tracks.found(at(1))
  tracks.lose(at(4))
  tracks.found(at(7))
  tracks.rebuild(history([], at(6)), at(-slots), 0, now, ['web'])
  assert.deepEqual(newest(tracks, 8, at(8)), ['1/0/0', '1/0/0', '1/0/0', '?', '?', '1/0/0', '1/0/0', '1/0/0'])
})

test('values', () => {
  assert.equal(seconds('1m30.5s'), 90.5)
  assert.equal(seconds('500ms'), 0.5)
  assert.equal(seconds('1h'), 3600)
  assert.equal(seconds(undefined), 0)
  assert.equal(span(0.44), '0.4 s')
  assert.equal(span(61), '61 s')
  assert.equal(span(3 * 86400 + 7200), '3 d 2 h')
  assert.equal(some(['a', 'b', 'c', 'd', 'e', 'f']), 'a, b, c, d and 2 more')
  assert.equal(shown('a\u202eb\u0000\u001b[2J<b>'), 'a\\u202eb\\u0000\\u001b[2J<b>')
  assert.equal(shown('two\nlines'), 'two\nlines')
})

/** @param {string} text */
const bytes = (text) => new TextEncoder().encode(text)

test('keys are a tree', () => {
  const keys = ['a', 'a-1', 'a/b/c', 'a/b/d', 'a/e', 'b//x', 'f']
  /** @param {string[]} open @param {string} [base] */
  const rows = (open, base = '') => treeOf(keys, base, new Set(open)).map((r) => `${' '.repeat(r.depth)}${r.name}${r.dir ? ` ${r.count}` : ''}`)
  assert.deepEqual(rows([]), ['a', 'a-1', 'a/ 3', 'b/ 1', 'f'])
  assert.deepEqual(rows(['a/', 'a/b/', 'b/', 'b//']), ['a', 'a-1', 'a/ 3', ' b/ 2', '  c', '  d', ' e', 'b/ 1', ' / 1', '  x', 'f'])
  assert.deepEqual(rows(['a/b/']), ['a', 'a-1', 'a/ 3', 'b/ 1', 'f']) // what is in a closed directory is not shown
  assert.deepEqual(treeOf(['a/b/c', 'a/e'], 'a/', new Set()).map((r) => r.key), ['a/b/', 'a/e'])
  assert.deepEqual(found(keys, ['a', 'b']).map((r) => r.key), ['a/b/c', 'a/b/d'])
})

test('open directories are a text', () => {
  for (const dirs of [[], ['app/'], ['a,b/', 'a%2C/', 'x/y/', '%/']]) assert.deepEqual([...splitDirs(joinDirs(dirs))], [...dirs].sort())
  assert.deepEqual(dirsOf('a/b/c'), ['a/', 'a/b/'])
  assert.deepEqual(dirsOf('a/b/'), ['a/'])
  assert.deepEqual(dirsOf('a'), [])
})

test('what is no key', () => {
  for (const key of ['', '/a', 'a/', 'a//b', '.', 'a/../b', 'a\u0000', 'é'.repeat(257)]) assert.notEqual(whyNoKey(key), '', key)
  for (const key of ['a', 'a/b', '..a', 'é'.repeat(256), '<b>', 'a b']) assert.equal(whyNoKey(key), '', key)
  assert.equal(keyPath('a/b?c#d'), '/v1/kv/a%2Fb%3Fc%23d')
})

test('values as text, JSON and hex', () => {
  assert.equal(formOf(bytes('{"a":1}')), 'json')
  assert.equal(formOf(bytes('{"a":1')), 'text')
  assert.equal(formOf(bytes('12')), 'text')
  assert.equal(formOf(bytes('a\r\n')), 'hex')
  assert.equal(formOf(Uint8Array.of(0xff)), 'hex')
  assert.equal(formOf(bytes('')), 'text')
  assert.ok(isPlain('a\tb\n') && !isPlain('a\u001b') && !isPlain(null))
  assert.equal(lines('a\tb\u202e'), 'a\tb\\u202e')
  assert.deepEqual([...bytesOf('AP8=')], [0, 255])
  assert.equal(dump(bytes('hello, world, hello')), '00000000  68 65 6c 6c 6f 2c 20 77 6f 72 6c 64 2c 20 68 65  hello, world, he\n00000010  6c 6c 6f                                         llo')
  assert.equal(hexOf(Uint8Array.of(0, 171)), '00 ab')
  assert.deepEqual([...(fromHex(' 00\nAb') ?? [])], [0, 171])
  for (const text of ['0', '0g', '00 1']) assert.equal(fromHex(text), null)
})

test('JSON is indented as it is written', () => {
  const text = '{"n":12345678901234567890, "x" : 1.10,"e":{},"f":[ ],"s":"a\\"b,{[","l":[1,[true,null]]}'
  const want = '{\n  "n": 12345678901234567890,\n  "x": 1.10,\n  "e": {},\n  "f": [],\n  "s": "a\\"b,{[",\n  "l": [\n    1,\n    [\n      true,\n      null\n    ]\n  ]\n}'
  assert.equal(indent(text, Infinity), want)
  const deep = 200_000
  assert.ok(indent('['.repeat(deep) + ']'.repeat(deep), 1000).length < 3000) // a value may be made to be large
})

test('what differs', () => {
  const d = (/** @type {string} */ a, /** @type {string} */ b) => difference(bytes(a), bytes(b))
  assert.deepEqual(d('a\nb\nc', 'a\nx\ny\nc'), { gone: ['b'], come: ['x', 'y'] })
  assert.deepEqual(d('', 'a'), { gone: [], come: ['a'] })
  assert.deepEqual(d('a\na', 'a'), { gone: ['a'], come: [] })
  assert.deepEqual(d('a', 'a\u0000').come, ['00000000  61 00                                            a.'])
})

test('how fast tokens are bought', () => {
  const b = new Bought(10_000)
  assert.ok(Number.isNaN(b.rate('sms')))
  for (let n = 0; n <= 20; n++) b.add(1000 + n * 1000, [['sms', n < 10 ? n * 100 : 1000 + (n - 10) * 5], ['mail', 7]])
  assert.equal(b.rate('sms'), 5) // of the last ten seconds alone
  assert.equal(b.rate('mail'), 0)
  b.add(22_000, [['sms', 3]]) // it was deleted, and made again
  assert.ok(Number.isNaN(b.rate('sms')) && Number.isNaN(b.rate('mail')))
  b.add(22_000, [['sms', 9]]) // the same answer, drawn again
  b.add(24_000, [['sms', 7]])
  assert.equal(b.rate('sms'), 2)
})

test('of a long line the part is shown where it begins to differ', () => {
  const before = `{"list":"${'x'.repeat(1000)}","port":5432,"more":"${'y'.repeat(1000)}"}`
  const after = before.replace('5432', '5433')
  assert.match(excerpt(before, after), /^… x+","port":5432,"more":"y+ …$/)
  assert.match(excerpt(after, before), /^… x+","port":5433,"more":"y+ …$/)
  assert.equal(excerpt('short', 'shorter'), 'short')
  assert.equal(excerpt(before).length, 202)
  assert.equal(excerpt('x'.repeat(300), 'x'.repeat(301)), `… ${'x'.repeat(40)}`)
  assert.equal(excerpt('a\u202eb\tc', ''), 'a\\u202eb\tc')
})

test('versions of a key are joined without a gap, and do not grow in number by themselves', () => {
  /** @param {number} from @param {number} to */
  const down = (from, to, older = 'more') => ({ older, versions: Array.from({ length: from - to + 1 }, (_, n) => ({ revision: from - n })) })
  const none = { versions: [], older: '' }
  assert.deepEqual(joined(none, down(20, 11), 0, 10), down(20, 11))
  const two = joined(down(20, 11), down(10, 1, 'none_found'), 10, 10)
  assert.deepEqual(two, down(20, 1, 'none_found'))
  assert.deepEqual(joined(two, down(20, 11), 0, 10), two)
  assert.deepEqual(joined(two, down(22, 13), 0, 10), down(22, 3))
  assert.deepEqual(joined(two, down(40, 31), 0, 10), down(40, 31)) // 21 to 30 were not read
  assert.deepEqual(joined(down(22, 13), down(10, 1), 10, 10), down(22, 13)) // nor 11 and 12
  assert.deepEqual(joined(two, none, 0, 10), none)
  assert.deepEqual(joined(down(20, 20), down(20, 20, 'compacted'), 0, 10), down(20, 20, 'compacted'))
})
