// An MQTT.js client with what the checks need: calls that wait, and a queue of what arrived.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import mqtt from 'mqtt'

// WAIT (ms) is above every time that a busy machine of two cores needs.
export const WAIT = 60_000
export const FOREVER = 3600

const levels = { 3.1: 3, '3.1.1': 4, 5: 5 }
export const versions = Object.keys(levels).sort()

let numbers = 0

// unique makes a name of at most 23 characters that no other check uses.
export const unique = (prefix) => `${prefix.slice(0, 8)}${process.pid}-${++numbers}`

function within(promise, what) {
  let timer
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no ${what} within ${WAIT / 1000} s`)), WAIT)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

// Queue hands out what was put in, waiting for it if need be.
class Queue {
  items = []
  waiting = []

  put(item) {
    const next = this.waiting.shift()
    if (next) next(item)
    else this.items.push(item)
  }

  take(what) {
    if (this.items.length > 0) return Promise.resolve(this.items.shift())
    return within(new Promise((resolve) => this.waiting.push(resolve)), what)
  }
}

export class Client {
  messages = new Queue()
  disconnects = new Queue()

  // open connects; options: clientId, clean, expiry (v5), will, properties (v5), ca (a file), and MQTT.js's own in more.
  static async open(url, version, { clientId = unique('js'), clean = true, expiry, will, properties, ca, more } = {}) {
    const c = new Client()
    const options = {
      protocolVersion: levels[version], clientId, clean, will, reconnectPeriod: 0, connectTimeout: WAIT, resubscribe: false, ...more,
    }
    if (version === '3.1') options.protocolId = 'MQIsdp'
    if (version === '5') {
      options.properties = { ...properties }
      if (expiry !== undefined) options.properties.sessionExpiryInterval = expiry
    }
    if (ca) options.ca = readFileSync(ca)
    c.version = version
    c.id = clientId
    c.mqtt = mqtt.connect(url, options)
    c.closed = new Promise((resolve) => c.mqtt.once('close', resolve))
    c.mqtt.on('message', (topic, payload, packet) => c.messages.put({
      topic, payload: payload.toString(), qos: packet.qos, retain: packet.retain, dup: packet.dup, properties: packet.properties,
    }))
    c.mqtt.on('disconnect', (packet) => c.disconnects.put(packet))
    const failed = new Promise((_, reject) => {
      c.mqtt.once('error', reject)
      c.mqtt.once('close', () => reject(new Error('the connection was closed before CONNACK')))
    })
    failed.catch(() => {})
    const connected = new Promise((resolve) => c.mqtt.once('connect', resolve))
    c.connack = await within(Promise.race([connected, failed]), 'CONNACK')
    c.mqtt.on('error', () => {}) // what a check waits for will not come
    return c
  }

  get sessionPresent() {
    return this.connack.sessionPresent
  }

  async subscribe(topic, options = { qos: 0 }) {
    const [granted] = await within(this.mqtt.subscribeAsync(topic, options), `SUBACK for ${topic}`)
    return granted.qos
  }

  unsubscribe(topic) {
    return within(this.mqtt.unsubscribeAsync(topic), `UNSUBACK for ${topic}`)
  }

  publish(topic, payload, options = {}) {
    return within(this.mqtt.publishAsync(topic, payload, options), `acknowledgement of QoS ${options.qos ?? 0} for ${topic}`)
  }

  // receive returns the next n messages.
  async receive(n) {
    const list = []
    while (list.length < n) list.push(await this.messages.take(`message ${list.length + 1} of ${n} for ${this.id}`))
    return list
  }

  async disconnect() {
    await within(this.mqtt.endAsync(), 'end of the connection')
  }

  // kill ends the connection without DISCONNECT.
  async kill() {
    this.mqtt.stream.destroy()
    await within(this.closed, 'end of the connection')
  }
}

// using opens clients, hands them to fn, and disconnects what is still connected.
export async function using(opening, fn) {
  const clients = await Promise.all(opening)
  try {
    return await fn(...clients)
  } finally {
    await Promise.all(clients.map((c) => (c.mqtt.connected ? c.disconnect() : null)))
  }
}

export const payloads = (messages) => messages.map((m) => m.payload)


// same fails unless got and want are deeply equal.
export function same(what, got, want) {
  try {
    assert.deepStrictEqual(got, want)
  } catch {
    throw new Error(`${what}: got ${JSON.stringify(got)}, want ${JSON.stringify(want)}`)
  }
}
