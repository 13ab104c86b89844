package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/flotilla-mqtt/flotilla/cluster/peer"
	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
	"github.com/flotilla-mqtt/flotilla/session"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

const mqttServerUnavailable = mqtt.ServerUnavailable

// applied takes the effects of an entry that this node's replica of a shard has
// applied. It runs on the apply goroutine and does not block.
func (n *Node) applied(shard uint32, e *state.Effects) {
	l := n.leading(shard)
	for i := range e.Wakes {
		w := &e.Wakes[i]
		if w.Node == n.id {
			n.server.Wake(w.Key, w.Epoch)
		} else if l != nil && !n.holdsReplica(shard, w.Node) {
			_ = n.links.Send(w.Node, peer.KindWake, appendRef(nil, command.SessionRef{SessionKey: w.Key, Epoch: w.Epoch})) // wakeRemote covers a loss
		}
	}
	for i := range e.Kicks {
		k := &e.Kicks[i]
		if k.Node == n.id {
			n.server.Kick(k.Key, k.Epoch, kickCode(k.Reason))
		} else if l != nil && !n.holdsReplica(shard, k.Node) {
			b := appendRef(nil, command.SessionRef{SessionKey: k.Key, Epoch: k.Epoch})
			_ = n.links.Send(k.Node, peer.KindKick, append(b, byte(k.Reason))) // the old epoch can change nothing anyway
		}
	}
	if l == nil {
		return
	}
	if planted("route-update-dropped") && e.Index%4 == 0 {
		e.Routes = nil
	}
	if len(e.Routes) > 0 {
		l.feed.publish(e.Index, e.Routes)
	}
	if e.Origins {
		l.origins.kick()
	}
}

// holdsReplica tells whether a node applies the shard's log itself.
func (n *Node) holdsReplica(shard uint32, node string) bool {
	return slices.Contains(n.control.view().Placement[shard], node)
}

func kickCode(r state.KickReason) mqtt.ReasonCode {
	switch r {
	case state.KickEnded:
		return mqtt.AdministrativeAction
	case state.KickOverflow:
		return mqtt.QuotaExceeded
	default:
		return mqtt.SessionTakenOver
	}
}

// wakeRemote wakes every connected session whose shard has no replica here. It
// runs once a second, so that a wake-up that was lost with a link costs a
// second and not the message.
func (n *Node) wakeRemote() {
	if len(n.allReplicas()) == len(n.allLanes()) {
		return
	}
	n.wakeSessions(func(shard uint32) bool { return n.replica(shard) == nil })
}

// wakeSessions wakes the connected durable sessions of the shards that match.
func (n *Node) wakeSessions(match func(shard uint32) bool) {
	after := ""
	for {
		page := n.server.Clients("", after, 1000)
		for i := range page {
			key := command.SessionKey{Tenant: page[i].Tenant, ClientID: page[i].ClientID}
			if page[i].Durable && match(n.sessionShard(key)) {
				n.server.Wake(key, page[i].Epoch)
			}
			after = page[i].ClientID
		}
		if len(page) < 1000 {
			return
		}
	}
}

// deliverLocal hands a forwarded message to this node's subscribers, and to one
// member of each share that was picked for this node.
func (n *Node) deliverLocal(f *forwarded, m *command.Message) {
	if f.plain {
		n.server.Deliver(f.tenant, m)
	}
	for _, p := range f.picks {
		if !n.server.DeliverShare(f.tenant, p.name, p.filter, m) {
			n.countDropped("share_unreached", 1)
		}
	}
}

// Fetch implements session.Inbox: from the local replica, where replication was
// the fan-out, or from the shard's leader.
func (n *Node) Fetch(ctx context.Context, ref command.SessionRef, cursor uint64, maxMsgs, maxBytes int) (session.Page, error) {
	shard := n.sessionShard(ref.SessionKey)
	if r := n.replica(shard); r != nil {
		p, err := r.mach.Fetch(ref, cursor, maxMsgs, maxBytes)
		switch {
		case errors.Is(err, state.ErrNotYet), errors.Is(err, state.ErrReloaded):
			return session.Page{Next: cursor}, nil // apply wakes the session when there is something
		case errors.Is(err, state.ErrStaleEpoch):
			return session.Page{}, session.ErrStale
		case err != nil:
			return session.Page{}, fmt.Errorf("%w: %w", session.ErrUnavailable, err)
		}
		p.Now = max(p.Now, r.clock.now()) // an idle group's last entry may be old
		return toPage(&p), nil
	}
	leader := n.leaderOf(shard)
	if leader == "" || leader == n.id {
		return session.Page{Next: cursor}, nil // wakeRemote tries again
	}
	resp, err := n.links.CallWait(ctx, leader, peer.KindFetch, appendFetch(nil, shard, ref, cursor, maxMsgs, maxBytes))
	if err != nil {
		n.hint(shard, "")
		return session.Page{Next: cursor}, nil // wakeRemote tries again
	}
	return n.decodeFetched(shard, cursor, resp)
}

func toPage(p *state.Page) session.Page {
	out := session.Page{Next: p.Next, More: p.More, Clamped: p.Clamped, Floor: p.Floor, Now: p.Now}
	out.Deliveries = make([]session.Delivery, len(p.Deliveries))
	for i := range p.Deliveries {
		d := &p.Deliveries[i]
		out.Deliveries[i] = session.Delivery{
			Seq: d.Seq, Msg: d.Msg, QoS: d.QoS, Retain: d.Retain, SubIDs: d.SubIDs,
			State: session.DeliveryState(d.State), Dup: d.Dup, ExpiresAt: d.ExpiresAt,
		}
	}
	return out
}

// effective returns when every gateway that is up routes what the shard had at
// index (I5), and what the commands that it originated up to gate changed in other
// shards. It asks the shard's leader, and the next one if that fails.
func (n *Node) effective(ctx context.Context, shard uint32, index, gate uint64) error {
	if planted("suback-before-gateways") {
		return nil
	}
	for {
		_, err := n.askLeader(ctx, shard, queryEffective, putUint(putUint(putUint(nil, uint64(shard)), index), gate))
		if err == nil {
			return nil
		}
		if ctx.Err() != nil || n.ctx.Err() != nil || !n.lease.held() {
			return fmt.Errorf("%w: %w", session.ErrUnavailable, err)
		}
		if err := sleep(ctx, laneRetry); err != nil {
			return fmt.Errorf("%w: %w", session.ErrUnavailable, err)
		}
	}
}

// willTimeout bounds how long a CONNACK waits for the will of an earlier connection: a shard without a majority must not
// keep the clients of others away.
const willTimeout = 2 * time.Second

// waitWill returns when a will of an earlier connection of a client has reached its topic's shard and its subscribers. What the
// client publishes after its CONNACK comes behind it: "offline" of the last connection, "online" of this one.
func (n *Node) waitWill(ctx context.Context, shard uint32, seq uint64) {
	ctx, cancel := context.WithTimeout(ctx, willTimeout)
	defer cancel()
	for {
		_, err := n.askLeader(ctx, shard, queryWill, putUint(putUint(nil, uint64(shard)), seq))
		if err == nil {
			return
		}
		if sleep(ctx, laneRetry) != nil { // what the client says next may come before it
			n.lg.Info("a client is let in before the will of its last connection is delivered", zap.Uint32("shard", shard), zap.Error(err))
			return
		}
	}
}
