package integration

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// libClient is one connection of a client library written in Go, as the shared checks use it.
type libClient interface {
	// subscribe returns the granted QoS.
	subscribe(t testing.TB, filter string, qos byte) byte
	unsubscribe(t testing.TB, filter string)
	// publish waits for the end of the exchange.
	publish(t testing.TB, topic, payload string, qos byte, retain bool)
	inbox() <-chan libMessage
	sessionPresent() bool
	disconnect(t testing.TB)
	// kill breaks the connection without DISCONNECT; nothing reconnects.
	kill()
}

type libMessage struct {
	topic, payload string
	qos            byte
	retain, dup    bool
}

// libDial says how to connect.
type libDial struct {
	url     string
	id      string
	durable bool
	will    *libMessage
}

// clientLibrary is a client library with a protocol version.
type clientLibrary struct {
	// hasPresent is false for MQTT 3.1, whose CONNACK says nothing of a session.
	hasPresent bool
	open       func(t testing.TB, d libDial) libClient
}

const libWait = patience

func libReceive(t testing.TB, c libClient, n int) []libMessage {
	t.Helper()
	var list []libMessage
	late := time.After(libWait)
	for len(list) < n {
		select {
		case m := <-c.inbox():
			list = append(list, m)
		case <-late:
			t.Fatalf("%d messages of %d within %v: %v", len(list), n, libWait, list)
		}
	}
	return list
}

func libPayloads(t testing.TB, c libClient, want ...string) {
	t.Helper()
	var got []string
	for _, m := range libReceive(t, c, len(want)) {
		got = append(got, m.payload)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("payloads (-want +got):\n%s", diff)
	}
}

// libraryChecks are what every library must be able to do, all at once.
func libraryChecks(t *testing.T, s *clientSite, l clientLibrary) {
	pub, sub := "mqtt://"+s.pub.MQTTAddr(), "mqtt://"+s.sub.MQTTAddr()
	var checks []clientCheck
	run := func(name string, fn func(*testing.T)) { checks = append(checks, clientCheck{name, fn}) }
	for qos := range byte(3) {
		run(fmt.Sprintf("QoS %d", qos), func(t *testing.T) { libQoS(t, l, pub, sub, qos) })
		run(fmt.Sprintf("will QoS %d", qos), func(t *testing.T) { libWill(t, l, pub, sub, qos) })
		if qos > 0 {
			run(fmt.Sprintf("session QoS %d", qos), func(t *testing.T) { libSession(t, l, pub, sub, qos) })
		}
	}
	run("retained", func(t *testing.T) { libRetained(t, l, pub, sub) })
	run("shared", func(t *testing.T) { libShared(t, l, pub, sub) })
	run("takeover", func(t *testing.T) { libTakeover(t, l, pub, sub) })
	for scheme, pair := range map[string][2]string{
		"ws": {s.pub.MQTTAddr(), s.sub.MQTTAddr()}, "mqtts": {s.pubTLS, s.subTLS}, "wss": {s.pubTLS, s.subTLS},
	} {
		path := map[string]string{"ws": "/mqtt", "wss": "/mqtt"}[scheme]
		run(scheme, func(t *testing.T) { libQoS(t, l, scheme+"://"+pair[0]+path, scheme+"://"+pair[1]+path, 2) })
	}
	atOnce(t, checks)
}

func libQoS(t *testing.T, l clientLibrary, pub, sub string, qos byte) {
	topic := clientName(t, "q")
	s, p := l.open(t, libDial{url: sub, id: clientName(t, "s")}), l.open(t, libDial{url: pub, id: clientName(t, "p")})
	if got := s.subscribe(t, topic+"/+/x", qos); got != qos {
		t.Fatalf("granted QoS %d, want %d", got, qos)
	}
	var want []libMessage
	for i := range 20 {
		m := libMessage{topic: fmt.Sprintf("%s/%d/x", topic, i), payload: fmt.Sprint(i), qos: qos}
		want = append(want, m)
		p.publish(t, m.topic, m.payload, qos, false)
	}
	if diff := cmp.Diff(want, libReceive(t, s, len(want)), cmp.AllowUnexported(libMessage{})); diff != "" {
		t.Errorf("messages (-want +got):\n%s", diff)
	}
	s.unsubscribe(t, topic+"/+/x")
	s.subscribe(t, topic+"/fence", qos)
	p.publish(t, topic+"/1/x", "nobody", qos, false)
	p.publish(t, topic+"/fence", "fence", qos, false)
	libPayloads(t, s, "fence")
	s.disconnect(t)
	p.disconnect(t)
}

func libRetained(t *testing.T, l clientLibrary, pub, sub string) {
	topic := clientName(t, "r")
	p := l.open(t, libDial{url: pub, id: clientName(t, "p")})
	var want []libMessage
	for qos := range byte(3) {
		name := fmt.Sprintf("%s/%d", topic, qos)
		p.publish(t, name, "old", qos, true)
		p.publish(t, name, "kept", qos, true)
		want = append(want, libMessage{topic: name, payload: "kept", qos: qos, retain: true})
	}
	p.publish(t, topic+"/gone", "x", 1, true)
	p.publish(t, topic+"/gone", "", 1, true)
	late := l.open(t, libDial{url: sub, id: clientName(t, "late")})
	late.subscribe(t, topic+"/#", 2)
	got := libReceive(t, late, 3)
	slices.SortFunc(got, func(a, b libMessage) int { return int(a.qos) - int(b.qos) })
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(libMessage{})); diff != "" {
		t.Errorf("retained messages (-want +got):\n%s", diff)
	}
	p.publish(t, topic+"/0", "", 1, true)
	if m := libReceive(t, late, 1)[0]; m.retain || m.payload != "" {
		t.Errorf("live message: got %+v, want it empty and without RETAIN", m)
	}
	late.disconnect(t)
	p.disconnect(t)
}

func libWill(t *testing.T, l clientLibrary, pub, sub string, qos byte) {
	topic := clientName(t, "w")
	watcher := l.open(t, libDial{url: pub, id: clientName(t, "watch")})
	watcher.subscribe(t, topic+"/#", 2)
	l.open(t, libDial{url: sub, id: clientName(t, "pol"), will: &libMessage{topic: topic + "/polite", payload: "no", qos: qos}}).disconnect(t)
	l.open(t, libDial{url: sub, id: clientName(t, "cra"), will: &libMessage{topic: topic + "/crashed", payload: "gone", qos: qos, retain: true}}).kill()
	want := libMessage{topic: topic + "/crashed", payload: "gone", qos: qos}
	if got := libReceive(t, watcher, 1)[0]; got != want {
		t.Errorf("will: got %+v, want %+v", got, want)
	}
	late := l.open(t, libDial{url: sub, id: clientName(t, "late")})
	late.subscribe(t, topic+"/crashed", 2)
	want.retain = true
	if got := libReceive(t, late, 1)[0]; got != want {
		t.Errorf("retained will: got %+v, want %+v", got, want)
	}
	late.publish(t, topic+"/crashed", "", 1, true)
	libPayloads(t, watcher, "")
	late.disconnect(t)
	watcher.disconnect(t)
}

func libSession(t *testing.T, l clientLibrary, pub, sub string, qos byte) {
	topic, id := clientName(t, "s"), clientName(t, "sess")
	first := l.open(t, libDial{url: sub, id: id, durable: true})
	if first.sessionPresent() {
		t.Error("session present at first")
	}
	first.subscribe(t, topic, qos)
	first.disconnect(t)
	p := l.open(t, libDial{url: pub, id: clientName(t, "p")})
	var want []string
	for i := range 20 {
		p.publish(t, topic, fmt.Sprint(i), qos, false)
		want = append(want, fmt.Sprint(i))
	}
	again := l.open(t, libDial{url: pub, id: id, durable: true}) // on the other node
	if l.hasPresent && !again.sessionPresent() {
		t.Error("no session present")
	}
	libPayloads(t, again, want...)
	again.kill()
	p.publish(t, topic, "after the crash", qos, false)
	third := l.open(t, libDial{url: sub, id: id, durable: true})
	m := libReceive(t, third, 1)[0]
	for m.dup && m.payload != "after the crash" { // an acknowledgement was lost with the connection
		m = libReceive(t, third, 1)[0]
	}
	if m.payload != "after the crash" || m.qos != qos {
		t.Errorf("after the crash: %+v", m)
	}
	third.disconnect(t)
	fresh := l.open(t, libDial{url: sub, id: id})
	if fresh.sessionPresent() {
		t.Error("session present after a clean start")
	}
	p.publish(t, topic, "nobody", qos, false)
	fresh.subscribe(t, topic+"/fence", qos)
	p.publish(t, topic+"/fence", "fence", qos, false)
	libPayloads(t, fresh, "fence")
	fresh.disconnect(t)
	p.disconnect(t)
}

// libShared has a member on each node: every message comes to one of them.
func libShared(t *testing.T, l clientLibrary, pub, sub string) {
	topic := clientName(t, "s")
	a, b := l.open(t, libDial{url: pub, id: clientName(t, "a")}), l.open(t, libDial{url: sub, id: clientName(t, "b")})
	p := l.open(t, libDial{url: pub, id: clientName(t, "p")})
	for _, c := range []libClient{a, b} {
		if got := c.subscribe(t, "$share/group/"+topic, 2); got != 2 {
			t.Fatalf("granted QoS %d, want 2", got)
		}
	}
	const n = 30
	for i := range n {
		p.publish(t, topic, fmt.Sprint(i), byte(i%2)+1, false)
	}
	count, late := map[string]int{}, time.After(libWait)
	for total := 0; total < n; total++ {
		select {
		case m := <-a.inbox():
			count[m.payload]++
		case m := <-b.inbox():
			count[m.payload]++
		case <-late:
			t.Fatalf("%d messages of %d within %v", total, n, libWait)
		}
	}
	if len(count) != n {
		t.Errorf("%d different messages of %d: %v", len(count), n, count)
	}
	for _, c := range []libClient{a, b, p} {
		c.disconnect(t)
	}
}

func libTakeover(t *testing.T, l clientLibrary, pub, sub string) {
	topic, id := clientName(t, "t"), clientName(t, "take")
	old := l.open(t, libDial{url: pub, id: id, durable: true, will: &libMessage{topic: topic, payload: "will of the old one", qos: 1}})
	old.subscribe(t, topic, 1)
	fresh := l.open(t, libDial{url: sub, id: id})
	fresh.subscribe(t, topic, 1)
	fresh.publish(t, topic, "mine", 1, false)
	if m := libReceive(t, fresh, 1)[0]; m.payload == "will of the old one" { // a takeover without DISCONNECT fires it
		m = libReceive(t, fresh, 1)[0]
		if m.payload != "mine" {
			t.Errorf("the new connection got %+v", m)
		}
	}
	old.kill()
	fresh.disconnect(t)
}
