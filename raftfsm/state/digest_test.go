package state_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
)

// population is a log that puts something into every kind of record.
func population(edit func(i int, cmd []byte) []byte) []func(*rig) {
	ref := func(client string, epoch uint64) command.SessionRef {
		return command.SessionRef{SessionKey: key(client), Epoch: epoch}
	}
	a, b := ref("a", 1), ref("b", 2)
	cmds := [][]byte{
		conn("a", withWill(30)), conn("b", at("n2", 3)), conn("c", transient),
		sub(a, command.Subscription{Filter: "x/#", QoS: 2, ID: 5}), sub(b, filters(1, "x/+")...),
		pub("x/1", "p1", 2), pub("x/2", "p2", 1, expiry(500)), pub("x/3", "p3", 1, retain), pub("x/4", "p4", 2),
		recv(a, 3, 1), ack(b, 2, 1),
		command.AppendReceive(nil, &command.Receive{Ref: a, PacketID: 4, Message: msg("y", "in1", 2)}),
		command.AppendReceive(nil, &command.Receive{Ref: a, PacketID: 5, Message: msg("y", "in2", 2)}),
		command.AppendRelease(nil, &command.Release{Ref: a, PacketID: 4}),
		command.AppendPublish(nil, &command.Publish{Message: msg("x/o", "o", 1), Flags: command.ToInboxes, Origin: command.OriginKey{Shard: 2, Seq: 8, Low: 3}}),
		command.AppendConfigure(nil, &command.Configure{Settings: command.ShardSettings{InboxMaxMessages: 1000}}),
		disc(b, command.DisconnectLost, 3),
	}
	var steps []func(*rig)
	for i, c := range cmds {
		if edit != nil {
			c = edit(i, c)
		}
		steps = append(steps, func(r *rig) { r.do(c) })
	}
	return append(steps, func(r *rig) { r.entry(batch("n1", 1, 1, 0, pub("nobody", "p", 1))) })
}

func (r *rig) digest() [16]byte {
	_, d := r.s.Digest()
	return d
}

// I20: the digest changes when any logical record changes: for each variation of
// one command the result differs from all others.
func TestDigestCoversEverything_I20(t *testing.T) {
	a, b := command.SessionRef{SessionKey: key("a"), Epoch: 1}, command.SessionRef{SessionKey: key("b"), Epoch: 2}
	variations := map[string]struct {
		at  int
		cmd []byte
	}{
		"as it is":        {-1, nil},
		"will delay":      {0, conn("a", withWill(31))},
		"no will":         {0, conn("a")},
		"expiry":          {0, conn("a", withWill(30), func(c *command.Connect) { c.ExpiryS = 3601 })},
		"receive maximum": {0, conn("a", withWill(30), func(c *command.Connect) { c.ReceiveMax = 11 })},
		"user name":       {0, conn("a", withWill(30), func(c *command.Connect) { c.Username = "u" })},
		"token":           {0, conn("a", withWill(30), func(c *command.Connect) { c.Token = 1 })},
		"version":         {0, conn("a", withWill(30), func(c *command.Connect) { c.Version = 4 })},
		"connected at":    {0, conn("a", withWill(30), func(c *command.Connect) { c.ConnectedAt = 4 })},
		"owner":           {0, conn("a", withWill(30), at("n3", 1))},
		"incarnation":     {2, conn("c", at("n1", 2), transient)},
		"transient":       {2, conn("c", at("n2", 1), transient)},
		"filter":          {3, sub(a, command.Subscription{Filter: "x/+/#", QoS: 2, ID: 5})},
		"granted QoS":     {3, sub(a, command.Subscription{Filter: "x/#", QoS: 1, ID: 5})},
		"identifier":      {3, sub(a, command.Subscription{Filter: "x/#", QoS: 2, ID: 6})},
		"no local":        {3, sub(a, command.Subscription{Filter: "x/#", QoS: 2, ID: 5, NoLocal: true})},
		"as published":    {3, sub(a, command.Subscription{Filter: "x/#", QoS: 2, ID: 5, RetainAsPublished: true})},
		"handling":        {3, sub(a, command.Subscription{Filter: "x/#", QoS: 2, ID: 5, RetainHandling: 1})},
		"queued payload":  {8, pub("x/4", "p!", 2)},
		"topic":           {8, pub("x/5", "p4", 2)},
		"QoS":             {8, pub("x/4", "p4", 1)},
		"publisher":       {8, pub("x/4", "p4", 2, func(m *command.Message) { m.Publisher = "q" })},
		"message expiry":  {6, pub("x/2", "p2", 1, expiry(501))},
		"retained":        {7, pub("x/3", "p3'", 1, retain)},
		"not retained":    {7, pub("x/3", "p3", 1)},
		"received":        {9, recv(a, 3, 1, 4)},
		"sent to":         {9, recv(a, 4, 1)},
		"done":            {10, ack(b, 2, 2)},
		"packet id":       {12, command.AppendReceive(nil, &command.Receive{Ref: a, PacketID: 6, Message: msg("y", "in2", 2)})},
		"inbound":         {12, command.AppendReceive(nil, &command.Receive{Ref: a, PacketID: 5, Message: msg("y", "in3", 2)})},
		"originated":      {11, command.AppendReceive(nil, &command.Receive{Ref: a, PacketID: 4, Message: msg("y", "in3", 2)})},
		"released other":  {13, command.AppendRelease(nil, &command.Release{Ref: a, PacketID: 5})},
		"origin seq":      {14, command.AppendPublish(nil, &command.Publish{Message: msg("x/o", "o", 1), Flags: command.ToInboxes, Origin: command.OriginKey{Shard: 2, Seq: 9, Low: 3}})},
		"origin low":      {14, command.AppendPublish(nil, &command.Publish{Message: msg("x/o", "o", 1), Flags: command.ToInboxes, Origin: command.OriginKey{Shard: 2, Seq: 8, Low: 4}})},
		"origin shard":    {14, command.AppendPublish(nil, &command.Publish{Message: msg("x/o", "o", 1), Flags: command.ToInboxes, Origin: command.OriginKey{Shard: 3, Seq: 8, Low: 3}})},
		"settings":        {15, command.AppendConfigure(nil, &command.Configure{Settings: command.ShardSettings{InboxMaxMessages: 1001}})},
		"disconnected":    {16, disc(b, command.DisconnectLost, 2)},
	}
	seen := map[[16]byte]string{}
	for name, v := range variations {
		r := newRig(t, state.Options{})
		for _, step := range population(func(i int, c []byte) []byte {
			if i == v.at {
				return v.cmd
			}
			return c
		}) {
			step(r)
		}
		d := r.digest()
		if other, dup := seen[d]; dup {
			t.Errorf("the digest does not tell %q from %q", name, other)
		}
		seen[d] = name
		if name != "as it is" {
			continue
		}
		// What the entries themselves change: the clock, and the lanes.
		r.now++
		r.do()
		if r.digest() == d {
			t.Error("the digest does not cover the clock")
		}
		d = r.digest()
		r.entry(batch("n1", 1, 2, 0, pub("nobody", "p", 1)))
		if r.digest() == d {
			t.Error("the digest does not cover lanes")
		}
	}
}

// I20: two machines with the same log have the same bytes in their stores.
func TestDeterministicStore_I20(t *testing.T) {
	build := func() *rig {
		r := newRig(t, state.Options{HotBytes: 1, HotOffline: 1})
		for i, step := range population(nil) {
			step(r)
			if i%4 == 3 {
				r.writeBack()
			}
		}
		// Many sessions and tenants, so that map order would show.
		for i := range 60 {
			res := r.one(command.OK, conn(fmt.Sprint("c", i), func(c *command.Connect) {
				c.Key.Tenant, c.Node = fmt.Sprint("t", i%7), fmt.Sprint("n", i%5)
			}))
			ref := command.SessionRef{SessionKey: command.SessionKey{Tenant: fmt.Sprint("t", i%7), ClientID: fmt.Sprint("c", i)}, Epoch: res.Epoch}
			r.one(command.OK, sub(ref, filters(2, "x/#", "x/+", "+/1")...))
		}
		for i := range 40 {
			r.one(command.OK, command.AppendPublish(nil, &command.Publish{
				Tenant: fmt.Sprint("t", i%7), Message: msg(fmt.Sprint("x/", i%3), fmt.Sprint(i), 2, retain), Flags: command.ToInboxes | command.ToRetained,
			}))
			r.entry(batch(fmt.Sprint("n", i%5), 1, uint64(i/5)+2, 0), batch(fmt.Sprint("m", i), 1, 1, 0, tick))
		}
		r.one(command.OK, command.AppendNodeLost(nil, &command.NodeLost{Node: "n2", Incarnation: 9}))
		r.writeBack()
		return r
	}
	one, two := build(), build()
	if d := cmp.Diff(one.st.Dump(), two.st.Dump()); d != "" {
		t.Fatal(d)
	}
	if one.digest() != two.digest() || !cmp.Equal(one.fx, two.fx) {
		t.Fatal("digests or effects differ")
	}
}
