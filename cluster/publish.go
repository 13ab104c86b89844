package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/router"
	"github.com/flotilla-mqtt/flotilla/session"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// pendingPublish waits for every place that a publish went to.
type pendingPublish struct {
	left    atomic.Int32
	refused atomic.Uint32 // reason code of a refusal, 0 = none
	failed  atomic.Pointer[error]
	done    func(session.Outcome)
}

// part counts one place off. The last one answers.
func (p *pendingPublish) part(res command.Result, err error) {
	if err == nil {
		err = notStored(res.Code)
	}
	switch {
	case err != nil:
		p.failed.CompareAndSwap(nil, &err)
	case res.Code == command.Full:
		p.refused.CompareAndSwap(0, uint32(mqtt.QuotaExceeded))
	}
	if p.left.Add(-1) > 0 {
		return
	}
	if failed := p.failed.Load(); failed != nil {
		p.done(session.Outcome{Err: *failed})
		return
	}
	p.done(session.Outcome{Code: mqtt.ReasonCode(p.refused.Load())})
}

// notStored is why a shard did not store a message, nil if it did, or if that is no failure: no acknowledgement may say
// that it is stored.
func notStored(code command.ResultCode) error {
	switch code {
	case 0, command.OK, command.NoMatch, command.Duplicate, command.Full:
		return nil
	case command.StaleEpoch: // a newer connection of the publisher has sent it again
		return session.ErrStale
	default:
		return fmt.Errorf("%w: %v", session.ErrUnavailable, code)
	}
}

// stored is part for a shard.
func (p *pendingPublish) stored(res command.Result, _ uint64, err error) { p.part(res, err) }

// confirmed is part for a forward: a target that is gone needs no copy, because
// its subscribers are gone with it.
func (p *pendingPublish) confirmed(_ command.Result, _ uint64, err error) {
	if errors.Is(err, errTargetGone) {
		err = nil
	}
	p.part(command.Result{}, err)
}

// Publish implements session.Publisher: DESIGN.md section 3.
func (n *Node) Publish(ctx context.Context, tenant string, m *command.Message, done func(session.Outcome)) {
	v := n.limits.judge(ctx, tenant, m) // it may wait: what the lease allows is asked after it
	if v.refused(done) {
		return
	}
	if !n.mayRoute() && !planted("lease-unchecked-after-pause") {
		if done != nil {
			done(session.Outcome{Err: ErrLeaseLost})
		}
		return
	}
	buf := n.encode(m)
	match := n.sys.met.match(n.routes.table, tenant, m)
	out := outgoing{tenant: tenant, msg: m, raw: *buf, match: match, unstored: v.unstored}
	switch {
	case m.QoS == 0:
		n.publishQoS0(ctx, &out)
		if done != nil {
			done(session.Outcome{})
		}
	case n.refuses(&out):
		done(session.Outcome{Code: mqtt.QuotaExceeded})
	case m.Retain && !out.unstored:
		if err := n.lane(n.topicShard(tenant, m.Topic)).room(ctx); err != nil {
			done(session.Outcome{Err: err})
			break
		}
		n.order.add(&out, n.outcomeLimit(), done)
	case !n.order.behind(&out, n.outcomeLimit(), done):
		n.route(ctx, &out, done)
	}
	n.buffers.Put(buf)
}

// refuses tells whether the overflow policy turns a publish away: an inbox
// or the queue of a share that would get it is full. It is decided before anything is proposed, so that
// a refused publish reaches nobody (DESIGN.md section 5). Shards without a
// replica here are not asked: their inboxes overshoot by what comes this way.
func (n *Node) refuses(o *outgoing) bool {
	full := func(shard uint32) bool {
		r := n.replica(shard)
		if r == nil {
			return false
		}
		_, full := r.mach.Refuses(o.tenant, o.msg.Topic, o.msg.Publisher)
		return full
	}
	return slices.ContainsFunc(o.match.Durable, full) || slices.ContainsFunc(o.match.Shares, full)
}

// outgoing is a message on its way to its targets, encoded once.
type outgoing struct {
	tenant string
	msg    *command.Message
	raw    []byte // msg encoded
	match  *router.Match
	origin command.OriginKey // Shard > 0: a message of a state machine
	inc    uint64            // of the lanes that must take it, with origin
	// unstored: not to be retained, though it says so.
	unstored bool
	// stored is the shard that has it already, retained and for its subscribers there; 0: none.
	stored uint32
	// full: an inbox of that shard had no room for it.
	full bool
	// ordered: it was held back behind a retained message, and waits for room no more.
	ordered bool
}

// encode puts a message into a pooled buffer. Lanes copy from it.
func (n *Node) encode(m *command.Message) *[]byte {
	buf, _ := n.buffers.Get().(*[]byte)
	if buf == nil {
		buf = new([]byte)
	}
	*buf = m.Append((*buf)[:0])
	return buf
}

// Receive implements session.Publisher: the inbound QoS 2 message is stored in
// the publisher's session, so that any node can finish the handshake (I19).
func (n *Node) Receive(ctx context.Context, ref command.SessionRef, pid uint16, m *command.Message, done func(session.Outcome)) {
	if v := n.limits.judge(ctx, ref.Tenant, m); v.refused(done) {
		return
	}
	buf := n.encode(m)
	cmd := command.Receive{Ref: ref, PacketID: pid, Message: *buf}
	n.handshake(ctx, ref, func(dst []byte) []byte { return command.AppendReceive(dst, &cmd) }, done)
	n.buffers.Put(buf)
}

// Release implements session.Publisher.
func (n *Node) Release(ctx context.Context, ref command.SessionRef, pid uint16, done func(session.Outcome)) {
	cmd := command.Release{Ref: ref, PacketID: pid}
	n.handshake(ctx, ref, func(dst []byte) []byte { return command.AppendRelease(dst, &cmd) }, done)
}

func (n *Node) handshake(ctx context.Context, ref command.SessionRef, encode func([]byte) []byte, done func(session.Outcome)) {
	if !n.mayRoute() {
		done(session.Outcome{Err: ErrLeaseLost})
		return
	}
	err := n.lane(n.sessionShard(ref.SessionKey)).add(ctx, encode, func(res command.Result, _ uint64, err error) {
		done(outcomeOf(res, err))
	})
	if err != nil {
		done(session.Outcome{Err: err})
	}
}

// outcomeOf maps the result of Receive and Release.
func outcomeOf(res command.Result, err error) session.Outcome {
	if err != nil {
		return session.Outcome{Err: err}
	}
	switch res.Code {
	case command.OK, command.Duplicate:
		return session.Outcome{Code: mqtt.Success}
	case command.NoMatch:
		return session.Outcome{Code: mqtt.NoMatchingSubscribers}
	case command.UnknownPacket:
		return session.Outcome{Code: mqtt.PacketIdentifierNotFound}
	case command.Full:
		return session.Outcome{Code: mqtt.QuotaExceeded}
	case command.StaleEpoch, command.UnknownSession:
		return session.Outcome{Err: session.ErrStale}
	default:
		return session.Outcome{Err: session.ErrUnavailable}
	}
}
