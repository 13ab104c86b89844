package session

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"pgregory.net/rapid"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/session/qos"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// What goes in comes out, in order, whatever is taken, referenced or sealed.
func TestOutboxKeepsOrder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		pool := newChunkPool()
		o := outbox{pool: pool}
		var want, got []byte
		write := func() {
			b := o.take()
			if b.one != nil {
				got = append(got, b.one.b...)
			}
			for _, s := range b.segs {
				got = append(got, s...)
			}
			b.release(pool)
			o.written()
		}
		for i := range rapid.IntRange(1, 60).Draw(rt, "n") {
			size := rapid.SampledFrom([]int{1, 10, 500, 3000, 9000, 20000}).Draw(rt, "size")
			p := bytes.Repeat([]byte{byte(i)}, size)
			want = append(want, p...)
			if rapid.Bool().Draw(rt, "ref") {
				o.ref(p)
			} else {
				o.commit(append(o.grow(size), p...))
			}
			if o.bytes != len(want)-len(got) {
				rt.Fatalf("counts %d, holds %d", o.bytes, len(want)-len(got))
			}
			if rapid.Bool().Draw(rt, "write") {
				write()
			}
		}
		if o.pending() {
			write()
		}
		if !bytes.Equal(want, got) || o.bytes != 0 || o.pending() {
			rt.Fatalf("wrote %d bytes, want %d; %d left", len(got), len(want), o.bytes)
		}
	})
}

func TestOutboxDiscardKeepsWhatIsTaken(t *testing.T) {
	o := outbox{pool: newChunkPool()}
	o.commit(append(o.grow(3), "abc"...))
	b := o.take()
	o.commit(append(o.grow(3), "def"...))
	o.ref(make([]byte, 5000))
	o.discard()
	if o.pending() || o.bytes != 3 || string(b.one.b) != "abc" {
		t.Errorf("%v %d %q", o.pending(), o.bytes, b.one.b)
	}
	o.written()
	if o.bytes != 0 {
		t.Errorf("%d bytes", o.bytes)
	}
}

// Every event is limited by itself, and what was left out is told.
func TestEventsAreThrottled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zapcore.InfoLevel)
		e := newEvents(zap.New(core))
		for range 50 {
			e.log(zap.InfoLevel, evConnected, "x")
			e.log(zap.DebugLevel, evResumed, "not enabled")
		}
		e.log(zap.InfoLevel, evDisconnected, "y")
		if n := logs.Len(); n != eventsPerSecond+1 {
			t.Errorf("%d lines", n)
		}
		time.Sleep(time.Second)
		e.log(zap.InfoLevel, evConnected, "x")
		last := logs.All()[logs.Len()-1].ContextMap()
		if last["suppressed"] != int64(50-eventsPerSecond) || last["event"] != "client.connected" {
			t.Errorf("%v", last)
		}
	})
}

// Each kind of close has a label of its own and a code that DISCONNECT may carry.
func TestCloseKinds(t *testing.T) {
	seen := map[string]bool{}
	for k := closeClient; k <= closePanic; k++ {
		if seen[k.String()] || k.String() == "open" {
			t.Errorf("kind %d has the label %q", k, k)
		}
		seen[k.String()] = true
		if code := k.code(); code.Failed() && !code.ValidIn(mqtt.TypeDisconnect) {
			t.Errorf("%s: %s is not a code of DISCONNECT", k, code)
		}
		c := cause{kind: k}
		if r := c.reason(); r < command.DisconnectNormal || r > command.DisconnectKicked {
			t.Errorf("%s: reason %d", k, r)
		}
	}
	// Only a DISCONNECT 0x00 of the client discards the will.
	for k := closeClient; k <= closePanic; k++ {
		c := cause{kind: k}
		if normal := c.reason() == command.DisconnectNormal; normal != (k == closeClient) {
			t.Errorf("%s discards the will", k)
		}
	}
}

func TestErrorToCodeTables(t *testing.T) {
	for _, tc := range []struct {
		err  error
		code mqtt.ReasonCode
	}{
		{ErrUnavailable, mqtt.ServerUnavailable}, {ErrStale, mqtt.ServerUnavailable}, {errors.New("?"), mqtt.ServerUnavailable},
		{ErrBadCredentials, mqtt.BadUserNameOrPassword}, {fmt.Errorf("x: %w", ErrNotAuthorized), mqtt.NotAuthorized},
		{ErrRefused(mqtt.Banned, ""), mqtt.Banned}, {ErrRefused(mqtt.Success, ""), mqtt.UnspecifiedError},
		{authError(errors.New("broken hook")), mqtt.NotAuthorized},
	} {
		if got := connectCode(tc.err); got != tc.code {
			t.Errorf("CONNACK for %v is %s, want %s", tc.err, got, tc.code)
		}
	}
	for _, tc := range []struct {
		o    Outcome
		code mqtt.ReasonCode
		ok   bool
	}{
		{Outcome{}, mqtt.Success, true}, {Outcome{Code: mqtt.NoMatchingSubscribers}, mqtt.NoMatchingSubscribers, true},
		{Outcome{Code: mqtt.QuotaExceeded}, mqtt.QuotaExceeded, true}, {Outcome{Err: ErrRefused(mqtt.QuotaExceeded, "")}, mqtt.QuotaExceeded, true},
		{Outcome{Err: ErrUnavailable}, 0, false}, {Outcome{Err: ErrRefused(mqtt.Success, "")}, 0, false},
		{Outcome{Code: mqtt.KeepAliveTimeout}, mqtt.ImplementationSpecificError, true}, {Outcome{Code: mqtt.GrantedQoS1}, mqtt.Success, true},
	} {
		got, err := publishCode(tc.o, mqtt.TypePuback)
		if got != tc.code || (err == nil) != tc.ok {
			t.Errorf("PUBACK for %+v is %s, %v", tc.o, got, err)
		}
	}
	for err, code := range map[error]mqtt.ReasonCode{
		qos.ErrReceiveMaximum: mqtt.ReceiveMaximumExceeded, qos.ErrTooManyIDs: mqtt.QuotaExceeded, qos.ErrAliasInvalid: mqtt.TopicAliasInvalid,
		qos.ErrAliasUnknown: mqtt.ProtocolError, qos.ErrWrongAck: mqtt.ProtocolError,
	} {
		if c := causeOfInput(err); c.code != code || c.kind != closeProtocol {
			t.Errorf("%v: %+v", err, c)
		}
	}
	if c := causeOfError(fmt.Errorf("x: %w", ErrStale), ""); c.kind != closeTakeover {
		t.Errorf("%+v", c)
	}
}

func TestConfigValidate(t *testing.T) {
	good := DefaultConfig()
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Config){
		"timeout": func(c *Config) { c.ConnectTimeout = 0 }, "qos": func(c *Config) { c.MaxQoS = 3 },
		"packet": func(c *Config) { c.MaxPacketSize = 10 }, "keepalive": func(c *Config) { c.MaxKeepAlive = 24 * time.Hour },
		"expiry": func(c *Config) { c.MaxSessionExpiry = -1 }, "connections": func(c *Config) { c.MaxConnections = -1 },
		"receive maximum": func(c *Config) { c.ReceiveMaximum = 0 }, "outbox": func(c *Config) { c.OutboxBytes = 0 },
	} {
		c := DefaultConfig()
		change(&c)
		if err := c.Validate(); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The wheel asks a connection when it may be late, however far that is, and
// forgets it when told.
func TestWheelTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewServer(DefaultConfig(), Backend{}, nil, nil)
		var conns []*Conn
		for i := range 400 { // 1 s to 400 s: more than one turn
			a, b := net.Pipe()
			defer func() { _ = a.Close() }()
			c := &Conn{srv: s, nc: b, keepAlive: time.Duration(i+1) * time.Second, out: outbox{pool: s.chunks}, cancel: func() {}}
			c.waitingSince.Store(1)
			conns = append(conns, c)
			s.wheel.add(c, int64(c.keepAlive*3/2))
			s.wheel.add(c, 0) // already there
		}
		s.wheel.remove(conns[99])
		s.wheel.remove(conns[99])
		for i := range 2 * 400 {
			time.Sleep(time.Second)
			now := time.Duration(i+1) * time.Second
			for k, c := range conns {
				late := now - c.keepAlive*3/2
				if k != 99 && late > wheelTick && !c.closing.Load() || late < 0 && c.closing.Load() {
					t.Fatalf("after %v: keep-alive %v, closing %v", now, c.keepAlive, c.closing.Load())
				}
			}
		}
		synctest.Wait()
		if conns[99].closing.Load() || s.wheel.count != 0 || s.wheel.running {
			t.Errorf("%v, %d left, running %v", conns[99].closing.Load(), s.wheel.count, s.wheel.running)
		}
	})
}

func TestRemaining(t *testing.T) {
	for _, tc := range []struct {
		expiry uint32
		waited time.Duration
		left   uint32
		ok     bool
	}{
		{10, 0, 10, true}, {10, 500 * time.Millisecond, 10, true}, {10, 501 * time.Millisecond, 9, true}, {10, time.Second, 9, true}, {10, 9999 * time.Millisecond, 1, true},
		{10, 10 * time.Second, 0, false}, {0, 0, 0, false}, {10, -time.Hour, 10, true},
	} {
		if left, ok := remaining(tc.expiry, tc.waited); left != tc.left || ok != tc.ok {
			t.Errorf("%d s after %v: %d %v, want %d %v", tc.expiry, tc.waited, left, ok, tc.left, tc.ok)
		}
	}
}

// A completion that is called twice, against the contract, harms nobody.
func TestCompletionCalledTwice(t *testing.T) {
	s := NewServer(DefaultConfig(), Backend{}, nil, nil)
	c := &Conn{srv: s, version: mqtt.V311, out: outbox{pool: s.chunks}, held: true, in: qos.NewInbound(10, 10)}
	done := s.completion(c, c.acks.Add(owed{Ack: qos.Ack{Kind: qos.Puback, PacketID: 1}}), owed{Ack: qos.Ack{Kind: qos.Puback, PacketID: 1}})
	done(Outcome{})
	done(Outcome{Err: ErrUnavailable})
	if c.cause.kind != 0 || c.out.bytes != 4 {
		t.Errorf("%+v, %d bytes", c.cause, c.out.bytes)
	}
}
