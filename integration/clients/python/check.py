"""Drives a Flotilla node with the Paho client for Python and prints one JSON line per check, then {"checks": n}.

usage: check.py --pub HOST:PORT --sub HOST:PORT [--tls HOST:PORT --ca FILE]

Publishers use the first address and subscribers the second, which may be another node of the same cluster.
"""

import argparse
import concurrent.futures
import json
import time

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.subscribeoptions import SubscribeOptions

from client import Client, Failure, VERSIONS, WAIT, expect, payloads, properties, unique

FOREVER = 3600


def durable(version):
    return {"clean": False, "expiry": FOREVER} if version == "5" else {"clean": False}


def check_qos(env, v, qos):
    topic = unique("q")
    with Client(env.sub, v) as s, Client(env.pub, v) as p:
        expect("granted QoS", s.subscribe(topic + "/+/x", qos), qos)
        for i in range(20):
            p.publish("%s/%d/x" % (topic, i), str(i), qos)
        got = s.receive(20)
        expect("payloads", payloads(got), [str(i) for i in range(20)])
        expect("QoS and RETAIN", {(m.qos, m.retain) for m in got}, {(qos, False)})
        s.unsubscribe(topic + "/+/x")
        s.subscribe(topic + "/fence", qos)
        p.publish(topic + "/1/x", "nobody", qos)
        p.publish(topic + "/fence", "fence", qos)
        expect("after UNSUBSCRIBE", payloads(s.receive(1)), ["fence"])


def check_downgrade(env, v):
    topic = unique("d")
    with Client(env.sub, v) as s, Client(env.pub, v) as p:
        expect("granted QoS", s.subscribe(topic, 1), 1)
        for qos in (2, 1, 0):
            p.publish(topic, str(qos), qos)
        expect("QoS by payload", sorted((m.payload.decode(), m.qos) for m in s.receive(3)), [("0", 0), ("1", 1), ("2", 1)])


def check_retained(env, v):
    topic = unique("r")
    with Client(env.sub, v) as live, Client(env.pub, v) as p:
        live.subscribe(topic + "/#", 2)
        for qos in (0, 1, 2):
            p.publish("%s/%d" % (topic, qos), "old", qos, retain=True)
            p.publish("%s/%d" % (topic, qos), "kept", qos, retain=True)
        p.publish(topic + "/gone", "x", 1, retain=True)
        p.publish(topic + "/gone", "", 1, retain=True)
        expect("RETAIN of live messages", {m.retain for m in live.receive(8)}, {False})
        with Client(env.sub, v) as late:
            late.subscribe(topic + "/#", 2)
            got = sorted((m.topic, m.payload.decode(), m.qos, m.retain) for m in late.receive(3))
            expect("retained messages", got, [("%s/%d" % (topic, q), "kept", q, True) for q in (0, 1, 2)])
            p.publish(topic + "/end", "end", 1)
            expect("behind them", payloads(late.receive(1)), ["end"])
        for qos in (0, 1, 2):
            p.publish("%s/%d" % (topic, qos), "", qos, retain=True)


def check_will(env, v, qos):
    topic = unique("w")
    with Client(env.pub, v) as watcher:
        watcher.subscribe(topic + "/#", 2)
        polite = Client(env.sub, v, will={"topic": topic + "/polite", "payload": "no", "qos": qos})
        polite.disconnect()
        crashed = Client(env.sub, v, will={"topic": topic + "/crashed", "payload": "gone", "qos": qos, "retain": True})
        crashed.kill()
        m = watcher.receive(1)[0]
        expect("will", (m.topic, m.payload, m.qos, m.retain), (topic + "/crashed", b"gone", qos, False))
        with Client(env.sub, v) as late:
            late.subscribe(topic + "/crashed", 2)
            m = late.receive(1)[0]
            expect("retained will", (m.payload, m.qos, m.retain), (b"gone", qos, True))
            late.publish(topic + "/crashed", "", 1, retain=True)
        expect("behind it", payloads(watcher.receive(1)), [""])


def check_session(env, v, qos):
    topic, cid = unique("s"), unique("sess")
    first = Client(env.sub, v, cid, **durable(v))
    expect("session present at first", first.session_present, False)
    first.subscribe(topic, qos)
    first.disconnect()
    with Client(env.pub, v) as p:
        for i in range(20):
            p.publish(topic, str(i), qos)
        again = Client(env.pub, v, cid, **durable(v))  # on the other node
        if v != "3.1":  # which has no such flag
            expect("session present", again.session_present, True)
        got = again.receive(20)
        expect("what waited", [(m.payload.decode(), m.qos) for m in got], [(str(i), qos) for i in range(20)])
        again.kill()
        p.publish(topic, "after the crash", qos)
        with Client(env.sub, v, cid, **durable(v)) as third:
            got = third.receive(1)[0]
            while got.dup and got.payload != b"after the crash":  # an acknowledgement was lost with the connection
                got = third.receive(1)[0]
            expect("after the crash", got.payload, b"after the crash")
        with Client(env.sub, v, cid, clean=True) as fresh:
            expect("session present after a clean start", fresh.session_present, False)
            p.publish(topic, "nobody", qos)
            fresh.subscribe(topic + "/fence", qos)
            p.publish(topic + "/fence", "fence", qos)
            expect("after a clean start", payloads(fresh.receive(1)), ["fence"])


def check_takeover(env, v):
    cid = unique("take")
    old = Client(env.pub, v, cid, **durable(v))
    old.c.reconnect_delay_set(min_delay=60, max_delay=60)
    with Client(env.sub, v, cid, **durable(v)) as new:
        rc = old._take(old.gone, "end of the connection")
        if v == "5":
            expect("reason of DISCONNECT", rc, 0x8E)
        topic = unique("take")
        new.subscribe(topic, 1)
        new.publish(topic, "mine", 1)
        expect("the new connection", payloads(new.receive(1)), ["mine"])
    old.kill()


def check_shared(env, v):
    topic = unique("sh")
    with Client(env.pub, v) as a, Client(env.sub, v) as b, Client(env.pub, v) as p:
        b.messages = a.messages  # one queue for the group
        for c in (a, b):
            expect("granted QoS", c.subscribe("$share/group/" + topic, 2), 2)
        for i in range(20):
            p.publish(topic, str(i), 1 + i % 2)
        expect("messages of the group", sorted(payloads(a.receive(20)), key=int), [str(i) for i in range(20)])


def check_large(env, v):
    topic, text = unique("l"), "0123456789abcdef" * (900 * 1024 // 16)
    with Client(env.sub, v) as s, Client(env.pub, v) as p:
        s.subscribe(topic, 1)
        p.publish(topic, text, 1)
        expect("bytes", len(s.receive(1)[0].payload), len(text))


def check_properties(env):
    topic = unique("p")
    with Client(env.sub, "5") as s, Client(env.pub, "5") as p:
        s.subscribe(topic, 1, props=properties(PacketTypes.SUBSCRIBE, SubscriptionIdentifier=7))
        sent = properties(PacketTypes.PUBLISH, PayloadFormatIndicator=1, MessageExpiryInterval=100, ContentType="text/plain",
                          ResponseTopic="answers/here", CorrelationData=b"\x00\xff", UserProperty=[("b", "1"), ("a", "2"), ("b", "3")])
        p.publish(topic, "x", 1, props=sent)
        got = s.receive(1)[0].properties.json()
        left = got.pop("MessageExpiryInterval")
        if not 90 <= left <= 100:
            raise Failure("message expiry interval: got %r, want what remains of 100" % left)
        expect("properties", got, {
            "PayloadFormatIndicator": 1, "ContentType": "text/plain", "ResponseTopic": "answers/here", "CorrelationData": "00ff",
            "UserProperty": [("b", "1"), ("a", "2"), ("b", "3")], "SubscriptionIdentifier": [7]})


def check_options(env):
    topic = unique("o")
    with Client(env.sub, "5") as s, Client(env.pub, "5") as p:
        p.publish(topic, "kept", 1, retain=True)
        s.subscribe(topic, options=SubscribeOptions(1, noLocal=True, retainAsPublished=True, retainHandling=2))
        s.publish(topic, "own", 1)
        p.publish(topic, "flag", 1, retain=True)
        m = s.receive(1)[0]
        expect("No Local, Retain Handling 2 and Retain As Published", (m.payload, m.retain), (b"flag", True))
        s.subscribe(topic, options=SubscribeOptions(1, retainHandling=1))  # not new: no retained message
        s.publish(topic, "mine", 1)
        expect("Retain Handling 1", payloads(s.receive(1)), ["mine"])
        s.subscribe(topic, options=SubscribeOptions(1, retainHandling=0))
        expect("Retain Handling 0", payloads(s.receive(1)), ["flag"])
        p.publish(topic, "", 1, retain=True)


def check_request_response(env):
    topic, answers = unique("ask"), unique("answer")
    with Client(env.sub, "5") as server, Client(env.pub, "5") as asker:
        server.subscribe(topic, 1)
        asker.subscribe(answers, 1)
        asker.publish(topic, "ping", 1, props=properties(PacketTypes.PUBLISH, ResponseTopic=answers, CorrelationData=b"42"))
        q = server.receive(1)[0]
        server.publish(q.properties.ResponseTopic, "pong", 1, props=properties(PacketTypes.PUBLISH, CorrelationData=q.properties.CorrelationData))
        a = asker.receive(1)[0]
        expect("answer", (a.payload, a.properties.CorrelationData), (b"pong", b"42"))


def check_alias(env):
    topic = unique("alias")
    with Client(env.sub, "5") as s, Client(env.pub, "5") as p:
        if p.connack.TopicAliasMaximum < 1:
            raise Failure("CONNACK allows no topic alias")
        s.subscribe(topic, 1)
        p.publish(topic, "1", 1, props=properties(PacketTypes.PUBLISH, TopicAlias=1))
        # Paho Python refuses an empty topic unless there is an alias.
        p.publish("", "2", 1, props=properties(PacketTypes.PUBLISH, TopicAlias=1))
        expect("messages", [(m.topic, m.payload) for m in s.receive(2)], [(topic, b"1"), (topic, b"2")])


def check_assigned_id(env):
    with Client(env.pub, "5", client_id="") as c:
        if not c.connack.AssignedClientIdentifier:
            raise Failure("no assigned client identifier")
        expect("server's limits", (c.connack.json().get("WildcardSubscriptionAvailable", 1), c.connack.json().get("MaximumQoS", 2)), (1, 2))


def check_expiry(env):
    topic, cid = unique("e"), unique("exp")
    Client(env.sub, "5", cid, clean=False, expiry=1).disconnect()
    keeper = Client(env.sub, "5", unique("keep"), clean=False, expiry=FOREVER)
    keeper.subscribe(topic, 1)
    keeper.disconnect()
    with Client(env.pub, "5") as p:
        p.publish(topic, "short", 1, props=properties(PacketTypes.PUBLISH, MessageExpiryInterval=1))
        p.publish(topic, "long", 1, props=properties(PacketTypes.PUBLISH, MessageExpiryInterval=FOREVER))
    end = time.monotonic() + WAIT
    while True:  # each try would prolong a session that is still there
        time.sleep(2.5)
        with Client(env.pub, "5", cid, clean=False, expiry=1) as c:
            if not c.session_present:
                break
        if time.monotonic() > end:
            raise Failure("the session did not expire")
    with Client(env.pub, "5", keeper.id, clean=False, expiry=0) as again:
        expect("what had not expired", payloads(again.receive(1)), ["long"])


def check_will_delay(env):
    topic, cid = unique("wd"), unique("wd")
    props = properties(PacketTypes.WILLMESSAGE, WillDelayInterval=2, ContentType="text/will", UserProperty=("k", "v"))
    will = {"topic": topic, "payload": "gone", "qos": 1, "properties": props}
    with Client(env.pub, "5") as watcher:
        watcher.subscribe(topic, 1)
        # The session comes back in time: no will.
        Client(env.sub, "5", cid, clean=False, expiry=FOREVER, will=will).kill()
        back = Client(env.pub, "5", cid, clean=False, expiry=FOREVER, will=will)
        expect("session present", back.session_present, True)
        start = time.monotonic()
        back.kill()
        m = watcher.receive(1)[0]
        if time.monotonic() - start < 1.5:
            raise Failure("the will came after %.2f s, before its delay of 2 s" % (time.monotonic() - start))
        expect("will properties", (m.properties.ContentType, m.properties.UserProperty), ("text/will", [("k", "v")]))
        watcher.publish(topic, "end", 1)
        expect("behind the will", payloads(watcher.receive(1)), ["end"])


def check_transport(env, v, **how):
    topic = unique("t")
    with Client(how.pop("target"), v, **how) as s, Client(env.pub, v) as p:
        s.subscribe(topic, 2)
        for qos in (0, 1, 2):
            p.publish(topic, str(qos), qos)
            s.publish(topic, "s%d" % qos, qos)
        expect("messages", sorted(payloads(s.receive(6))), ["0", "1", "2", "s0", "s1", "s2"])


def checks(env):
    """All checks as (name, function, arguments)."""
    for v in VERSIONS:
        for qos in (0, 1, 2):
            yield "%s QoS %d" % (v, qos), check_qos, (env, v, qos)
            yield "%s will QoS %d" % (v, qos), check_will, (env, v, qos)
        for qos in (1, 2):
            yield "%s session QoS %d" % (v, qos), check_session, (env, v, qos)
        yield v + " downgrade", check_downgrade, (env, v)
        yield v + " retained", check_retained, (env, v)
        yield v + " takeover", check_takeover, (env, v)
        yield v + " large", check_large, (env, v)
        yield v + " shared", check_shared, (env, v)
        yield v + " WebSocket", lambda e, w: check_transport(e, w, target=e.sub, transport="websockets"), (env, v)
        if env.tls:
            yield v + " TLS", lambda e, w: check_transport(e, w, target=e.tls, tls=e.ca), (env, v)
    for name, fn in (("properties", check_properties), ("options", check_options), ("request and response", check_request_response),
                     ("topic alias", check_alias), ("assigned client id", check_assigned_id), ("expiry", check_expiry), ("will delay", check_will_delay)):
        yield "5 " + name, fn, (env,)


def run(check):
    name, fn, args = check
    try:
        fn(*args)
        return {"check": name, "ok": True}
    except Failure as e:
        return {"check": name, "ok": False, "error": str(e)}
    except Exception as e:  # noqa: BLE001: a bug of the script is a failed check
        return {"check": name, "ok": False, "error": "%s: %s" % (type(e).__name__, e)}


def address(text):
    host, port = text.rsplit(":", 1)
    return host, int(port)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--pub", type=address, required=True)
    parser.add_argument("--sub", type=address, required=True)
    parser.add_argument("--tls", type=address)
    parser.add_argument("--ca")
    parser.add_argument("--only", default="", help="run checks whose name contains this")
    env = parser.parse_args()
    todo = [c for c in checks(env) if env.only in c[0]]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        for result in pool.map(run, todo):
            print(json.dumps(result), flush=True)
    print(json.dumps({"checks": len(todo)}), flush=True)


if __name__ == "__main__":
    main()
