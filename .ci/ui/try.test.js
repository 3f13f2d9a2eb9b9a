// Tests of what Try it asks and reads: messages of DNS, words of a shell, forms.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { test } from 'node:test'
import { answerText, DNSError, query, types, writtenName } from './page/static/dns.js'
import { formsOf, refusal, requestLine } from './page/static/forms.js'
import { command, quote } from './page/static/shell.js'

/** @param {string} text  bytes in hexadecimal, or text in double quotes */
function bytes(text) {
  const parts = [...text.matchAll(/"([^"]*)"|([0-9a-f]{2})/g)]
  return new Uint8Array(parts.flatMap(([, word, pair]) => (pair ? [parseInt(pair, 16)] : [...new TextEncoder().encode(word)])))
}

test('a query is that of RFC 8484, with EDNS', () => {
  assert.deepEqual(query('web.disc', types.A), bytes('0000 0100 0001 0000 0000 0001 03"web"04"disc"00 0001 0001 00 0029 04d0 00000000 0000'))
})

test('what DNS cannot ask for', () => {
  for (const name of ['a..b', '.web', 'x'.repeat(64), `${'é'.repeat(32)}.web`, Array(130).fill('a').join('.')]) assert.throws(() => query(name, 1), DNSError, name)
  query('x'.repeat(63), 1)
})

const question = '03"web"04"disc"00 0001 0001'

test('answers in the form of dig', () => {
  const text = answerText(bytes(`0000 8580 0001 0003 0000 0002 ${question}
    c00c 0001 0001 00000001 0004 0a000001
    c00c 001c 0001 00000001 0010 20010db8 00000000 00010000 00000001
    c00c 0021 0001 00000001 000e 0000 ffff 1f90 05"web-1" c010
    00 0029 04d0 00000000 000b 000f 0007 0003 "stale"
    c010 00ff 0001 00000001 0002 abcd`))
  for (const line of [
    ';; status: NOERROR, id: 0', ';; flags: qr aa rd ra; QUERY: 1, ANSWER: 3, AUTHORITY: 0, ADDITIONAL: 2', '; EDNS: version 0, udp 1232', '; EDE: 3 stale',
    ';web.disc.\t\tIN\tA', 'web.disc.\t1\tIN\tA\t10.0.0.1', 'web.disc.\t1\tIN\tAAAA\t2001:db8::1:0:0:1', 'web.disc.\t1\tIN\tSRV\t0 65535 8080 web-1.disc.',
    'disc.\t1\tIN\tTYPE255\t\\# 2 abcd',
  ]) assert.ok(text.split('\n').includes(line), `${line} is not in\n${text}`)
  const missing = answerText(bytes(`0000 8583 0001 0000 0001 0000 ${question} c010 0006 0001 00000001 001a 01"n"c010 c00c 00000007 00000001 00000002 00000003 00000004`))
  assert.match(missing, /status: NXDOMAIN/)
  assert.match(missing, /disc\.\t1\tIN\tSOA\tn\.disc\. web\.disc\. 7 1 2 3 4/)
})

test('hostile names stay text of one word', () => {
  const text = answerText(bytes(`0000 8580 0001 0001 0000 0000 07"a b;$.\n" 01 1b 02 e280 00 0001 0001 c00c 0010 0001 00000001 0007 06"<b>\\" 0a 22`))
  assert.match(text, /^;a\\032b\\059\\036\\046\\010\.\\027\.\\226\\128\.\t/m)
  assert.match(text, /TXT\t"<b>\\\\\\010\\""$/m)
  assert.equal(writtenName('@evil.+trace'), '\\064evil.\\043trace')
  assert.equal(writtenName('-x.disc'), '\\045x.disc')
})

test('the reason of an error makes no line of its own', () => {
  const text = answerText(bytes('0000 8580 0000 0000 0000 0001 00 0029 04d0 00000000 000c 000f 0008 0003 "a" 0a ";; b"'))
  assert.match(text, /^; EDE: 3 a\\u000a;; b$/m)
})

const broken = {
  'nothing': '',
  'a header that ends': '0000 8580 00',
  'a name that points to itself': '0000 8580 0001 0000 0000 0000 c00c 0001 0001',
  'a name that points ahead': '0000 8580 0001 0000 0000 0000 c00e 0000 0001 0001',
  'names that point to each other': '0000 8580 0001 0000 0000 0000 01"a"c010 01"b"c00c 0001 0001',
  'a label of a kind that there is not': '0000 8580 0001 0000 0000 0000 80 0001 0001',
  'a name that is too long': `0000 8580 0001 0000 0000 0000 ${('3f' + '61'.repeat(63)).repeat(4)} 00 0001 0001`,
  'a count that is not kept': `0000 8580 ffff ffff ffff ffff ${question}`,
  'a record that is longer than the answer': `0000 8580 0001 0001 0000 0000 ${question} c00c 0001 0001 00000001 00ff 0a000001`,
  'an address that is too short': `0000 8580 0001 0001 0000 0000 ${question} c00c 0001 0001 00000001 0003 0a0000`,
  'an address that is too long': `0000 8580 0001 0001 0000 0000 ${question} c00c 0001 0001 00000001 0005 0a00000100`,
  'a name that leaves its record': `0000 8580 0001 0001 0000 0000 ${question} c00c 0021 0001 00000001 0007 0000 0000 0001 05 "web-1"00`,
  'a string that leaves its record': `0000 8580 0001 0001 0000 0000 ${question} c00c 0010 0001 00000001 0002 ff61`,
  'bytes after the end': `0000 8580 0001 0000 0000 0000 ${question} 00`,
}
for (const [name, text] of Object.entries(broken)) test(`no answer: ${name}`, () => assert.throws(() => answerText(bytes(text)), DNSError))

test('no answer: more bytes than a message has', () => assert.throws(() => answerText(new Uint8Array(65_536)), DNSError))

test('names that point on and on are read within bounds', () => {
  const message = new Uint8Array(65_535)
  message.set([0, 0, 0x85, 0x80, 0xff, 0xff])
  for (let at = 14; at + 1 < 16_384; at += 2) message.set([0xc0 | ((at - 2) >> 8), (at - 2) & 0xff], at)
  assert.throws(() => answerText(message), DNSError)
})

test('whatever comes, an answer is read or refused', () => {
  const good = bytes(`0000 8580 0001 0002 0000 0001 ${question} c00c 0001 0001 00000001 0004 0a000001 c00c 0021 0001 00000001 000e 0000 ffff 1f90 05"web-1" c010 00 0029 04d0 00000000 0000`)
  let seed = 1
  const random = (/** @type {number} */ n) => (seed = (seed * 48271) % 2147483647) % n
  for (let n = 0; n < 20_000; n++) {
    const message = good.slice(0, random(4) ? good.length : random(good.length))
    for (let k = random(6); k >= 0; k--) message[random(Math.max(1, message.length))] = random(256)
    try {
      assert.equal(typeof answerText(message), 'string')
    } catch (error) {
      if (!(error instanceof DNSError)) throw error
    }
  }
})

const words = ['web', 'it\'s', '$(id)', '`id`', 'a b', '*', '~', '~root', '=ls', '!!', '#x', '', '-x', 'a\\b', '"', '\'; id; \'', 'é', 'x;y|z&', '{a,b}', 'a\nb', '\u001b[201~\u0003id\r', 'a\u202eb', '\'\u0007\\', 'ends\n']

test('each word is one word of a shell', () => {
  for (const shell of ['bash', 'sh']) {
    const given = shell === 'sh' ? words.filter((w) => !/[\u0000-\u001f\u202e]/.test(w)) : words // $'…' is not in each sh
    const got = execFileSync(shell, ['-c', `printf '%s\\0' ${command(...given)}`], { encoding: 'utf8' })
    assert.deepEqual(got.split('\0').slice(0, -1), given)
  }
})

test('a command has nothing that does not show', () => {
  for (const word of words) assert.doesNotMatch(quote(word), /[\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/)
  assert.equal(quote('a\u202eb'), "$'a\\342\\200\\256b'")
})

const about = { origin: 'http://127.0.0.1:3472', withToken: false, domain: 'disc.', dns: '127.0.0.1:3453', grpc: '', isService: true }
/** @param {object} asked @param {object} [more] */
const forms = (asked, more) => Object.fromEntries(formsOf({ name: 'web', tag: '', zone: '', pick: '', ...asked }, { ...about, ...more }).map((f) => [f.key, f]))

test('the commands of the forms', () => {
  const f = forms({ tag: 'v2', zone: "a b's", pick: '2' })
  assert.deepEqual(f.json.commands, ["curl -i 'http://127.0.0.1:3472/v1/lookup/web?tag=v2&zone=a%20b'\\''s&pick=2'", "disc lookup web --tag v2 --zone 'a b'\\''s' --pick 2 -o json"])
  assert.deepEqual(f.text.commands[1], "disc lookup web --tag v2 --zone 'a b'\\''s' --pick 2 -o addr")
  assert.deepEqual(f['dns-srv'].commands, ['dig -p 3453 @127.0.0.1 v2.web.disc SRV'])
  assert.deepEqual(f['dns-srv'].notes, ['DNS has no zone and no pick.'])
  assert.deepEqual(f['http-sd'].notes, ['http_sd has no pick.'])
  assert.equal(requestLine(f.eds), 'POST /v3/discovery:endpoints {"resource_names":["v2.web"]}')
  assert.deepEqual(f.eds.commands, ["curl -i -d '{\"resource_names\":[\"v2.web\"]}' http://127.0.0.1:3472/v3/discovery:endpoints"])
})

test('where the agent listens, and who asks', () => {
  const elsewhere = { origin: 'https://[fd00::1]:3472' }
  assert.deepEqual(forms({}, { ...elsewhere, dns: '[::]:53' })['dns-a'].commands, ['dig -p 53 @fd00::1 web.disc A'])
  assert.deepEqual(forms({}, { dns: ':53' })['dns-a'].commands, ['dig -p 53 @127.0.0.1 web.disc A'])
  assert.deepEqual(forms({}, elsewhere).json.commands[1], "disc lookup web --agent 'https://[fd00::1]:3472' -o json")
  assert.equal(forms({}, { withToken: true }).json.commands[0], 'curl -i -H "Authorization: Bearer $DISC_TOKEN" http://127.0.0.1:3472/v1/lookup/web')
  assert.match(forms({}, { dns: '' })['dns-a'].notes[0], /off.*dns\.listen/)
  assert.deepEqual(forms({}, { dns: '' })['dns-a'].commands, ["curl -i 'http://127.0.0.1:3472/resolve?name=web.disc&type=A'"])
  assert.match(forms({}).eds.notes[0], /off.*grpc\.listen/)
  assert.deepEqual(forms({}, { grpc: '127.0.0.1:1', dns: undefined }).eds.notes, [])
  assert.deepEqual(forms({}, { dns: undefined })['dns-a'].notes, [])
})

test('names', () => {
  assert.match(forms({ name: 'web.disc' })['dns-a'].commands[0], / web\.disc A$/)
  assert.match(forms({ name: '_grpc._tcp.web.svc.DISC.' })['dns-a'].commands[0], / _grpc\._tcp\.web\.svc\.DISC A$/)
  assert.match(forms({ name: '@evil' })['dns-a'].commands[0], / '\\064evil\.disc' A$/)
  assert.match(forms({ name: '-x' }).json.commands[1], / -o json -- -x$/)
  assert.equal(forms({ name: '../agent?a#b' }).json.path, '/v1/lookup/..%2Fagent%3Fa%23b')
  assert.match(forms({ tag: 'a.b' })['dns-a'].problem, /the tag a\.b: it has a dot/)
  assert.match(forms({ name: 'a..b' })['dns-a'].problem, /two of its dots/)
  for (const name of ['.', '..', '']) assert.notEqual(refusal({ name, tag: '', zone: '', pick: '' }), '')
})
