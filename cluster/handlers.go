package cluster

import (
	"context"
	"errors"
	"time"

	"github.com/flotilla-mqtt/flotilla/cluster/peer"
	"github.com/flotilla-mqtt/flotilla/raftfsm"
	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
	"github.com/flotilla-mqtt/flotilla/session"
)

// Queries: questions between nodes that may take a while. The first byte of
// the payload says which. Numbers are on the wire.
const (
	queryReadIndex byte = 1
	queryEffective byte = 2
	queryRetained  byte = 3
	queryStatus    byte = 4
	queryLeave     byte = 5
	queryShares    byte = 6
	queryWill      byte = 7
	queryMember    byte = 16
	queryGroup     byte = 17
	queryTransfer  byte = 18
	queryKeys      byte = 40
	queryAudit     byte = 41
)

// queryTimeout bounds the work for one query on the node that answers it. The
// SUBACK gate is the longest: it waits for leases to end.
const queryTimeout = 15 * time.Second

// handlers are what other nodes may ask of this one. They run on the reader of
// a link and do not block.
func (n *Node) handlers() map[peer.Kind]peer.Handler {
	return map[peer.Kind]peer.Handler{
		peer.KindLaneBatch:    n.handleBatch,
		peer.KindForward:      n.handleForward,
		peer.KindRouteChanges: n.handleRoutes,
		peer.KindLeaseRenew:   n.handleRenew,
		peer.KindWake:         n.handleWake,
		peer.KindKick:         n.handleKick,
		peer.KindFetch:        n.handleFetch,
		peer.KindQuery:        n.handleQuery,
	}
}

// The answer to a lane batch begins with its status.
const (
	batchApplied   byte = 1 // followed by index and results
	batchNotLeader byte = 2 // followed by the leader, if known
	batchFailed    byte = 3
)

// sendBatch implements batchSender: to the merger here, or to the leader's.
func (n *Node) sendBatch(shard uint32, batch []byte, done func(command.BatchResult, uint64, error)) {
	leader := n.leaderOf(shard)
	switch leader {
	case "":
		done(command.BatchResult{}, 0, ErrNoLeader)
		return
	case n.id:
		if l := n.leading(shard); l != nil {
			l.merge.submit(batch, done)
		} else {
			done(command.BatchResult{}, 0, raftfsm.ErrNotLeader)
		}
		return
	}
	frame := append(putUint(make([]byte, 0, len(batch)+4), uint64(shard)), batch...)
	n.links.Call(leader, peer.KindLaneBatch, frame, func(resp []byte, err error) {
		if err != nil {
			n.hint(shard, "")
			done(command.BatchResult{}, 0, err)
			return
		}
		res, index, err := n.decodeBatchAnswer(shard, resp)
		done(res, index, err)
	})
}

func (n *Node) decodeBatchAnswer(shard uint32, resp []byte) (command.BatchResult, uint64, error) {
	var res command.BatchResult
	if len(resp) == 0 {
		return res, 0, errFrame
	}
	d := dec{b: resp[1:]}
	switch resp[0] {
	case batchApplied:
		index := d.uint()
		if d.bad {
			return res, 0, errFrame
		}
		err := res.Decode(append([]byte(nil), d.b...)) // results outlive the frame
		return res, index, err
	case batchNotLeader:
		n.hint(shard, string(resp[1:]))
		return res, 0, raftfsm.ErrNotLeader
	default:
		return res, 0, raftfsm.ErrUnknownOutcome
	}
}

func (n *Node) handleBatch(_ string, payload []byte, reply func([]byte, error)) {
	d := dec{b: payload}
	shard := uint32(d.uint())
	if d.bad || reply == nil {
		return
	}
	l := n.leading(shard)
	if l == nil {
		leader := ""
		if r := n.replica(shard); r != nil {
			leader, _ = r.group.Leader()
		}
		if leader == n.id {
			leader = "" // elected, not ready
		}
		reply(append([]byte{batchNotLeader}, leader...), nil)
		return
	}
	batch := append([]byte(nil), d.b...)
	l.merge.submit(batch, func(res command.BatchResult, index uint64, err error) {
		if err != nil {
			reply([]byte{batchFailed}, nil)
			return
		}
		reply(res.Append(putUint([]byte{batchApplied}, index)), nil)
	})
}

func (n *Node) handleForward(from string, payload []byte, reply func([]byte, error)) {
	err := n.sink.handle(from, payload)
	if reply != nil {
		reply(nil, err)
	}
}

// sendRoutes implements routeSender.
func (n *Node) sendRoutes(node string, f routeFrame, done func(error)) {
	if node == n.id {
		done(n.routes.handle(&f))
		return
	}
	n.links.Call(node, peer.KindRouteChanges, appendRouteFrame(nil, &f), func(_ []byte, err error) { done(err) })
}

func (n *Node) handleRoutes(_ string, payload []byte, reply func([]byte, error)) {
	f, err := decodeRouteFrame(payload)
	if err == nil {
		err = n.routes.handle(&f)
	}
	if reply != nil {
		reply(nil, err)
	}
}

func (n *Node) handleRenew(from string, payload []byte, reply func([]byte, error)) {
	d := dec{b: payload}
	inc := d.uint()
	var rec command.Node
	if d.bad || rec.Decode(append([]byte(nil), d.b...)) != nil || rec.ID != from || reply == nil {
		return
	}
	n.control.renew(rec, inc, func(got uint64, err error) { reply(putUint(nil, got), err) })
}

func appendRef(b []byte, ref command.SessionRef) []byte {
	return putUint(putBytes(putBytes(b, ref.Tenant), ref.ClientID), ref.Epoch)
}

func (d *dec) ref() command.SessionRef {
	key := command.SessionKey{Tenant: d.string(), ClientID: d.string()}
	return command.SessionRef{SessionKey: key, Epoch: d.uint()}
}

func (n *Node) handleWake(_ string, payload []byte, _ func([]byte, error)) {
	d := dec{b: payload}
	if ref := d.ref(); d.err() == nil {
		n.server.Wake(ref.SessionKey, ref.Epoch)
	}
}

func (n *Node) handleKick(_ string, payload []byte, _ func([]byte, error)) {
	d := dec{b: payload}
	ref, reason := d.ref(), d.uint()
	if d.err() == nil {
		n.server.Kick(ref.SessionKey, ref.Epoch, kickCode(state.KickReason(reason)))
	}
}

// query asks another node.
func (n *Node) query(ctx context.Context, node string, q byte, body []byte) ([]byte, error) {
	return n.links.CallWait(ctx, node, peer.KindQuery, append([]byte{q}, body...))
}

// handleQuery answers on a goroutine of its own.
func (n *Node) handleQuery(_ string, payload []byte, reply func([]byte, error)) {
	if len(payload) == 0 || reply == nil {
		return
	}
	q, d := payload[0], &dec{b: append([]byte(nil), payload[1:]...)}
	n.spawn(func() {
		ctx, cancel := context.WithTimeout(n.ctx, queryTimeout)
		defer cancel()
		resp, err := n.answer(ctx, q, d)
		reply(resp, err)
	})
}

func (n *Node) answer(ctx context.Context, q byte, d *dec) ([]byte, error) {
	switch q {
	case queryReadIndex:
		group := uint32(d.uint())
		if err := d.err(); err != nil {
			return nil, err
		}
		index, err := n.localReadIndex(ctx, group)
		return putUint(nil, index), err
	case queryEffective:
		shard, index, gate := uint32(d.uint()), d.uint(), d.uint()
		l := n.leading(shard)
		if d.err() != nil || l == nil {
			return nil, ErrNoLeader
		}
		return nil, l.effective(ctx, index, gate)
	case queryWill:
		shard, seq := uint32(d.uint()), d.uint()
		l := n.leading(shard)
		if d.err() != nil || l == nil {
			return nil, ErrNoLeader
		}
		return nil, l.origins.waitOne(ctx, seq)
	case queryRetained:
		return n.answerRetained(ctx, d)
	case queryShares:
		return n.answerShares(d)
	case queryStatus:
		return n.answerStatus()
	case queryLeave:
		node, inc := d.string(), d.uint()
		if err := d.err(); err != nil {
			return nil, err
		}
		return nil, n.control.leave(node, inc)
	case queryMember:
		return answerDecide(ctx, d.b, n.control.judge)
	case queryGroup, queryTransfer:
		return n.answerGroup(ctx, q, d)
	case queryBackupHold, queryBackupCapture, queryBackupRelease, queryBackupRead, queryBackupClose, queryRestoreQuiet, queryRestoreShard, queryRestoreDecide:
		return n.answerBackup(ctx, q, d)
	case queryKeys:
		return answerDecide(ctx, d.b, n.control.judgeKey)
	case queryAudit:
		return n.answerAudit(d.b)
	case queryVerifyMark, queryVerifyDigest, queryVerifyStored:
		return n.answerVerify(ctx, q, d)
	case queryDebug:
		return n.answerDebug(ctx)
	default:
		return n.answerAdmin(ctx, q, d)
	}
}

// sleep waits, or returns why ctx ended.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// The answer to a fetch begins with its status.
const (
	fetchPage  byte = 1
	fetchStale byte = 2
	fetchRetry byte = 3 // followed by the leader, if known
)

func appendFetch(b []byte, shard uint32, ref command.SessionRef, cursor uint64, maxMsgs, maxBytes int) []byte {
	b = appendRef(putUint(b, uint64(shard)), ref)
	return putUint(putUint(putUint(b, cursor), uint64(maxMsgs)), uint64(maxBytes))
}

// handleFetch reads an inbox for a node without a replica. Cold entries are
// read from the store, so it gets a goroutine.
func (n *Node) handleFetch(_ string, payload []byte, reply func([]byte, error)) {
	d := dec{b: payload}
	shard := uint32(d.uint())
	ref, cursor, maxMsgs, maxBytes := d.ref(), d.uint(), int(d.uint()), int(d.uint())
	if d.err() != nil || reply == nil {
		return
	}
	r := n.replica(shard)
	if r == nil || !r.group.IsLeader() {
		leader := ""
		if r != nil {
			leader, _ = r.group.Leader()
		}
		reply(append([]byte{fetchRetry}, leader...), nil)
		return
	}
	n.spawn(func() {
		p, err := r.mach.Fetch(ref, cursor, maxMsgs, min(maxBytes, peer.MaxPayload/4))
		switch {
		case errors.Is(err, state.ErrStaleEpoch):
			reply([]byte{fetchStale}, nil)
		case err != nil:
			reply([]byte{fetchRetry}, nil)
		default:
			p.Now = max(p.Now, r.clock.now())
			reply(appendPage([]byte{fetchPage}, &p), nil)
		}
	})
}

const (
	deliveryRetain = 1 << iota
	deliveryDup
	deliveryReceived
)

func appendPage(b []byte, p *state.Page) []byte {
	b = putUint(b, p.Next)
	b = putBool(b, p.More)
	b = putBool(b, p.Clamped)
	b = putUint(b, p.Floor)
	b = putUint(b, uint64(p.Now))
	b = putUint(b, uint64(len(p.Deliveries)))
	for i := range p.Deliveries {
		d := &p.Deliveries[i]
		flags := uint64(0)
		if d.Retain {
			flags |= deliveryRetain
		}
		if d.Dup {
			flags |= deliveryDup
		}
		if d.State == state.Received {
			flags |= deliveryReceived
		}
		b = putUint(b, d.Seq)
		b = putUint(b, uint64(d.QoS))
		b = putUint(b, flags)
		b = putUint(b, uint64(d.ExpiresAt))
		b = putUint(b, uint64(len(d.SubIDs)))
		for _, id := range d.SubIDs {
			b = putUint(b, uint64(id))
		}
		b = putBytes(b, d.Msg.Append(nil))
	}
	return b
}

func (n *Node) decodeFetched(shard uint32, cursor uint64, resp []byte) (session.Page, error) {
	if len(resp) == 0 {
		return session.Page{}, errFrame
	}
	switch resp[0] {
	case fetchStale:
		return session.Page{}, session.ErrStale
	case fetchRetry:
		n.hint(shard, string(resp[1:]))
		return session.Page{Next: cursor}, nil
	}
	d := dec{b: resp[1:]}
	p := session.Page{Next: d.uint(), More: d.bool(), Clamped: d.bool(), Floor: d.uint(), Now: int64(d.uint())}
	for range d.count() {
		it := session.Delivery{Seq: d.uint(), QoS: byte(d.uint()), State: session.Queued}
		flags := d.uint()
		it.Retain, it.Dup = flags&deliveryRetain != 0, flags&deliveryDup != 0
		if flags&deliveryReceived != 0 {
			it.State = session.Received
		}
		it.ExpiresAt = int64(d.uint())
		for range d.count() {
			it.SubIDs = append(it.SubIDs, uint32(d.uint()))
		}
		msg, err := command.DecodeMessage(d.bytes())
		if d.bad || err != nil {
			return session.Page{}, errFrame
		}
		it.Msg = msg
		p.Deliveries = append(p.Deliveries, it)
	}
	return p, d.err()
}
