package state_test

import (
	"fmt"
	"testing"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
)

// A queue is as an inbox: what is not hot lies in the store, and is handed out in
// order from there; a member that returns gets as much as it has room for.
func TestShareQueueIsCold(t *testing.T) {
	r := newShareRig(t, state.Options{HotBytes: 100_000, HotOffline: 100})
	a := r.member("a", 1, room(100))
	r.one(command.OK, disc(a, command.DisconnectNormal, 0))
	r.carry()
	const n = 20_000
	seq := 0
	for range n / 100 {
		var cmds []byte
		for range 100 {
			seq++
			cmds = append(cmds, command.AppendPublish(nil, &command.Publish{Message: msg("w/x", fmt.Sprint(seq), 1), Flags: command.ToShares})...)
		}
		r.entry(command.AppendBatch(nil, &command.BatchHeader{}, cmds))
		r.log = nil
		if r.s.DirtyBytes() > 200_000 {
			r.writeBack()
		}
	}
	r.writeBack()
	if st := r.s.Stats(); st.HotMessages > 200 || st.InboxMessages != n {
		t.Fatalf("%d of %d messages are hot", st.HotMessages, st.InboxMessages)
	}
	a = r.connect("a", room(100))
	r.carry()
	got := 0
	for cursor := uint64(0); got < n; {
		p, err := r.s.Fetch(a, cursor, 100, 1<<20)
		if err != nil || len(p.Deliveries) != 100 {
			t.Fatalf("after %d: page of %d, %v", got, len(p.Deliveries), err)
		}
		for _, d := range p.Deliveries {
			got++
			if string(d.Msg.Payload) != fmt.Sprint(got) {
				t.Fatalf("%s came as number %d", d.Msg.Payload, got)
			}
		}
		last := p.Deliveries[99].Seq
		r.one(command.OK, command.AppendAck(nil, &command.Ack{Ref: a, SentTo: last, Done: []command.Range{{From: p.Deliveries[0].Seq, To: last}}}))
		r.carry()
		r.log = nil
		cursor = p.Next
	}
	r.wantView(work + " 0/0 a:0/100")
	r.writeBack()
	if err := state.Audit(r.st); err != nil {
		t.Fatal(err)
	}
	if c := r.st.Count("I"); c != 0 {
		t.Fatalf("%d entries are left in the store", c)
	}
}

// I29: the limits of inboxes hold for a share's queue, by policy; each drop is counted.
func TestShareOverflow_I29(t *testing.T) {
	for _, policy := range []command.Overflow{command.OverflowRefuse, command.OverflowDropOldest, command.OverflowEndSession} {
		r := newShareRig(t, state.Options{HotBytes: 1, HotOffline: 1, Settings: command.ShardSettings{InboxMaxMessages: 3, InboxOverflow: policy}})
		a := r.member("a", 1, room(1))
		r.publish(1, "1", "2", "3")
		r.writeBack()
		key, refused := r.s.Refuses("", []byte("w/x"), "p")
		if refused != (policy == command.OverflowRefuse) || refused && key.ClientID != work {
			t.Fatalf("%v: refuses %v, %v", policy, key, refused)
		}
		if full := r.s.FullSessions(); len(full) != 1 || full[0].ClientID != work {
			t.Fatalf("full %v", full)
		}
		r.publish(1, "4")
		want := "1 2 3 4"
		dropped := uint64(0)
		if policy != command.OverflowRefuse {
			want, dropped = "1 3 4", 1 // 1 is with its member
		}
		got := ""
		for i := uint64(1); r.has(a) != ""; i++ {
			got += " " + string(r.fetch(a)[0].Msg.Payload)
			r.one(command.OK, ack(a, i, i))
			r.carry()
		}
		if got != " "+want || r.s.Stats().Dropped.InboxFull != dropped || r.s.Stats().FullSessions != 0 {
			t.Fatalf("%v: got%s, want %s; %+v", policy, got, want, r.s.Stats())
		}
	}
}

// I12: what waits in a share expires; what a member has does when it comes back.
func TestShareExpiry_I12(t *testing.T) {
	for _, cold := range []bool{false, true} {
		r := newShareRig(t, state.Options{HotBytes: 1, HotOffline: 1})
		a := r.member("a", 1, room(2))
		for i := range 4 {
			r.one(command.OK, command.AppendPublish(nil, &command.Publish{Message: msg("w/x", fmt.Sprint(i), 1, expiry(10)), Flags: command.ToShares}))
		}
		r.now += 4_000
		r.do()
		r.carry()
		if d := r.fetch(a)[0]; d.ExpiresAt != r.now+6_000 {
			t.Fatalf("expires at %d, now %d", d.ExpiresAt, r.now)
		}
		if cold {
			r.writeBack()
		}
		r.now += 6_000
		r.one(command.OK, tick)
		r.carry()
		r.wantView(work + " 2/2 a:2/2")
		if d := r.s.Stats().Dropped.Expired; d != 2 {
			t.Fatalf("cold %v: %d expired", cold, d)
		}
		r.one(command.OK, disc(a, command.DisconnectNormal, 1)) // the second was not sent
		r.carry()
		r.wantView(work + " 1/1 a:1/2-")
		if d := r.s.Stats().Dropped.Expired; d != 3 {
			t.Fatalf("cold %v: %d expired", cold, d)
		}
	}
}
