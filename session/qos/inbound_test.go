package qos

import (
	"errors"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

func TestInboundRefusesBeyondReceiveMaximum_v5_MQTT_3_3_4_9(t *testing.T) {
	in := NewInbound(2, 10)
	mustTake(t, in, 1, 1)
	mustTake(t, in, 2, 2)
	if _, err := in.Publish(1, 3); !errors.Is(err, ErrReceiveMaximum) {
		t.Errorf("third publish: got %v, want ErrReceiveMaximum", err)
	}
	if dup, err := in.Publish(2, 2); err != nil || !dup {
		t.Errorf("repeated QoS 2 publish needs no quota: got %v, %v", dup, err)
	}
	in.Acked(Ack{Kind: Puback, PacketID: 1})
	if _, err := in.Publish(2, 3); err != nil {
		t.Errorf("after a PUBACK: %v", err)
	}
	in.Acked(Ack{Kind: Pubrec, PacketID: 2})
	if in.Free() != 0 {
		t.Error("a successful PUBREC gave quota back")
	}
	in.Acked(Ack{Kind: Pubrec, PacketID: 3, Code: 0x97})
	if in.Free() != 1 || in.Holds(3) {
		t.Error("a failed PUBREC must end its publish")
	}
	in.Acked(Ack{Kind: Pubcomp, PacketID: 2})
	in.Acked(Ack{Kind: Pubcomp, PacketID: 2})
	in.Acked(Ack{Kind: Puback, PacketID: 77})
	if in.Free() != 2 || in.InFlight() != 0 || in.IDs() != 0 {
		t.Errorf("free %d, in flight %d, ids %d, want 2, 0, 0", in.Free(), in.InFlight(), in.IDs())
	}
}

func TestInboundResumedIDsTakeNoQuota_v5_MQTT_4_9_0_1(t *testing.T) {
	in := NewInbound(2, 4)
	in.Resume([]uint16{1, 2, 3})
	if in.Free() != 2 || in.IDs() != 3 {
		t.Fatalf("free %d, ids %d, want 2, 3", in.Free(), in.IDs())
	}
	if dup, err := in.Publish(2, 1); err != nil || !dup || in.Free() != 1 {
		t.Errorf("publish repeated on a new connection: got %v, %v, free %d; want a duplicate that counts", dup, err, in.Free())
	}
	in.Resume([]uint16{1})
	in.Acked(Ack{Kind: Pubcomp, PacketID: 1})
	in.Acked(Ack{Kind: Pubcomp, PacketID: 2})
	if in.Free() != 2 || in.IDs() != 1 {
		t.Errorf("free %d, ids %d, want 2, 1", in.Free(), in.IDs())
	}
}

func TestInboundBoundsItsIDs(t *testing.T) {
	in := NewInbound(0, 2)
	in.Resume([]uint16{1, 2, 3}) // committed before: taken in whatever the bound
	if _, err := in.Publish(2, 9); !errors.Is(err, ErrTooManyIDs) {
		t.Errorf("got %v, want ErrTooManyIDs", err)
	}
	if in.InFlight() != 0 {
		t.Error("a refused publish took quota")
	}
	if dup, err := in.Publish(2, 3); err != nil || !dup {
		t.Errorf("repeat of a held id: got %v, %v", dup, err)
	}
	if _, err := in.Publish(1, 9); err != nil {
		t.Errorf("QoS 1 needs no id: %v", err)
	}
}

func mustTake(t testing.TB, in *Inbound, qos byte, pid uint16) {
	t.Helper()
	if dup, err := in.Publish(qos, pid); err != nil || dup {
		t.Fatalf("Publish(%d, %d) = %v, %v", qos, pid, dup, err)
	}
}

// TestInboundReconnectCyclesNeverLeak_I18 runs one session over 10,000
// connections. Its client counts as a client must; it must never be refused,
// and never be let beyond the maximum.
func TestInboundReconnectCyclesNeverLeak_I18(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	const limit, maxIDs = 8, 30
	held := map[uint16]bool{} // QoS 2 ids of the session
	published := 0
	for cycle := range 10_000 {
		in := NewInbound(limit, maxIDs)
		var resumed []uint16
		for pid := range held {
			resumed = append(resumed, pid)
		}
		in.Resume(resumed)
		client := 0                  // what the client has in flight, by its own count
		counted := map[uint16]bool{} // QoS 2 ids that count there
		oneInFlight := []uint16(nil) // QoS 1 ids not acknowledged
		for range rng.IntN(40) {
			switch rng.IntN(4) {
			case 0: // QoS 1 publish
				if client < limit {
					client++
					oneInFlight = append(oneInFlight, 1)
					mustTake(t, in, 1, 1)
					published++
				} else if _, err := in.Publish(1, 1); !errors.Is(err, ErrReceiveMaximum) {
					t.Fatalf("cycle %d: publish beyond the maximum: %v", cycle, err)
				}
			case 1: // QoS 2 publish, perhaps a repeat
				pid := uint16(1 + rng.IntN(maxIDs))
				if client >= limit && !counted[pid] {
					continue
				}
				dup, err := in.Publish(2, pid)
				if err != nil || dup != held[pid] {
					t.Fatalf("cycle %d: Publish(2, %d) = %v, %v, held %v", cycle, pid, dup, err, held[pid])
				}
				if !counted[pid] {
					client++
					counted[pid] = true
				}
				held[pid] = true
				in.Acked(Ack{Kind: Pubrec, PacketID: pid})
				published++
			case 2: // PUBACK
				if len(oneInFlight) > 0 {
					oneInFlight = oneInFlight[1:]
					client--
					in.Acked(Ack{Kind: Puback, PacketID: 1})
				}
			case 3: // PUBREL and PUBCOMP
				pid := uint16(1 + rng.IntN(maxIDs))
				if counted[pid] {
					client--
				}
				delete(counted, pid)
				delete(held, pid)
				in.Acked(Ack{Kind: Pubcomp, PacketID: pid})
			}
			if in.InFlight() != client || in.IDs() != len(held) {
				t.Fatalf("cycle %d: in flight %d, ids %d; the client counts %d and %d", cycle, in.InFlight(), in.IDs(), client, len(held))
			}
		}
	}
	if published < 50_000 {
		t.Errorf("only %d publishes in 10,000 cycles", published)
	}
}

func TestAckRingDrainsInOrder_MQTT_4_6_0_2(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var ring Acks
		type slot struct {
			s    Slot
			ack  Ack
			done bool
		}
		var model []slot
		rt.Repeat(map[string]func(*rapid.T){
			"add": func(*rapid.T) {
				a := Ack{Kind: AckKind(rapid.IntRange(1, 3).Draw(rt, "kind")), PacketID: rapid.Uint16().Draw(rt, "pid")}
				model = append(model, slot{s: ring.Add(a), ack: a})
			},
			"done": func(*rapid.T) {
				if len(model) == 0 {
					return
				}
				m := &model[rapid.IntRange(0, len(model)-1).Draw(rt, "at")]
				a := m.ack
				a.Code = rapid.Byte().Draw(rt, "code")
				if !m.done {
					m.ack, m.done = a, true
				}
				if got := ring.Done(m.s, a); got != model[0].done {
					rt.Fatalf("Done reports %v, the oldest is done: %v", got, model[0].done)
				}
			},
			"pop": func(*rapid.T) {
				got, ok := ring.Pop()
				if want := len(model) > 0 && model[0].done; ok != want || ok && got != model[0].ack {
					rt.Fatalf("Pop() = %v, %v, want %v", got, ok, want)
				}
				if !ok {
					return
				}
				ring.Done(model[0].s, Ack{Code: 1}) // a late one changes nothing
				model = model[1:]
			},
			"": func(*rapid.T) {
				if ring.Len() != len(model) {
					rt.Fatalf("Len() = %d, want %d", ring.Len(), len(model))
				}
				for _, m := range model {
					if got, ok := ring.Get(m.s); !ok || got != m.ack {
						rt.Fatalf("Get = %v, %v, want %v", got, ok, m.ack)
					}
				}
			},
		})
	})
}

func TestAckRingLetsGo(t *testing.T) {
	var ring AckRing[*int]
	s := ring.Add(new(int))
	ring.Done(s, new(int))
	if _, ok := ring.Pop(); !ok {
		t.Fatal("nothing to pop")
	}
	for _, p := range ring.ring {
		if p.v != nil {
			t.Error("a popped value is still referred to")
		}
	}
	if _, ok := ring.Get(s); ok {
		t.Error("Get finds a popped slot")
	}
	for range 2 * keepRing {
		ring.Done(ring.Add(nil), nil)
	}
	for range 2 * keepRing {
		ring.Pop()
	}
	if len(ring.ring) != 0 {
		t.Errorf("an empty ring keeps %d slots", len(ring.ring))
	}
}

func BenchmarkAckRing(b *testing.B) {
	var ring Acks
	b.ReportAllocs()
	for b.Loop() {
		s := ring.Add(Ack{Kind: Puback, PacketID: 1})
		ring.Done(s, Ack{Kind: Puback, PacketID: 1})
		ring.Pop()
	}
}

func BenchmarkWindow(b *testing.B) {
	w, seq := NewWindow(64), uint64(0)
	b.ReportAllocs()
	for b.Loop() {
		seq++
		pid, _ := w.Send(seq, 1)
		_, _ = w.Puback(pid)
	}
}
