package cluster

import (
	"context"
	"errors"
	"slices"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
	"github.com/flotilla-mqtt/flotilla/router"
	"github.com/flotilla-mqtt/flotilla/session"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// routeOrigin routes a message of a state machine through lanes of an
// incarnation. Nobody is owed an answer; done says that every target has it.
func (n *Node) routeOrigin(ctx context.Context, o *state.Originated, key command.OriginKey, inc uint64, done func(session.Outcome)) {
	out := outgoing{tenant: o.Tenant, msg: &o.Message, match: n.routes.table.Match(o.Tenant, o.Message.Topic), origin: key, inc: inc}
	out.unstored = o.Flags&command.ToRetained == 0
	retained := o.Message.Retain && !out.unstored
	buf := n.encode(&o.Message)
	out.raw = *buf
	switch {
	case o.Message.QoS == 0:
		n.publishQoS0(ctx, &out)
		n.retainQoS0(&out, retained, done)
	case retained:
		n.order.add(&out, 0, done)
	case !n.order.behind(&out, 0, done):
		n.route(ctx, &out, done)
	}
	n.buffers.Put(buf)
}

// retainQoS0 stores a message of a state machine that was sent without waiting for anybody.
func (n *Node) retainQoS0(o *outgoing, retained bool, done func(session.Outcome)) {
	if !retained {
		done(session.Outcome{})
		return
	}
	p := &pendingPublish{done: done}
	p.left.Store(1)
	if err := n.storeRetained(o, command.ToRetained, p.storedOrigin); err != nil {
		p.part(command.Result{}, err)
	}
}

// storeFirst implements orderNet. Subscribers in the topic's own shard get the message with the same
// command: there, it comes before or behind each subscription and each read.
func (n *Node) storeFirst(o *outgoing, done doneFn) error {
	o.stored = n.topicShard(o.tenant, o.msg.Topic)
	flags := command.ToRetained
	match := n.routes.table.Match(o.tenant, o.msg.Topic)
	if slices.Contains(match.Durable, o.stored) {
		flags |= command.ToInboxes
	}
	if slices.Contains(match.Shares, o.stored) {
		flags |= command.ToShares
	}
	return n.storeRetained(o, flags, func(res command.Result, index uint64, err error) {
		if o.inc != 0 {
			res, err = originResult(res, err)
		}
		done(res, index, err)
	})
}

// storeRetained sends a message to the shard of its topic, as flags say.
func (n *Node) storeRetained(o *outgoing, flags command.PublishFlags, done doneFn) error {
	inc := o.inc
	if inc == 0 {
		inc = n.originLanes()
	}
	cmd := command.Publish{Tenant: o.tenant, Message: o.raw, Flags: flags, Origin: o.origin}
	if o.inc == 0 && n.control.view().FeatureLevel >= featureRetainedFence {
		cmd.Epoch = o.msg.Epoch // a lane that sends again late must not bring an old value back (I13)
	}
	encode := func(dst []byte) []byte { return command.AppendPublish(dst, &cmd) }
	return n.lane(n.topicShard(o.tenant, o.msg.Topic)).addKept(inc, encode, done)
}

// routeOrdered implements orderNet. Time has passed since the message came: the lease may be gone,
// and with it the routes that are in force.
func (n *Node) routeOrdered(o *outgoing, done func(session.Outcome)) {
	if !n.mayRoute() {
		done(session.Outcome{Err: ErrLeaseLost})
		return
	}
	o.ordered, o.match = true, n.routes.table.Match(o.tenant, o.msg.Topic)
	n.route(n.ctx, o, done)
}

// route sends a message of QoS 1 or 2 to every subscriber that does not have it
// yet, and calls done when all have confirmed. Retained ones are stored before,
// see topicOrder.
func (n *Node) route(ctx context.Context, o *outgoing, done func(session.Outcome)) {
	p := &pendingPublish{done: done}
	p.left.Store(1) // held by this function until all parts are started
	if o.full {
		p.refused.Store(uint32(mqtt.QuotaExceeded))
	}
	subscribers := len(o.match.Durable) + len(o.match.Shares)
	durable, shares := o.match.Durable, o.match.Shares
	for len(durable)+len(shares) > 0 { // both ascend
		var shard uint32
		var flags command.PublishFlags
		if shard, flags, durable, shares = nextShard(durable, shares); shard != o.stored {
			n.routeToShard(ctx, shard, o, flags, p)
		}
	}
	for _, r := range o.match.Nodes {
		if r.Transient {
			subscribers++
			n.routeToNode(ctx, r, o, p)
		}
	}
	if subscribers == 0 {
		p.refused.CompareAndSwap(0, uint32(mqtt.NoMatchingSubscribers))
	}
	p.part(command.Result{}, nil)
}

// nextShard takes the lowest shard from two ascending lists, with what it is for.
func nextShard(durable, shares []uint32) (uint32, command.PublishFlags, []uint32, []uint32) {
	switch {
	case len(shares) == 0 || len(durable) > 0 && durable[0] < shares[0]:
		return durable[0], command.ToInboxes, durable[1:], shares
	case len(durable) == 0 || shares[0] < durable[0]:
		return shares[0], command.ToShares, durable, shares[1:]
	}
	return durable[0], command.ToInboxes | command.ToShares, durable[1:], shares[1:]
}

func (n *Node) routeToShard(ctx context.Context, shard uint32, o *outgoing, flags command.PublishFlags, p *pendingPublish) {
	p.left.Add(1)
	stored := p.stored
	if planted("ack-before-commit") && o.inc == 0 {
		p.part(command.Result{}, nil)
		stored = func(command.Result, uint64, error) {}
	}
	cmd := command.Publish{Tenant: o.tenant, Message: o.raw, Flags: flags, Origin: o.origin}
	encode := func(dst []byte) []byte { return command.AppendPublish(dst, &cmd) }
	var err error
	switch {
	case o.inc != 0:
		err = n.lane(shard).addKept(o.inc, encode, p.storedOrigin)
	case o.ordered:
		err = n.lane(shard).addOver(encode, stored)
	default:
		err = n.lane(shard).add(ctx, encode, stored)
	}
	if err != nil {
		p.part(command.Result{}, err)
	}
}

func (n *Node) routeToNode(ctx context.Context, r router.NodeRoute, o *outgoing, p *pendingPublish) {
	if r.Node == n.id {
		if !n.knownHere(o) {
			n.server.Deliver(o.tenant, o.msg)
		}
		return
	}
	l, err := n.forwardLane(r.Node, r.Incarnation)
	if l == nil && err == nil {
		return // that process is gone, and its subscribers with it
	}
	p.left.Add(1)
	if err == nil {
		encode := func(dst []byte) []byte { return appendForward(dst, o, true, nil) }
		switch {
		case o.inc != 0:
			err = l.addKept(o.inc, encode, p.confirmed)
		case o.ordered:
			err = l.addOver(encode, p.confirmed)
		default:
			err = l.add(ctx, encode, p.confirmed)
		}
	}
	if err != nil {
		p.confirmed(command.Result{}, 0, err)
	}
}

// knownHere tells whether a message of a state machine was delivered here before.
func (n *Node) knownHere(o *outgoing) bool {
	return o.origin.Shard != 0 && n.sink.seenOrigin(o.origin.Shard, o.origin.Seq, o.origin.Low)
}

// storedOrigin is stored for a message of a state machine.
func (p *pendingPublish) storedOrigin(res command.Result, _ uint64, err error) {
	p.part(originResult(res, err))
}

// originResult is what a shard's answer to a message of a state machine means to its pump. One that was
// applied so long ago that its result is gone was applied. One that was refused would be refused again: the
// pump goes on.
func originResult(res command.Result, err error) (command.Result, error) {
	if errors.Is(err, errNoResult) {
		err = nil
	}
	if notStored(res.Code) != nil {
		res.Code = command.OK
	}
	return res, err
}

// originLanes implements originNet.
func (n *Node) originLanes() uint64 {
	if n.lanes.Load() == nil {
		return 0
	}
	return n.incarnation.Load()
}

// shardOf implements originNet.
func (n *Node) shardOf(tenant, key string) uint32 { return n.slotShard(router.Slot(tenant, key)) }

// sendOrigin implements originNet.
func (n *Node) sendOrigin(shard uint32, inc uint64, cmd []byte, done doneFn) error {
	return n.lane(shard).addKept(inc, func(dst []byte) []byte { return append(dst, cmd...) }, done)
}
