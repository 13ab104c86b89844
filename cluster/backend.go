package cluster

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/session"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

var (
	_ session.Sessions  = (*Node)(nil)
	_ session.Publisher = (*Node)(nil)
	_ session.Inbox     = (*Node)(nil)
	_ session.Retained  = (*Node)(nil)
)

// propose puts a command into a shard's lane and waits for its outcome. late
// is called if the outcome arrives after ctx has ended; it may be nil.
func (n *Node) propose(ctx context.Context, shard uint32, encode func([]byte) []byte, late func(command.Result)) (command.Result, uint64, error) {
	if !n.mayRoute() {
		return command.Result{}, 0, session.ErrUnavailable
	}
	type outcome struct {
		res   command.Result
		index uint64
		err   error
	}
	ch := make(chan outcome, 1)
	var settled atomic.Bool // by the outcome or by the end of ctx, whichever came first
	var undo doneFn
	if late != nil {
		undo = func(res command.Result, _ uint64, err error) {
			if err == nil {
				late(res)
			}
		}
	}
	err := n.lane(shard).addLate(ctx, encode, func(res command.Result, index uint64, err error) {
		if settled.CompareAndSwap(false, true) {
			ch <- outcome{res, index, err}
		} else if undo != nil {
			undo(res, index, err)
		}
	}, undo)
	if err != nil {
		return command.Result{}, 0, fmt.Errorf("%w: %w", session.ErrUnavailable, err)
	}
	var o outcome
	select {
	case o = <-ch:
	case <-ctx.Done():
		if settled.CompareAndSwap(false, true) {
			return command.Result{}, 0, fmt.Errorf("%w: %w", session.ErrUnavailable, context.Cause(ctx))
		}
		o = <-ch
	}
	if o.err != nil {
		return o.res, o.index, fmt.Errorf("%w: %w", session.ErrUnavailable, o.err)
	}
	return o.res, o.index, nil
}

// shareRoom bounds what a member of a share is given at a time. From the assignment until the share
// hears of the acknowledgement are four commits: with eight members and 128 each, that alone bounded a
// share at 20,000 messages/s.
const shareRoom = 512

// Connect implements session.Sessions.
func (n *Node) Connect(ctx context.Context, req session.ConnectRequest) (session.Attached, error) {
	if err := n.limits.admitClient(); err != nil {
		return session.Attached{}, err
	}
	cmd := command.Connect{
		Key: req.Key, Node: n.id, Incarnation: n.incarnation.Load(), Token: req.Token,
		CleanStart: req.CleanStart, ExpiryS: req.ExpiryS, ReceiveMax: req.ReceiveMax,
		Version: byte(req.Version), Username: req.Username, SameUser: req.SameUser, ConnectedAt: req.ConnectedAt, ShareRoom: shareRoom,
	}
	if req.Will != nil {
		cmd.HasWill, cmd.Will = true, *req.Will
	}
	shard := n.sessionShard(req.Key)
	res, index, err := n.propose(ctx, shard, func(dst []byte) []byte { return command.AppendConnect(dst, &cmd) },
		func(res command.Result) { // nobody waits any more: give the session up again
			if res.Code == command.OK {
				ref := command.SessionRef{SessionKey: req.Key, Epoch: res.Epoch}
				n.Disconnect(ref, session.DisconnectInfo{Reason: command.DisconnectNormal})
			}
		})
	if err != nil {
		return session.Attached{}, err
	}
	if res.Code != command.OK {
		return session.Attached{}, refusal(res.Code)
	}
	at := session.Attached{
		Ref:     command.SessionRef{SessionKey: req.Key, Epoch: res.Epoch},
		Present: res.Present || planted("session-present-always"), Subs: res.Subs, AwaitingRelease: res.AwaitingRelease, ExpiryS: res.ExpiryS,
		Replays: pendingReplays(res.Subs, res.Replays),
	}
	n.sharers.note(at.Ref, res.Subs)
	if res.Gate != 0 {
		n.waitWill(ctx, shard, res.Gate)
	}
	if res.Present && len(res.Subs) > 0 {
		// I10: what the session holds is routable before CONNACK.
		if err := n.effective(ctx, shard, index, 0); err != nil {
			n.Disconnect(at.Ref, session.DisconnectInfo{Reason: command.DisconnectLost})
			return session.Attached{}, err
		}
	}
	return at, nil
}

// Disconnect implements session.Sessions. It is not lost: if the lane is reset
// or this node dies, the incarnation's loss disconnects the session.
func (n *Node) Disconnect(ref command.SessionRef, info session.DisconnectInfo) {
	n.sharers.drop(ref)
	cmd := command.Disconnect{Ref: ref, Reason: info.Reason, HasExpiry: info.HasExpiry, ExpiryS: info.ExpiryS, SentTo: info.SentTo}
	n.lane(n.sessionShard(ref.SessionKey)).push(func(dst []byte) []byte { return command.AppendDisconnect(dst, &cmd) })
}

// Subscribe implements session.Sessions.
func (n *Node) Subscribe(ctx context.Context, ref command.SessionRef, subs []command.Subscription) ([]session.Granted, error) {
	cmd := command.Subscribe{Ref: ref, Subs: subs, Replay: true, ShareRoom: shareRoom}
	shard := n.sessionShard(ref.SessionKey)
	res, index, err := n.propose(ctx, shard, func(dst []byte) []byte { return command.AppendSubscribe(dst, &cmd) }, nil)
	if err != nil {
		return nil, err
	}
	if res.Code != command.OK || len(res.Codes) != len(subs) {
		return nil, refusal(res.Code)
	}
	if err := n.effective(ctx, shard, index, res.Gate); err != nil {
		return nil, err
	}
	n.sharers.note(ref, subs)
	granted := make([]session.Granted, len(subs))
	for i := range granted {
		granted[i] = session.Granted{Code: res.Codes[i], Existed: i < len(res.Existed) && res.Existed[i]}
		granted[i].Replay = slices.ContainsFunc(res.Replays, func(p command.PendingReplay) bool { return p.Filter == subs[i].Filter })
	}
	return granted, nil
}

// Unsubscribe implements session.Sessions. Nobody waits for the gateways: the
// shard's log alone decides what is added to the session (I6).
func (n *Node) Unsubscribe(ctx context.Context, ref command.SessionRef, filters []string) ([]byte, error) {
	cmd := command.Unsubscribe{Ref: ref, Filters: filters}
	res, _, err := n.propose(ctx, n.sessionShard(ref.SessionKey), func(dst []byte) []byte { return command.AppendUnsubscribe(dst, &cmd) }, nil)
	if err != nil {
		return nil, err
	}
	if res.Code != command.OK || len(res.Codes) != len(filters) {
		return nil, refusal(res.Code)
	}
	return res.Codes, nil
}

// Ack implements session.Inbox.
func (n *Node) Ack(ref command.SessionRef, a session.Ack, done func(error)) {
	delay := laneAckDelay
	if n.sharers.has(ref) {
		delay = laneShareAckDelay
	}
	n.lane(n.sessionShard(ref.SessionKey)).ack(ref, a.SentTo, a.Done, a.Received, delay, done)
}

// refusal maps a result that is no success to what session understands.
func refusal(code command.ResultCode) error {
	switch code {
	case command.StaleEpoch, command.UnknownSession:
		return session.ErrStale
	case command.Full:
		return session.ErrRefused(mqtt.QuotaExceeded, "quota exceeded")
	case command.WrongUser:
		return session.ErrRefused(mqtt.ClientIdentifierNotValid, "client id is not allowed")
	case command.Invalid:
		return session.ErrRefused(mqtt.ImplementationSpecificError, "the command is not valid here")
	default:
		return session.ErrUnavailable
	}
}
