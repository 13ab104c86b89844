package state_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
)

// Readers run beside apply, write-back, eviction and reload. What they see is in
// order, never acknowledged, never torn (I4 I8; run with -race).
func TestReadersBesideApply_I4_I8(t *testing.T) {
	r := newRig(t, state.Options{HotBytes: 1, HotOffline: 2})
	const clients = 4
	var refs [clients]command.SessionRef
	var acked [clients]atomic.Uint64
	for i := range refs {
		refs[i] = r.connect(fmt.Sprint("c", i))
		r.one(command.OK, sub(refs[i], filters(2, "x/#")...))
	}
	var done atomic.Bool
	var wg sync.WaitGroup
	fail := make(chan error, clients+1)
	for i := range refs {
		wg.Go(func() {
			for !done.Load() {
				if err := readInbox(r.s, refs[i], &acked[i]); err != nil {
					fail <- err
					return
				}
			}
		})
	}
	wg.Go(func() {
		for !done.Load() {
			if _, err := r.s.Retained(state.RetainedQuery{Filter: "#", Limit: 5}); err != nil {
				fail <- err
				return
			}
			r.s.Digest()
			r.s.Stats()
			r.s.Routes()
			r.s.Sessions(command.SessionKey{}, 10)
			r.s.Origins(0, 10)
			r.s.Refuses("", []byte("x/1"), "p")
			r.s.NextDue()
			r.s.DirtyBytes()
		}
	})
	for n := range uint64(400) {
		var cmds [][]byte
		for k := range 5 {
			cmds = append(cmds, pub(fmt.Sprintf("x/%d", k), fmt.Sprint("p", n*5+uint64(k)+1), 2, retain))
		}
		r.do(cmds...)
		if n%3 == 0 && n > 20 {
			for i := range refs {
				upTo := (n - 20) * 5
				r.one(command.OK, command.AppendAck(nil, &command.Ack{Ref: refs[i], SentTo: upTo, Done: []command.Range{{From: 1, To: upTo}}}))
				acked[i].Store(upTo)
			}
		}
		if n%7 == 0 {
			r.writeBack()
		}
		if n%50 == 49 {
			// A reload goes back in time unless everything is written back.
			r.writeBack()
			if err := r.s.Load(r.st); err != nil {
				t.Fatal(err)
			}
		}
	}
	done.Store(true)
	wg.Wait()
	close(fail)
	for err := range fail {
		t.Error(err)
	}
}

// readInbox reads an inbox once and checks it against what is known.
func readInbox(s *state.Shard, ref command.SessionRef, acked *atomic.Uint64) error {
	cursor, last := uint64(0), acked.Load()
	for {
		p, err := s.Fetch(ref, cursor, 7, 1<<20)
		if err != nil {
			return err
		}
		for _, d := range p.Deliveries {
			if d.Seq <= last {
				return fmt.Errorf("sequence %d after %d", d.Seq, last)
			}
			last = d.Seq
			if want := fmt.Sprint("p", d.Seq); string(d.Msg.Payload) != want || d.QoS != 2 {
				return fmt.Errorf("sequence %d has payload %q", d.Seq, d.Msg.Payload)
			}
		}
		if !p.More {
			return nil
		}
		if p.Next <= cursor {
			return fmt.Errorf("cursor stays at %d", cursor)
		}
		cursor = p.Next
	}
}
