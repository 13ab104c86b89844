package tap

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/flotilla-mqtt/flotilla/integration/checker"
)

// packet builds a packet from its first byte and parts.
func packet(header byte, parts ...any) []byte {
	var body []byte
	for _, p := range parts {
		switch p := p.(type) {
		case int:
			body = append(body, byte(p))
		case uint16:
			body = append(body, byte(p>>8), byte(p))
		case string:
			body = append(body, byte(len(p)>>8), byte(len(p)))
			body = append(body, p...)
		case []byte:
			body = append(body, p...)
		}
	}
	out := []byte{header}
	n := len(body)
	for n >= 0x80 {
		out = append(out, byte(n)|0x80)
		n >>= 7
	}
	return append(append(out, byte(n)), body...)
}

// session plays a connection: every chunk is split into single bytes.
type session struct {
	t      *testing.T
	conn   *Conn
	server net.Conn
}

func open(t *testing.T, c *Client) *session {
	a, b := net.Pipe()
	s := &session{t, c.Wrap(a, "n1"), b}
	t.Cleanup(func() { _ = s.conn.Close(); _ = b.Close() })
	return s
}

func (s *session) client(b []byte) {
	s.t.Helper()
	go func() {
		for i := range b {
			_, _ = s.conn.Write(b[i : i+1])
		}
	}()
	if _, err := io.ReadFull(s.server, make([]byte, len(b))); err != nil {
		s.t.Fatal(err)
	}
}

func (s *session) fromServer(b []byte) {
	s.t.Helper()
	_ = s.conn.SetReadDeadline(time.Now().Add(time.Minute))
	go func() { _, _ = s.server.Write(b) }()
	for range b {
		if _, err := io.ReadFull(s.conn, make([]byte, 1)); err != nil {
			s.t.Fatal(err)
		}
	}
}

func payload(publisher, topic string, seq uint64) []byte {
	return checker.AppendPayload(nil, checker.ID{Run: "r", Publisher: publisher, Topic: topic, Seq: seq}, 200)
}

func events(t *testing.T, rec *checker.Recorder, want []checker.Event) {
	t.Helper()
	got := rec.Events()
	for i := range got {
		if got[i].T == 0 || got[i].End != 0 && got[i].End < got[i].T {
			t.Errorf("event %d has times %d to %d", i, got[i].T, got[i].End)
		}
		got[i].End = min(got[i].End, 1)
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(checker.Event{}, "T")); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestVersion311(t *testing.T) {
	rec := checker.NewRecorder()
	c := New(rec, "r", "x")
	s := open(t, c)
	s.client(packet(0x10, "MQTT", 4, 0, uint16(30), "x"))
	s.fromServer(packet(0x20, 0, 0))
	if !c.Connected() {
		t.Error("not connected after CONNACK")
	}
	s.client(packet(0x82, uint16(7), "a/#", 1, "b", 2))
	s.fromServer(packet(0x90, uint16(7), 1, 0x80))
	s.client(packet(0x32, "a/b", uint16(9), payload("x", "a/b", 1)))
	s.client(packet(0x3A, "a/b", uint16(9), payload("x", "a/b", 1))) // again, with DUP
	s.fromServer(packet(0x40, uint16(9)))
	s.fromServer(packet(0x40, uint16(9)))                            // the answer to the second copy
	s.client(packet(0x3A, "a/b", uint16(9), payload("x", "a/b", 1))) // it had not seen the answer
	s.client(packet(0x34, "a/b", uint16(10), payload("x", "a/b", 2)))
	s.fromServer(packet(0x50, uint16(10)))
	s.client(packet(0x3C, "a/b", uint16(10), payload("x", "a/b", 2)))
	s.client(packet(0x62, uint16(10)))
	s.fromServer(packet(0x70, uint16(10)))
	s.client(packet(0x3C, "a/b", uint16(10), payload("x", "a/b", 2))) // a fault of the client
	s.client(packet(0x30, "a/b", payload("x", "a/b", 3)))
	s.fromServer(packet(0x3B, "a/b", uint16(1), payload("p", "a/b", 4)))
	s.client(packet(0x40, uint16(1)))
	s.client(packet(0x40, uint16(2))) // nothing was delivered under it
	s.client(packet(0x34, "a/b", uint16(11), payload("x", "a/b", 5)))
	s.client(packet(0xA2, uint16(8), "a/#"))
	s.fromServer(packet(0xB0, uint16(8)))
	s.client(packet(0xE0))
	_ = s.conn.Close()
	c.Finish()
	if c.Connected() || c.Deliveries() != 1 || c.Acked() != 2 || c.Unanswered() != 0 || c.LastDelivery() == 0 {
		t.Errorf("counters: connected %v, deliveries %d, acked %d, unanswered %d", c.Connected(), c.Deliveries(), c.Acked(), c.Unanswered())
	}
	base := checker.Event{Client: "x", Conn: 1}
	with := func(k checker.Kind, edit func(*checker.Event)) checker.Event {
		e := base
		e.Kind, e.End = k, 1
		edit(&e)
		return e
	}
	events(t, rec, []checker.Event{
		with(checker.Connect, func(e *checker.Event) { e.Node, e.Expiry = "n1", checker.Never }),
		with(checker.Subscribe, func(e *checker.Event) { e.Node, e.Topic, e.QoS, e.Code = "n1", "a/#", 1, 1 }),
		with(checker.Subscribe, func(e *checker.Event) { e.Node, e.Topic, e.QoS, e.Code = "n1", "b", 2, 0x80 }),
		with(checker.Resent, func(e *checker.Event) { e.End, e.Topic, e.Seq, e.PacketID, e.Dup = 0, "a/b", 1, 9, true }),
		with(checker.Publish, func(e *checker.Event) { e.Topic, e.Seq, e.QoS = "a/b", 1, 1 }),
		with(checker.Resent, func(e *checker.Event) { e.End, e.Topic, e.Seq, e.PacketID, e.Dup = 0, "a/b", 1, 9, true }),
		with(checker.Publish, func(e *checker.Event) { e.Topic, e.Seq, e.QoS = "a/b", 2, 2 }),
		with(checker.Resent, func(e *checker.Event) { e.End, e.Topic, e.Seq, e.PacketID, e.Dup = 0, "a/b", 2, 10, true }),
		with(checker.Resent, func(e *checker.Event) {
			e.End, e.Topic, e.Seq, e.PacketID, e.Dup, e.Err = 0, "a/b", 2, 10, true, "PUBLISH after its PUBREL"
		}),
		with(checker.Publish, func(e *checker.Event) { e.Topic, e.Seq = "a/b", 3 }),
		with(checker.Deliver, func(e *checker.Event) {
			e.End, e.Topic, e.Publisher, e.Seq, e.QoS, e.PacketID, e.Dup, e.Retain = 0, "a/b", "p", 4, 1, 1, true, true
		}),
		with(checker.Acked, func(e *checker.Event) { e.End, e.Topic, e.Publisher, e.Seq, e.PacketID = 0, "a/b", "p", 4, 1 }),
		with(checker.Unsubscribe, func(e *checker.Event) { e.Node, e.Topic = "n1", "a/#" }),
		with(checker.Closed, func(e *checker.Event) { e.Node, e.End = "n1", 0 }),
		with(checker.Publish, func(e *checker.Event) { e.End, e.Topic, e.Seq, e.QoS = 0, "a/b", 5, 2 }),
	})
}

func TestVersion5(t *testing.T) {
	rec := checker.NewRecorder()
	c := New(rec, "r", "x")
	s := open(t, c)
	s.client(packet(0x10, "MQTT", 5, 2, uint16(30), 5, 0x11, []byte{0, 0, 1, 0}, "x"))
	s.fromServer(packet(0x20, 1, 0, 0))
	s.client(packet(0x32, "a/b", uint16(9), 3, 0x23, uint16(5), payload("x", "a/b", 1)))
	s.client(packet(0x32, "", uint16(10), 3, 0x23, uint16(5), payload("x", "a/b", 2)))
	s.fromServer(packet(0x40, uint16(9), 0x97, 0))
	s.fromServer(packet(0x40, uint16(10), 0x10, 0))
	s.fromServer(packet(0x32, "a/b", uint16(1), 0, payload("p", "a/b", 4)))
	s.fromServer(packet(0x32, "a/b", uint16(2), 0, []byte("other bytes")))
	s.fromServer(packet(0x32, "a/c", uint16(3), 0, payload("p", "a/b", 4)))
	s.fromServer(packet(0xE0, 0x8E, 0))
	_ = s.server.Close()
	_, _ = s.conn.Read(make([]byte, 1))

	second := open(t, c)
	second.client(packet(0x10, "MQTT", 5, 0, uint16(30), 0, "x"))
	second.fromServer(packet(0x20, 0, 0x88, 0))
	_ = second.conn.Close()
	third := open(t, c)
	third.client(packet(0x10, "MQTT", 5, 0, uint16(30), 0, "x"))
	_ = third.conn.Close()

	none := "811c9dc5"
	events(t, rec, []checker.Event{
		{Kind: checker.Connect, End: 1, Client: "x", Conn: 1, Node: "n1", Clean: true, Expiry: 256, Present: true},
		{Kind: checker.Publish, End: 1, Client: "x", Conn: 1, Topic: "a/b", Seq: 1, QoS: 1, Code: 0x97, Props: none},
		{Kind: checker.Publish, End: 1, Client: "x", Conn: 1, Topic: "a/b", Seq: 2, QoS: 1, Code: 0x10, Props: none},
		{Kind: checker.Deliver, Client: "x", Conn: 1, Topic: "a/b", Publisher: "p", Seq: 4, QoS: 1, PacketID: 1, Props: none},
		{Kind: checker.Deliver, Client: "x", Conn: 1, Topic: "a/b", QoS: 1, PacketID: 2, Props: none, Err: `payload of 11 bytes is not one of ours: "other bytes"`},
		{Kind: checker.Deliver, Client: "x", Conn: 1, Topic: "a/c", Publisher: "p", Seq: 4, QoS: 1, PacketID: 3, Props: none, Err: "payload for topic a/b"},
		{Kind: checker.Closed, Client: "x", Conn: 1, Node: "n1", Err: "server disconnected with 0x8e"},
		{Kind: checker.Connect, End: 1, Client: "x", Conn: 2, Node: "n1", Code: 0x88, Err: "refused with 0x88"},
		{Kind: checker.Connect, Client: "x", Conn: 3, Node: "n1", Err: "no CONNACK"},
	})
}

func TestPropertiesAreHashedWithoutWhatMayChange(t *testing.T) {
	rec := checker.NewRecorder()
	s := open(t, New(rec, "r", "x"))
	s.client(packet(0x10, "MQTT", 5, 2, uint16(30), 0, "x"))
	s.fromServer(packet(0x20, 0, 0, 0))
	user := packet(0, 0x26, "k", "v")[2:]
	plain := append([]byte{byte(len(user))}, user...)
	changed := append([]byte{byte(len(user) + 7)}, 0x02, 0, 0, 0, 9, 0x0B, 3)
	changed = append(changed, user...)
	other := append([]byte{byte(len(user))}, packet(0, 0x26, "k", "w")[2:]...)
	for i, props := range [][]byte{plain, changed, other} {
		s.fromServer(packet(0x32, "a/b", uint16(i+1), props, payload("p", "a/b", uint64(i+1))))
	}
	got := rec.Events()
	if len(got) != 4 {
		t.Fatalf("%d events: %+v", len(got), got)
	}
	if got[1].Props != got[2].Props || got[1].Props == got[3].Props || got[1].Err+got[2].Err != "" {
		t.Errorf("property digests: %+v", got[1:])
	}
}

func TestGarbageIsReported(t *testing.T) {
	rec := checker.NewRecorder()
	s := open(t, New(rec, "r", "x"))
	s.fromServer([]byte{0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF})
	if got := rec.Events(); len(got) == 0 || got[0].Kind != checker.Deliver || got[0].Err == "" {
		t.Errorf("events: %+v", got)
	}
}
