package state_test

import (
	"fmt"

	"pgregory.net/rapid"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
)

// The pools are small, so that random commands meet each other.
var (
	tenants    = []string{"", "t2"}
	clientPool = []string{"a", "b", "c"}
	filterPool = []string{"a/b", "a/+", "a/#", "+/b", "#", "c", "$x/#"}
	topicPool  = []string{"a/b", "a/c", "c", "$x/b", "a"}
	nodePool   = []string{"n1", "n2"}
)

func (r *run) pick(what string, list []string) string {
	return rapid.SampledFrom(list).Draw(r.t, what)
}

func (r *run) key() command.SessionKey {
	k := command.SessionKey{ClientID: r.pick("client", clientPool)}
	if rapid.IntRange(0, 5).Draw(r.t, "tenant") == 0 {
		k.Tenant = "t2"
	}
	return k
}

// ref is mostly a current reference, now and then an old or a wrong one.
func (r *run) ref() command.SessionRef {
	if len(r.refs) == 0 {
		return command.SessionRef{SessionKey: r.key(), Epoch: 1}
	}
	if rapid.IntRange(0, 9).Draw(r.t, "old reference") == 0 {
		return rapid.SampledFrom(r.refs).Draw(r.t, "reference")
	}
	var now []command.SessionRef
	for _, ref := range r.refs {
		if _, code := r.m.get(ref); code == command.OK {
			now = append(now, ref)
		}
	}
	if len(now) == 0 {
		return r.refs[len(r.refs)-1]
	}
	return rapid.SampledFrom(now).Draw(r.t, "reference")
}

func (r *run) message() []byte {
	r.pubs++
	m := command.Message{
		Topic:     []byte(r.pick("topic", topicPool)),
		Payload:   fmt.Appendf(nil, "payload %d", r.pubs),
		QoS:       byte(rapid.IntRange(0, 2).Draw(r.t, "qos")),
		Publisher: r.pick("publisher", clientPool),
	}
	switch rapid.IntRange(0, 5).Draw(r.t, "kind of message") {
	case 0:
		m.Retain = true
	case 1:
		m.Retain, m.Payload = true, nil
	case 2, 3:
		m.HasExpiry, m.Expiry = true, uint32(rapid.IntRange(0, 60).Draw(r.t, "expiry"))
	case 4:
		m.Retain, m.HasExpiry, m.Expiry = true, true, uint32(rapid.IntRange(1, 60).Draw(r.t, "expiry"))
	}
	return m.Append(nil)
}

// seqs is some sequences, sorted, of what the session's inbox may hold.
func (r *run) seqs(ref command.SessionRef, what string) []command.Range {
	last := uint64(3)
	if s, code := r.m.get(ref); code == command.OK {
		last = s.next + 1
	}
	var out []command.Range
	at := uint64(0)
	if last > 8 && rapid.Bool().Draw(r.t, what+" near the end") {
		at = last - 8
	}
	for range rapid.IntRange(0, 3).Draw(r.t, what) {
		from := at + rapid.Uint64Range(1, 3).Draw(r.t, "gap")
		to := from + rapid.Uint64Range(0, 2).Draw(r.t, "length")
		if to > last {
			break
		}
		out = append(out, command.Range{From: from, To: to})
		at = to + 1
	}
	return out
}

// command draws a command, runs it through the model, and gives its bytes and the
// result that machines must give.
func (r *run) command() ([]byte, command.Result) {
	code := func(c command.ResultCode) command.Result { return command.Result{Code: c} }
	switch rapid.SampledFrom([]string{
		"publish", "publish", "publish", "publish", "publish", "publish", "connect", "connect", "subscribe", "subscribe",
		"ack", "ack", "ack", "disconnect", "unsubscribe", "receive", "release", "tick", "tick", "node lost",
		"end", "origin done", "origin publish", "configure",
	}).Draw(r.t, "command") {
	case "publish":
		p := &command.Publish{Message: r.message(), Flags: command.ToInboxes | command.ToRetained}
		if rapid.IntRange(0, 5).Draw(r.t, "tenant") == 0 {
			p.Tenant = "t2"
		}
		if rapid.IntRange(0, 2).Draw(r.t, "names its epoch") > 0 {
			p.Epoch = rapid.Uint64Range(1, 3).Draw(r.t, "epoch")
		}
		return command.AppendPublish(nil, p), code(r.m.publish(p))
	case "origin publish":
		p := &command.Publish{Message: r.message(), Flags: command.ToInboxes, Origin: command.OriginKey{
			Shard: uint32(rapid.IntRange(1, 2).Draw(r.t, "shard")),
			Seq:   rapid.Uint64Range(1, 6).Draw(r.t, "seq"), Low: rapid.Uint64Range(0, 4).Draw(r.t, "low"),
		}}
		return command.AppendPublish(nil, p), code(r.m.publish(p))
	case "connect":
		c := r.connect()
		res := r.m.connect(c)
		if res.Code != command.OK {
			return command.AppendConnect(nil, c), res
		}
		r.refs = append(r.refs, command.SessionRef{SessionKey: c.Key, Epoch: res.Epoch})
		return command.AppendConnect(nil, c), res
	case "subscribe":
		c := &command.Subscribe{Ref: r.ref()}
		for range rapid.IntRange(1, 2).Draw(r.t, "filters") {
			c.Subs = append(c.Subs, command.Subscription{
				Filter: r.pick("filter", filterPool), QoS: byte(rapid.IntRange(0, 2).Draw(r.t, "granted")),
				NoLocal:           rapid.IntRange(0, 4).Draw(r.t, "no local") == 0,
				RetainAsPublished: rapid.Bool().Draw(r.t, "rap"),
				ID:                uint32(rapid.IntRange(0, 3).Draw(r.t, "id")),
			})
		}
		return command.AppendSubscribe(nil, c), r.m.subscribe(c)
	case "unsubscribe":
		c := &command.Unsubscribe{Ref: r.ref(), Filters: []string{r.pick("filter", filterPool)}}
		return command.AppendUnsubscribe(nil, c), r.m.unsubscribe(c)
	case "ack":
		a := &command.Ack{Ref: r.ref(), SentTo: rapid.Uint64Range(0, 6).Draw(r.t, "sent to")}
		a.Done, a.Received = r.seqs(a.Ref, "done"), r.seqs(a.Ref, "received")
		return command.AppendAck(nil, a), code(r.m.ack(a))
	case "disconnect":
		d := &command.Disconnect{
			Ref: r.ref(), Reason: command.DisconnectReason(rapid.IntRange(1, 3).Draw(r.t, "reason")),
			HasExpiry: rapid.IntRange(0, 3).Draw(r.t, "has expiry") == 0, SentTo: rapid.Uint64Range(0, 8).Draw(r.t, "sent to"),
		}
		if d.HasExpiry {
			d.ExpiryS = rapid.SampledFrom([]uint32{0, 10, 50}).Draw(r.t, "expiry")
		}
		return command.AppendDisconnect(nil, d), code(r.m.disconnectCmd(d))
	case "receive":
		c := &command.Receive{Ref: r.ref(), PacketID: uint16(rapid.IntRange(1, 3).Draw(r.t, "packet id")), Message: r.message()}
		return command.AppendReceive(nil, c), code(r.m.receive(c))
	case "release":
		c := &command.Release{Ref: r.ref(), PacketID: uint16(rapid.IntRange(1, 3).Draw(r.t, "packet id"))}
		return command.AppendRelease(nil, c), code(r.m.release(c))
	case "tick":
		r.m.tick()
		return command.AppendTick(nil), code(command.OK)
	case "node lost":
		n := &command.NodeLost{Node: r.pick("node", nodePool), Incarnation: rapid.Uint64Range(1, 2).Draw(r.t, "incarnation")}
		r.m.nodeLost(n)
		return command.AppendNodeLost(nil, n), code(command.OK)
	case "end":
		e := &command.EndSession{Key: r.key()}
		if rapid.Bool().Draw(r.t, "with epoch") {
			e.Epoch = r.ref().Epoch
		}
		return command.AppendEndSession(nil, e), code(r.m.endSession(e))
	case "configure":
		c := &command.Configure{Settings: r.m.set}
		c.Settings.InboxMaxMessages = rapid.SampledFrom([]uint64{0, 2, 6}).Draw(r.t, "max messages")
		r.m.set = c.Settings
		for _, s := range r.m.sess {
			r.m.checkFull(s)
		}
		return command.AppendConfigure(nil, c), code(command.OK)
	default: // origin done
		from := rapid.Uint64Range(1, 10).Draw(r.t, "from")
		c := &command.OriginDone{Seqs: []command.Range{{From: from, To: from + rapid.Uint64Range(0, 3).Draw(r.t, "length")}}}
		r.m.originDone(c)
		return command.AppendOriginDone(nil, c), code(command.OK)
	}
}

func (r *run) connect() *command.Connect {
	c := &command.Connect{
		Key: r.key(), Node: r.pick("node", nodePool), Incarnation: rapid.Uint64Range(1, 2).Draw(r.t, "incarnation"),
		CleanStart: rapid.IntRange(0, 4).Draw(r.t, "clean") == 0,
		ExpiryS:    rapid.SampledFrom([]uint32{0, 20, 200, command.NeverExpires}).Draw(r.t, "expiry"),
		ReceiveMax: uint16(rapid.IntRange(1, 4).Draw(r.t, "receive maximum")), Version: 5,
	}
	if rapid.IntRange(0, 5).Draw(r.t, "same user") == 0 {
		c.SameUser, c.Username = true, "u"
	}
	if rapid.IntRange(0, 2).Draw(r.t, "will") == 0 {
		c.HasWill = true
		c.Will = command.Will{Message: r.message(), DelayS: rapid.SampledFrom([]uint32{0, 5, 500}).Draw(r.t, "delay")}
	}
	return c
}
