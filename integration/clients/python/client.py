"""A Paho client with what the checks need: calls that wait, and a queue of what arrived."""

import itertools
import os
import queue
import threading

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

# WAIT is above every time that a busy machine of two cores needs, QUIET how long silence is listened to after a fence.
WAIT = 60.0

VERSIONS = {"3.1": mqtt.MQTTv31, "3.1.1": mqtt.MQTTv311, "5": mqtt.MQTTv5}

_numbers = itertools.count(1)


def unique(prefix):
    """A name of at most 23 characters that no other check uses."""
    return "%s%d-%d" % (prefix[:8], os.getpid(), next(_numbers))


def properties(packet, **values):
    p = Properties(packet)
    for name, value in values.items():
        setattr(p, name, value)
    return p


class Failure(Exception):
    """What a check reports."""


def expect(what, got, want):
    if got != want:
        raise Failure("%s: got %r, want %r" % (what, got, want))


class Client:
    """One connection. Leaving the block disconnects; kill() breaks the connection like a crash."""

    def __init__(self, target, version, client_id=None, clean=True, expiry=None, will=None, connect=None, tls=None, transport="tcp"):
        self.version = version
        five = version == "5"
        self.id = unique("py") if client_id is None else client_id
        kwargs = {} if five else {"clean_session": clean}
        self.c = mqtt.Client(self.id, protocol=VERSIONS[version], transport=transport, **kwargs)
        self.messages = queue.Queue()
        self.connected = queue.Queue()
        self.acks = queue.Queue()
        self.gone = queue.Queue()
        self.flags = None
        self.connack = None
        self.c.on_connect = self._on_connect
        self.c.on_disconnect = self._on_disconnect
        self.c.on_message = lambda _c, _u, m: self.messages.put(m)
        self.c.on_subscribe = lambda _c, _u, mid, codes, *_: self.acks.put((mid, codes))
        self.c.on_unsubscribe = lambda _c, _u, mid, *rest: self.acks.put((mid, rest))
        if will:
            self.c.will_set(**will)
        if tls:
            self.c.tls_set(ca_certs=tls)
        if transport == "websockets":
            self.c.ws_set_options(path="/mqtt")
        args = {}
        if five:
            props = dict(connect or {})
            if expiry is not None:
                props["SessionExpiryInterval"] = expiry
            args = {"clean_start": clean, "properties": properties(PacketTypes.CONNECT, **props)}
        self.c.connect(target[0], target[1], keepalive=30, **args)
        self.c.loop_start()
        rc = self._take(self.connected, "CONNACK")
        if rc != 0:
            self.kill()
            raise Failure("CONNECT of MQTT %s was refused with %r" % (version, rc))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.c.is_connected():
            self.disconnect()

    def _on_connect(self, _c, _u, flags, rc, props=None):
        self.flags, self.connack = flags, props
        self.connected.put(rc if isinstance(rc, int) else rc.value)

    def _on_disconnect(self, _c, _u, rc, props=None):
        self.gone.put(rc if isinstance(rc, int) else rc.value)

    def _take(self, q, what):
        try:
            return q.get(timeout=WAIT)
        except queue.Empty:
            raise Failure("%s: no %s within %g s" % (self.id, what, WAIT)) from None

    @property
    def session_present(self):
        return bool(self.flags["session present"])

    def subscribe(self, topic, qos=0, options=None, props=None):
        if self.version == "5" and options is not None:
            rc, mid = self.c.subscribe(topic, options=options, properties=props)
        elif self.version == "5":
            rc, mid = self.c.subscribe(topic, qos, properties=props)
        else:
            rc, mid = self.c.subscribe(topic, qos)
        expect("subscribe() of " + topic, rc, 0)
        got, codes = self._take(self.acks, "SUBACK")
        expect("packet id of SUBACK", got, mid)
        codes = [c if isinstance(c, int) else c.value for c in codes]
        if codes[0] > 2:
            raise Failure("SUBACK for %s: 0x%02X" % (topic, codes[0]))
        return codes[0]

    def unsubscribe(self, topic):
        _, mid = self.c.unsubscribe(topic)
        got, _ = self._take(self.acks, "UNSUBACK")
        expect("packet id of UNSUBACK", got, mid)

    def publish(self, topic, payload="", qos=0, retain=False, props=None):
        args = {"properties": props} if self.version == "5" and props is not None else {}
        info = self.c.publish(topic, payload, qos, retain, **args)
        done = threading.Thread(target=info.wait_for_publish, daemon=True)
        done.start()
        done.join(WAIT)
        if done.is_alive():
            raise Failure("PUBLISH of QoS %d to %s was not acknowledged within %g s" % (qos, topic, WAIT))
        return info

    def receive(self, n):
        """The next n messages."""
        return [self._take(self.messages, "message %d of %d" % (i + 1, n)) for i in range(n)]

    def disconnect(self):
        self.c.disconnect()
        self._take(self.gone, "end of the connection")
        self.c.loop_stop()

    def kill(self):
        """Ends the connection without DISCONNECT."""
        self.c.loop_stop()
        sock = self.c.socket()
        if sock is not None:
            sock.close()


def payloads(messages):
    return [m.payload.decode() for m in messages]
