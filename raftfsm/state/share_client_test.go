package state_test

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
)

// worldClient is a client with its gateway's connection.
type worldClient struct {
	w         *world
	id        string
	ref       command.SessionRef
	node      string
	connected bool
	durable   bool
	rm        int
	sentTo    uint64
	inflight  []worldSend
	known     map[uint64]bool // QoS 2 sequences that the client has, in this session
	heard     []int           // messages by number, when the client got them for the first time
}

// worldSend is something that was sent on this connection and is not finished.
type worldSend struct {
	seq uint64
	qos byte
	rel bool // PUBREC was committed
}

func (c *worldClient) shard() *worldShard { return c.w.shardOf(c.id) }

func (c *worldClient) session() (state.SessionInfo, bool) {
	return c.shard().mach().Session(key(c.id))
}

// excuse names what the session holds at QoS 2: when it ends, it takes with it what
// was perhaps sent.
func (c *worldClient) excuse() {
	in, ok := c.session()
	if !ok {
		return
	}
	ref := command.SessionRef{SessionKey: key(c.id), Epoch: in.Epoch}
	p, err := c.shard().mach().Peek(ref, 0, 1000, 1<<20)
	if err != nil {
		c.w.t.Fatal(err)
	}
	for _, d := range p.Deliveries {
		if d.State == state.Queued && d.QoS == 2 {
			c.w.sent[string(d.Msg.Payload)].excused = true
		}
	}
}

func (c *worldClient) connect(durable, clean bool) {
	if in, ok := c.session(); ok && (clean || !in.Durable) {
		c.excuse()
	}
	c.rm = 1 + c.w.draw("receive maximum", 4)
	c.node = []string{"n1", "n2"}[c.w.draw("node", 2)]
	cn := &command.Connect{
		Key: key(c.id), Node: c.node, Incarnation: c.w.nodeInc[c.node], CleanStart: clean, ReceiveMax: uint16(c.rm), Version: 5,
	}
	if durable {
		cn.ExpiryS = 100_000
	}
	res := c.shard().apply(command.AppendConnect(nil, cn))[0]
	c.ref = command.SessionRef{SessionKey: key(c.id), Epoch: res.Epoch}
	c.connected, c.durable, c.inflight = true, durable, nil
	if !res.Present {
		c.sentTo, c.known = 0, map[uint64]bool{}
	}
}

func (c *worldClient) subscribe(share int, qos byte) {
	if !c.connected {
		return
	}
	s := command.Subscription{Filter: c.w.shares[share], QoS: qos, ID: uint32(share + 1)}
	res := c.shard().apply(sub(c.ref, s))[0]
	if res.Code != command.OK || res.Gate == 0 {
		c.w.t.Fatalf("subscribe: %+v", res)
	}
	for _, o := range c.shard().mach().Origins(res.Gate-1, 1) {
		if o.Seq != res.Gate || !o.Gated {
			c.w.t.Fatalf("gate %d, originated %+v", res.Gate, o)
		}
	}
}

func (c *worldClient) unsubscribe(share int) {
	if c.connected {
		c.shard().apply(command.AppendUnsubscribe(nil, &command.Unsubscribe{Ref: c.ref, Filters: []string{c.w.shares[share]}}))
	}
}

func (c *worldClient) disconnect() {
	if !c.connected {
		return
	}
	if !c.durable {
		c.excuse()
	}
	c.connected = false
	c.shard().apply(disc(c.ref, command.DisconnectLost, c.sentTo))
}

func (c *worldClient) end() {
	c.excuse()
	c.connected = false
	c.shard().apply(command.AppendEndSession(nil, &command.EndSession{Key: key(c.id)}))
}

func (c *worldClient) flying(seq uint64) int {
	for i := range c.inflight {
		if c.inflight[i].seq == seq {
			return i
		}
	}
	return -1
}

// work sends what the client has room for; false if there was nothing.
func (c *worldClient) work() bool {
	if !c.connected {
		return false
	}
	p, err := c.shard().mach().Fetch(c.ref, 0, 1000, 1<<20)
	if err != nil {
		c.w.t.Fatalf("%s: fetch: %v", c.id, err)
	}
	did := false
	var done []uint64
	for _, d := range p.Deliveries {
		if c.flying(d.Seq) >= 0 {
			continue
		}
		if len(c.inflight) >= c.rm {
			break
		}
		did = true
		c.sentTo = max(c.sentTo, d.Seq)
		if d.State == state.Queued {
			c.receipt(&d)
		}
		if d.QoS == 0 {
			done = append(done, d.Seq)
			continue
		}
		c.inflight = append(c.inflight, worldSend{seq: d.Seq, qos: d.QoS, rel: d.State == state.Received})
	}
	if len(done) > 0 {
		c.shard().apply(ack(c.ref, c.sentTo, done...))
	}
	if p.Clamped && (len(p.Deliveries) == 0 || c.sentTo >= p.Deliveries[len(p.Deliveries)-1].Seq) {
		c.shard().apply(ack(c.ref, p.Next-1)) // all before it was sent, or is gone
		did = true
	}
	return did
}

// receipt is what the client's application sees.
func (c *worldClient) receipt(d *state.Delivery) {
	if d.QoS == 2 && c.known[d.Seq] {
		return // the client has it from before
	}
	if d.QoS == 2 {
		c.known[d.Seq] = true
	}
	m := c.w.sent[string(d.Msg.Payload)]
	if m == nil || len(d.SubIDs) != 1 {
		c.w.t.Fatalf("%s got %s", c.id, show(*d))
	}
	share := int(d.SubIDs[0]) - 1
	if !m.shares[share] {
		c.w.t.Fatalf("%s got %s, not published to share %d", c.id, m.id, share)
	}
	if len(m.got[share]) == 0 {
		c.heard = append(c.heard, m.num)
	}
	m.got[share] = append(m.got[share], fmt.Sprintf("%d %s", d.QoS, c.id))
}

// ack finishes some of what is under way; false if there is nothing.
func (c *worldClient) ack() bool {
	if !c.connected || len(c.inflight) == 0 {
		return false
	}
	n := 1 + c.w.draw("acks", len(c.inflight))
	a := &command.Ack{Ref: c.ref, SentTo: c.sentTo}
	keep := c.inflight[n:]
	var rel []worldSend
	for _, f := range c.inflight[:n] {
		if f.qos == 2 && !f.rel {
			a.Received = command.AppendSeq(a.Received, f.seq)
			f.rel = true
			rel = append(rel, f)
			continue
		}
		a.Done = command.AppendSeq(a.Done, f.seq)
		delete(c.known, f.seq)
	}
	c.inflight = append(append([]worldSend(nil), keep...), rel...)
	byFrom := func(a, b command.Range) int { return cmp.Compare(a.From, b.From) }
	slices.SortFunc(a.Done, byFrom)
	slices.SortFunc(a.Received, byFrom)
	if code := c.shard().apply(command.AppendAck(nil, a))[0].Code; code != command.OK {
		c.w.t.Fatalf("%s: ack: %v", c.id, code)
	}
	return true
}
