// Drives a Flotilla node with MQTT.js and prints one JSON line per check, then {"checks": n}.
//
// usage: node check.mjs --pub URL --sub URL [--ca FILE] [--only TEXT]
//
// A URL is mqtt://, mqtts://, ws:// or wss://. Publishers use the first and subscribers the second, which may be another
// node of the same cluster.

import { parseArgs } from 'node:util'
import { Client, FOREVER, payloads, same, unique, using, versions } from './client.mjs'

const { values: env } = parseArgs({
  options: { pub: { type: 'string' }, sub: { type: 'string' }, ca: { type: 'string' }, only: { type: 'string', default: '' } },
})

const open = (url, version, options = {}) => Client.open(url, version, { ca: env.ca, ...options })
const durable = (version) => (version === '5' ? { clean: false, expiry: FOREVER } : { clean: false })
const both = (version, fn) => using([open(env.sub, version), open(env.pub, version)], fn)
const count = (n) => Array.from({ length: n }, (_, i) => `${i}`)

async function checkQoS(version, qos) {
  const topic = unique('q')
  await both(version, async (s, p) => {
    same('granted QoS', await s.subscribe(`${topic}/+/x`, { qos }), qos)
    for (const i of count(20)) await p.publish(`${topic}/${i}/x`, i, { qos })
    const got = await s.receive(20)
    same('payloads', payloads(got), count(20))
    same('QoS and RETAIN', [...new Set(got.map((m) => `${m.qos} ${m.retain}`))], [`${qos} false`])
    await s.unsubscribe(`${topic}/+/x`)
    await s.subscribe(`${topic}/fence`, { qos })
    await p.publish(`${topic}/1/x`, 'nobody', { qos })
    await p.publish(`${topic}/fence`, 'fence', { qos })
    same('after UNSUBSCRIBE', payloads(await s.receive(1)), ['fence'])
  })
}

// Many at once, and order holds nevertheless. MQTT.js does not heed the server's Receive Maximum (64 unless configured), and is
// disconnected with 0x93 where it should wait: so no more than that are sent at once.
async function checkPipelined(version, qos) {
  const topic = unique('m')
  await both(version, async (s, p) => {
    await s.subscribe(topic, { qos })
    const all = count(200)
    for (let at = 0; at < all.length; at += 50) await Promise.all(all.slice(at, at + 50).map((i) => p.publish(topic, i, { qos })))
    same('payloads', payloads(await s.receive(all.length)), all)
  })
}

async function checkRetained(version) {
  const topic = unique('r')
  await both(version, async (live, p) => {
    await live.subscribe(`${topic}/#`, { qos: 2 })
    for (const qos of [0, 1, 2]) {
      await p.publish(`${topic}/${qos}`, 'old', { qos, retain: true })
      await p.publish(`${topic}/${qos}`, 'kept', { qos, retain: true })
    }
    await p.publish(`${topic}/gone`, 'x', { qos: 1, retain: true })
    await p.publish(`${topic}/gone`, '', { qos: 1, retain: true })
    same('RETAIN of live messages', (await live.receive(8)).some((m) => m.retain), false)
    await using([open(env.sub, version)], async (late) => {
      await late.subscribe(`${topic}/#`, { qos: 2 })
      const got = (await late.receive(3)).map((m) => `${m.topic} ${m.payload} ${m.qos} ${m.retain}`).sort()
      same('retained messages', got, [0, 1, 2].map((q) => `${topic}/${q} kept ${q} true`))
      await p.publish(`${topic}/end`, 'end', { qos: 1 })
      same('behind them', payloads(await late.receive(1)), ['end'])
    })
    for (const qos of [0, 1, 2]) await p.publish(`${topic}/${qos}`, '', { qos, retain: true })
  })
}

async function checkWill(version, qos) {
  const topic = unique('w')
  await using([open(env.pub, version)], async (watcher) => {
    await watcher.subscribe(`${topic}/#`, { qos: 2 })
    const polite = await open(env.sub, version, { will: { topic: `${topic}/polite`, payload: 'no', qos } })
    await polite.disconnect()
    const crashed = await open(env.sub, version, { will: { topic: `${topic}/crashed`, payload: 'gone', qos, retain: true } })
    await crashed.kill()
    const [m] = await watcher.receive(1)
    same('will', [m.topic, m.payload, m.qos, m.retain], [`${topic}/crashed`, 'gone', qos, false])
    await using([open(env.sub, version)], async (late) => {
      await late.subscribe(`${topic}/crashed`, { qos: 2 })
      const [kept] = await late.receive(1)
      same('retained will', [kept.payload, kept.qos, kept.retain], ['gone', qos, true])
      await late.publish(`${topic}/crashed`, '', { qos: 1, retain: true })
    })
    same('behind it', payloads(await watcher.receive(1)), [''])
  })
}

async function checkSession(version, qos) {
  const topic = unique('s')
  const clientId = unique('sess')
  const first = await open(env.sub, version, { clientId, ...durable(version) })
  same('session present at first', first.sessionPresent, false)
  await first.subscribe(topic, { qos })
  await first.disconnect()
  await using([open(env.pub, version)], async (p) => {
    for (const i of count(20)) await p.publish(topic, i, { qos })
    const again = await open(env.pub, version, { clientId, ...durable(version) }) // on the other node
    if (version !== '3.1') same('session present', again.sessionPresent, true) // 3.1 has no such flag
    same('what waited', (await again.receive(20)).map((m) => `${m.payload} ${m.qos}`), count(20).map((i) => `${i} ${qos}`))
    await again.kill()
    await p.publish(topic, 'after the crash', { qos })
    await using([open(env.sub, version, { clientId, ...durable(version) })], async (third) => {
      let [m] = await third.receive(1)
      // What comes first may be a repetition, if an acknowledgement was lost with the connection.
      while (m.dup && m.payload !== 'after the crash') [m] = await third.receive(1)
      same('after the crash', m.payload, 'after the crash')
    })
    await using([open(env.sub, version, { clientId })], async (fresh) => {
      same('session present after a clean start', fresh.sessionPresent, false)
      await p.publish(topic, 'nobody', { qos })
      await fresh.subscribe(`${topic}/fence`, { qos })
      await p.publish(`${topic}/fence`, 'fence', { qos })
      same('after a clean start', payloads(await fresh.receive(1)), ['fence'])
    })
  })
}

async function checkTakeover(version) {
  const clientId = unique('take')
  const topic = unique('take')
  const old = await open(env.pub, version, { clientId, ...durable(version) })
  await using([open(env.sub, version, { clientId, ...durable(version) })], async (fresh) => {
    if (version === '5') same('reason of DISCONNECT', (await old.disconnects.take('DISCONNECT')).reasonCode, 0x8e)
    await old.closed
    await fresh.subscribe(topic, { qos: 1 })
    await fresh.publish(topic, 'mine', { qos: 1 })
    same('the new connection', payloads(await fresh.receive(1)), ['mine'])
  })
}

// A member on each node: every message comes to one of them.
async function checkShared(version) {
  const topic = unique('sh')
  await using([open(env.pub, version), open(env.sub, version), open(env.pub, version)], async (a, b, p) => {
    b.messages = a.messages // one queue for the group
    for (const c of [a, b]) same('granted QoS', await c.subscribe(`$share/group/${topic}`, { qos: 2 }), 2)
    for (const i of count(20)) await p.publish(topic, i, { qos: 1 + (i % 2) })
    same('messages of the group', payloads(await a.receive(20)).sort((x, y) => x - y), count(20))
  })
}

async function checkLarge(version) {
  const topic = unique('l')
  const text = '0123456789abcdef'.repeat((900 * 1024) / 16)
  await both(version, async (s, p) => {
    await s.subscribe(topic, { qos: 1 })
    await p.publish(topic, text, { qos: 1 })
    same('payload is the same', (await s.receive(1))[0].payload === text, true)
  })
}

async function checkProperties() {
  const topic = unique('p')
  await both('5', async (s, p) => {
    await s.subscribe(topic, { qos: 1, properties: { subscriptionIdentifier: 7 } })
    await s.subscribe(`${topic}/#`, { qos: 1, properties: { subscriptionIdentifier: 300 } })
    await p.publish(topic, 'x', {
      qos: 1,
      properties: {
        payloadFormatIndicator: true, messageExpiryInterval: 100, contentType: 'text/plain', responseTopic: 'answers/here',
        correlationData: Buffer.from([0, 255]), userProperties: { b: ['1', '3'], a: '2' },
      },
    })
    const got = (await s.receive(1))[0].properties
    const left = got.messageExpiryInterval
    if (!(left >= 90 && left <= 100)) throw new Error(`message expiry interval: got ${left}, want what remains of 100`)
    const ids = [got.subscriptionIdentifier].flat()
    if (ids.length === 1) ids.push([(await s.receive(1))[0].properties.subscriptionIdentifier].flat()[0])
    same('subscription identifiers', ids.sort((a, b) => a - b), [7, 300])
    same('properties', [
      got.payloadFormatIndicator, got.contentType, got.responseTopic, got.correlationData.toString('hex'), { ...got.userProperties },
    ], [true, 'text/plain', 'answers/here', '00ff', { b: ['1', '3'], a: '2' }])
  })
}

async function checkOptions() {
  const topic = unique('o')
  await both('5', async (s, p) => {
    await p.publish(topic, 'kept', { qos: 1, retain: true })
    await s.subscribe(topic, { qos: 1, nl: true, rap: true, rh: 2 })
    await s.publish(topic, 'own', { qos: 1 })
    await p.publish(topic, 'flag', { qos: 1, retain: true })
    const [m] = await s.receive(1)
    same('No Local, Retain Handling 2 and Retain As Published', [m.payload, m.retain], ['flag', true])
    await s.subscribe(topic, { qos: 1, rh: 1 }) // not new: no retained message
    await s.publish(topic, 'mine', { qos: 1 })
    same('Retain Handling 1', payloads(await s.receive(1)), ['mine'])
    await s.subscribe(topic, { qos: 1, rh: 0 })
    same('Retain Handling 0', payloads(await s.receive(1)), ['flag'])
    await p.publish(topic, '', { qos: 1, retain: true })
  })
}

// The client's aliases on the way in, and on the way out the server's if it assigns them.
async function checkAlias() {
  const topic = unique('alias')
  const opening = [
    open(env.sub, '5', { properties: { topicAliasMaximum: 4 } }),
    open(env.pub, '5', { more: { autoAssignTopicAlias: true, autoUseTopicAlias: true } }),
  ]
  await using(opening, async (s, p) => {
    if (!(p.connack.properties?.topicAliasMaximum >= 1)) throw new Error('CONNACK allows no topic alias')
    await s.subscribe(`${topic}/#`, { qos: 1 })
    for (const i of count(9)) await p.publish(`${topic}/${i % 3}`, i, { qos: i % 2 })
    const got = (await s.receive(9)).map((m) => `${m.topic} ${m.payload}`).sort()
    same('messages', got, count(9).map((i) => `${topic}/${i % 3} ${i}`).sort())
  })
}

async function checkAssignedID() {
  await using([open(env.pub, '5', { clientId: '' })], async (c) => {
    same('type of the assigned client id', typeof c.connack.properties?.assignedClientIdentifier, 'string')
  })
}

async function checkWillProperties() {
  const topic = unique('wp')
  await using([open(env.pub, '5')], async (watcher) => {
    await watcher.subscribe(topic, { qos: 1 })
    const will = {
      topic, payload: 'gone', qos: 1, retain: false,
      properties: { willDelayInterval: 1, contentType: 'text/will', responseTopic: 'r', userProperties: { k: 'v' } },
    }
    const c = await open(env.sub, '5', { clean: false, expiry: FOREVER, will })
    const start = Date.now()
    await c.kill()
    const [m] = await watcher.receive(1)
    if (Date.now() - start < 800) throw new Error(`the will came after ${Date.now() - start} ms, before its delay of 1 s`)
    same('will properties', [m.properties.contentType, m.properties.responseTopic, { ...m.properties.userProperties }], ['text/will', 'r', { k: 'v' }])
    await using([open(env.pub, '5', { clientId: c.id })], () => {}) // ends the session
  })
}

// A few words in both directions: what a transport must carry.
async function checkTransport(version) {
  const topic = unique('t')
  await both(version, async (s, p) => {
    await s.subscribe(topic, { qos: 2 })
    for (const qos of [0, 1, 2]) {
      await p.publish(topic, `p${qos}`, { qos })
      await s.publish(topic, `s${qos}`, { qos })
    }
    same('messages', payloads(await s.receive(6)).sort(), ['p0', 'p1', 'p2', 's0', 's1', 's2'])
  })
}

function* checks() {
  for (const v of versions) {
    for (const qos of [0, 1, 2]) {
      yield [`${v} QoS ${qos}`, () => checkQoS(v, qos)]
      yield [`${v} will QoS ${qos}`, () => checkWill(v, qos)]
    }
    for (const qos of [1, 2]) {
      yield [`${v} session QoS ${qos}`, () => checkSession(v, qos)]
      yield [`${v} pipelined QoS ${qos}`, () => checkPipelined(v, qos)]
    }
    yield [`${v} retained`, () => checkRetained(v)]
    yield [`${v} takeover`, () => checkTakeover(v)]
    yield [`${v} large`, () => checkLarge(v)]
    yield [`${v} shared`, () => checkShared(v)]
    yield [`${v} transport`, () => checkTransport(v)]
  }
  yield ['5 properties', checkProperties]
  yield ['5 options', checkOptions]
  yield ['5 topic alias', checkAlias]
  yield ['5 assigned client id', checkAssignedID]
  yield ['5 will properties', checkWillProperties]
}

const todo = [...checks()].filter(([name]) => name.includes(env.only))
await Promise.all(todo.map(async ([check, fn]) => {
  const result = await fn().then(() => ({ check, ok: true }), (e) => ({ check, ok: false, error: String(e?.message ?? e) }))
  console.log(JSON.stringify(result))
}))
console.log(JSON.stringify({ checks: todo.length }))
process.exit(0) // what a failed check left open must not keep the process
