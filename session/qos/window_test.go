package qos

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestPacketIDIsFrozen(t *testing.T) {
	for seq, want := range map[uint64]uint16{
		1: 2, 2: 3, 32765: 32766, 32766: 32767, 32767: 1, 32768: 2, 65534: 1, 1<<63 + 5: 14,
	} {
		if got := PacketID(seq); got != want {
			t.Errorf("PacketID(%d) = %d, want %d", seq, got, want)
		}
	}
	seen := map[uint16]bool{}
	for seq := uint64(1000); seq < 1000+InboxIDs; seq++ {
		pid := PacketID(seq)
		if pid == 0 || pid >= FirstLocalID || seen[pid] {
			t.Fatalf("PacketID(%d) = %d: zero, not below %d or used twice", seq, pid, FirstLocalID)
		}
		seen[pid] = true
	}
}

func TestWindowRefusesBeyondReceiveMaximum_v5_MQTT_3_3_4_9(t *testing.T) {
	w := NewWindow(3)
	for seq := uint64(1); seq <= 2; seq++ {
		mustSend(t, w, seq, 1)
	}
	if _, err := w.SendLocal(2); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Send(3, 1); !errors.Is(err, ErrQuota) {
		t.Errorf("fourth Send: got %v, want ErrQuota", err)
	}
	if _, err := w.SendLocal(1); !errors.Is(err, ErrQuota) {
		t.Errorf("fourth SendLocal: got %v, want ErrQuota", err)
	}
	if w.SentTo() != 2 {
		t.Errorf("a refused Send moved SentTo to %d", w.SentTo())
	}
	if _, err := w.Puback(PacketID(1)); err != nil {
		t.Fatal(err)
	}
	mustSend(t, w, 3, 1)
}

func TestWindowQoS2HoldsItsQuotaUntilPubcomp_v5_MQTT_4_9_0_2(t *testing.T) {
	w := NewWindow(1)
	pid := mustSend(t, w, 1, 2)
	if d, err := w.Pubrec(pid, false); err != nil || d.State != Sent {
		t.Fatalf("PUBREC: got %v, %v", d, err)
	}
	if w.Free() != 0 {
		t.Error("PUBREC gave the quota back")
	}
	if d, err := w.Pubrec(pid, false); err != nil || d.State != Received {
		t.Errorf("repeated PUBREC: got %v, %v, want state received", d, err)
	}
	if d, err := w.Pubcomp(pid); err != nil || d != (Delivery{Seq: 1, QoS: 2, State: Received}) {
		t.Errorf("PUBCOMP: got %v, %v", d, err)
	}
	if w.Free() != 1 {
		t.Error("PUBCOMP did not give the quota back")
	}
}

func TestWindowFailedPubrecEndsTheDelivery_v5_MQTT_4_3_3_4(t *testing.T) {
	w := NewWindow(2)
	pid := mustSend(t, w, 1, 2)
	if _, err := w.Pubrec(pid, true); err != nil || w.Len() != 0 {
		t.Errorf("failed PUBREC: %v, %d in flight, want none", err, w.Len())
	}
	pid = mustSend(t, w, 2, 2)
	_, _ = w.Pubrec(pid, false)
	if _, err := w.Pubrec(pid, true); !errors.Is(err, ErrWrongAck) {
		t.Errorf("PUBREC that fails what was received: got %v, want ErrWrongAck", err)
	}
}

func TestWindowRefusesWrongAcks(t *testing.T) {
	w := NewWindow(10)
	one, two := mustSend(t, w, 1, 1), mustSend(t, w, 2, 2)
	local, _ := w.SendLocal(1)
	for _, c := range []struct {
		name string
		got  func() error
		want error
	}{
		{"PUBACK to nothing", func() error { _, err := w.Puback(999); return err }, ErrPacketID},
		{"PUBACK to zero", func() error { _, err := w.Puback(0); return err }, ErrPacketID},
		{"PUBACK to a local id not in use", func() error { _, err := w.Puback(local + 1); return err }, ErrPacketID},
		{"PUBREC to nothing", func() error { _, err := w.Pubrec(999, false); return err }, ErrPacketID},
		{"PUBCOMP to nothing", func() error { _, err := w.Pubcomp(999); return err }, ErrPacketID},
		{"PUBACK to QoS 2", func() error { _, err := w.Puback(two); return err }, ErrWrongAck},
		{"PUBREC to QoS 1", func() error { _, err := w.Pubrec(one, false); return err }, ErrWrongAck},
		{"PUBCOMP before PUBREC", func() error { _, err := w.Pubcomp(two); return err }, ErrWrongAck},
		{"PUBCOMP to QoS 1", func() error { _, err := w.Pubcomp(one); return err }, ErrWrongAck},
	} {
		if err := c.got(); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
	}
	if w.Len() != 3 {
		t.Errorf("refused acknowledgements changed the window: %d in flight, want 3", w.Len())
	}
}

func TestWindowNeverReusesAnIDInFlight_I17(t *testing.T) {
	w := NewWindow(0)
	stuck := mustSend(t, w, 7, 1)
	for seq := uint64(8); seq < 7+InboxIDs; seq++ {
		pid := mustSend(t, w, seq, 1)
		if _, err := w.Puback(pid); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Send(7+InboxIDs, 1); !errors.Is(err, ErrSpan) {
		t.Fatalf("Send with the packet id of the one in flight: got %v, want ErrSpan", err)
	}
	if _, err := w.Puback(stuck); err != nil {
		t.Fatal(err)
	}
	if pid := mustSend(t, w, 7+InboxIDs, 1); pid != stuck {
		t.Errorf("got packet id %d, want %d", pid, stuck)
	}
	if _, err := w.Send(7+InboxIDs, 1); !errors.Is(err, ErrOrder) {
		t.Errorf("same sequence again: got %v, want ErrOrder", err)
	}
}

func TestIDsNeverReuseAnIDInUse_I17(t *testing.T) {
	var ids IDs
	first, err := ids.Take()
	if err != nil || first != FirstLocalID {
		t.Fatalf("first id: got %d, %v", first, err)
	}
	for range LocalIDs - 1 {
		id, err := ids.Take()
		if err != nil || id < FirstLocalID || id == first {
			t.Fatalf("got %d, %v", id, err)
		}
		if !ids.Release(id) {
			t.Fatalf("Release(%d) = false", id)
		}
	}
	if id, err := ids.Take(); !errors.Is(err, ErrSpan) {
		t.Fatalf("got %d, %v, want ErrSpan", id, err)
	}
	if !ids.Release(first) || ids.Release(first) || ids.Release(5) {
		t.Error("Release must succeed once for an id in use, and for no other")
	}
	if id, err := ids.Take(); err != nil || id != first {
		t.Errorf("got %d, %v, want %d", id, err, first)
	}
}

func TestWindowResumeOccupiesTheQuota(t *testing.T) {
	w := NewWindow(2)
	for seq := uint64(1); seq <= 3; seq++ {
		if _, err := w.Resume(seq); err != nil {
			t.Fatalf("Resume(%d): %v", seq, err)
		}
	}
	if w.Free() != 0 || w.Len() != 3 {
		t.Errorf("free %d, in flight %d, want 0 and 3", w.Free(), w.Len())
	}
	for seq := uint64(1); seq <= 3; seq++ {
		if _, err := w.Pubcomp(PacketID(seq)); err != nil {
			t.Fatal(err)
		}
	}
	if w.Free() != 2 {
		t.Errorf("free %d, want 2", w.Free())
	}
}

func mustSend(t testing.TB, w *Window, seq uint64, qos byte) uint16 {
	t.Helper()
	pid, err := w.Send(seq, qos)
	if err != nil {
		t.Fatalf("Send(%d): %v", seq, err)
	}
	return pid
}

// TestWindowAgainstModel runs random operations against a map.
func TestWindowAgainstModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		limit := rapid.IntRange(1, 40).Draw(rt, "limit")
		w, model, seq := NewWindow(uint16(limit)), map[uint16]Delivery{}, uint64(0)
		admit := func(d Delivery, pid uint16, err error, needsQuota bool) {
			if full := len(model) >= limit; needsQuota && full != errors.Is(err, ErrQuota) {
				rt.Fatalf("%d of %d in flight: got %v", len(model), limit, err)
			}
			if err != nil {
				return
			}
			if other, used := model[pid]; used {
				rt.Fatalf("packet id %d of %v is given to %v", pid, other, d)
			}
			model[pid] = d
		}
		anyPID := func() uint16 {
			if len(model) > 0 && rapid.IntRange(0, 9).Draw(rt, "known") > 0 {
				pids := make([]uint16, 0, len(model))
				for pid := range model {
					pids = append(pids, pid)
				}
				slices.Sort(pids)
				return rapid.SampledFrom(pids).Draw(rt, "pid")
			}
			return rapid.Uint16().Draw(rt, "any pid")
		}
		check := func(pid uint16, d Delivery, err error, fits bool) (ok bool) {
			want, used := model[pid]
			switch {
			case !used && !errors.Is(err, ErrPacketID), used && !fits && !errors.Is(err, ErrWrongAck), used && fits && err != nil:
				rt.Fatalf("ack of %d, in flight %v (%v): got %v", pid, want, used, err)
			case err == nil && d != want:
				rt.Fatalf("ack of %d returned %v, want %v", pid, d, want)
			}
			return err == nil
		}
		rt.Repeat(map[string]func(*rapid.T){
			"send": func(*rapid.T) {
				next, q := seq+uint64(rapid.SampledFrom([]int{1, 1, 1, 2, 100, 16000}).Draw(rt, "gap")), byte(rapid.IntRange(1, 2).Draw(rt, "qos"))
				pid, err := w.Send(next, q)
				admit(Delivery{next, q, Sent}, pid, err, true)
				if err == nil {
					seq = next
				}
			},
			"resume": func(*rapid.T) {
				pid, err := w.Resume(seq + 1)
				admit(Delivery{seq + 1, 2, Received}, pid, err, false)
				if err == nil {
					seq++
				}
			},
			"local": func(*rapid.T) {
				q := byte(rapid.IntRange(1, 2).Draw(rt, "qos"))
				pid, err := w.SendLocal(q)
				admit(Delivery{0, q, Sent}, pid, err, true)
			},
			"puback": func(*rapid.T) {
				pid := anyPID()
				d, err := w.Puback(pid)
				if check(pid, d, err, model[pid].QoS == 1) {
					delete(model, pid)
				}
			},
			"pubrec": func(*rapid.T) {
				pid, failed := anyPID(), rapid.Bool().Draw(rt, "failed")
				d, err := w.Pubrec(pid, failed)
				m := model[pid]
				if check(pid, d, err, m.QoS == 2 && !(failed && m.State == Received)) {
					if m.State = Received; failed {
						delete(model, pid)
					} else {
						model[pid] = m
					}
				}
			},
			"pubcomp": func(*rapid.T) {
				pid := anyPID()
				d, err := w.Pubcomp(pid)
				if check(pid, d, err, model[pid].QoS == 2 && model[pid].State == Received) {
					delete(model, pid)
				}
			},
			"drop": func(*rapid.T) {
				pid := anyPID()
				if _, used := model[pid]; w.Drop(pid) != used {
					rt.Fatalf("Drop(%d) = %v", pid, !used)
				}
				delete(model, pid)
			},
			"": func(*rapid.T) { checkWindow(rt, w, model, limit) },
		})
	})
}

func checkWindow(rt *rapid.T, w *Window, model map[uint16]Delivery, limit int) {
	if w.Len() != len(model) || w.Free() != max(0, limit-len(model)) {
		rt.Fatalf("in flight %d, free %d of %d, want %d in flight", w.Len(), w.Free(), limit, len(model))
	}
	oldest := ^uint64(0)
	for pid, want := range model {
		if got, ok := w.Lookup(pid); !ok || got != want {
			rt.Fatalf("Lookup(%d) = %v, %v, want %v", pid, got, ok, want)
		}
		if want.Seq > 0 {
			oldest = min(oldest, want.Seq)
		}
	}
	if got, ok := w.Oldest(); ok != (oldest != ^uint64(0)) || ok && got != oldest {
		rt.Fatalf("Oldest() = %d, %v, want %d", got, ok, oldest)
	}
}

// TestReconnectCyclesNeverLeak_I18 runs one durable session over 10,000
// connections that break at random points of both flows.
func TestReconnectCyclesNeverLeak_I18(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	type entry struct {
		qos   byte
		state State
	}
	inbox, nextSeq := map[uint64]entry{}, uint64(1) // what the session holds and the client has not acknowledged
	const limit = 20
	for cycle := range 10_000 {
		w := NewWindow(limit)
		if w.Free() != limit {
			t.Fatalf("cycle %d starts with %d of %d", cycle, w.Free(), limit)
		}
		for _, seq := range sortedKeys(inbox) {
			e := inbox[seq]
			var err error
			if e.state == Received {
				_, err = w.Resume(seq)
			} else if w.Free() > 0 {
				_, err = w.Send(seq, e.qos)
			}
			if err != nil {
				t.Fatalf("cycle %d: redeliver %d: %v", cycle, seq, err)
			}
		}
		for range rng.IntN(30) {
			if w.Free() > 0 && nextSeq > w.SentTo() && rng.IntN(2) == 0 {
				q := byte(1 + rng.IntN(2))
				mustSend(t, w, nextSeq, q)
				inbox[nextSeq] = entry{q, Sent}
				nextSeq++
				continue
			}
			seqs := sortedKeys(inbox)
			if len(seqs) == 0 {
				continue
			}
			seq := seqs[rng.IntN(len(seqs))]
			pid := PacketID(seq)
			d, ok := w.Lookup(pid)
			switch {
			case !ok || d.Seq != seq: // not sent again yet on this connection
			case d.QoS == 1:
				_, _ = w.Puback(pid)
				delete(inbox, seq)
			case d.State == Sent:
				_, _ = w.Pubrec(pid, false)
				inbox[seq] = entry{2, Received}
			default:
				_, _ = w.Pubcomp(pid)
				delete(inbox, seq)
			}
			if w.Len() > limit {
				t.Fatalf("cycle %d: %d in flight, limit %d", cycle, w.Len(), limit)
			}
		}
	}
	if nextSeq < 30_000 {
		t.Errorf("only %d deliveries in 10,000 cycles: the session is mute", nextSeq)
	}
}

func sortedKeys[V any](m map[uint64]V) []uint64 {
	keys := make([]uint64, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func TestWindowBytesPerDelivery(t *testing.T) {
	w := NewWindow(0)
	for seq := uint64(1); seq <= 4096; seq++ {
		mustSend(t, w, seq, 1)
	}
	if got := len(w.inbox.ring); got != 4096 {
		t.Errorf("4,096 in flight hold %d bytes, want one each", got)
	}
	for seq := uint64(1); seq <= 4096; seq++ {
		_, _ = w.Puback(PacketID(seq))
	}
	if len(w.inbox.ring) != 0 {
		t.Error("an empty window keeps a large ring")
	}
}

func TestSteadyStateAllocatesNothing(t *testing.T) {
	w, seq, ring := NewWindow(64), uint64(0), Acks{}
	in := NewInbound(64, 64)
	step := func() {
		for range 32 {
			seq++
			_, _ = w.Send(seq, 1)
			_, _ = w.SendLocal(1)
		}
		base := seq - 31
		for i := range uint64(32) {
			_, _ = w.Puback(PacketID(base + i))
			_ = w.Drop(FirstLocalID + uint16((base+i-1)%LocalIDs))
		}
		var slots [32]Slot
		for i := range slots {
			_, _ = in.Publish(2, uint16(i+1))
			slots[i] = ring.Add(Ack{Kind: Pubrec})
		}
		for i := range slots {
			ring.Done(slots[31-i], Ack{Kind: Pubcomp, PacketID: uint16(32 - i)})
		}
		for a, ok := ring.Pop(); ok; a, ok = ring.Pop() {
			in.Acked(a)
		}
	}
	step()
	if n := testing.AllocsPerRun(100, step); n != 0 {
		t.Errorf("%v allocations per round, want 0", n)
	}
	if w.Len() != 0 || in.InFlight() != 0 || in.IDs() != 0 {
		t.Errorf("left in flight: %d out, %d in, %d ids", w.Len(), in.InFlight(), in.IDs())
	}
}

// A delivery of QoS 0 needs nothing, and lower sequences do not follow it.
func TestWindowSkip(t *testing.T) {
	w := NewWindow(1)
	if _, err := w.Send(3, 1); err != nil {
		t.Fatal(err)
	}
	w.Skip(7)
	w.Skip(5)
	if w.Len() != 1 || w.Free() != 0 || w.SentTo() != 7 {
		t.Errorf("%d in flight, %d free, sent to %d", w.Len(), w.Free(), w.SentTo())
	}
	if _, err := w.Puback(PacketID(3)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Send(6, 1); !errors.Is(err, ErrOrder) {
		t.Errorf("a lower sequence: %v", err)
	}
}
