package raftfsm

import (
	"errors"
	"io"
	"net"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

const (
	// maxRPCsInFlight switches raft's pipeline off, which can deadlock with a slow peer for good
	// while heartbeats look healthy (guard G4, raft #612).
	maxRPCsInFlight = 1
	// connPool is how many idle connections to one peer are kept: replication, heartbeats, and our
	// own messages run beside each other.
	connPool = 4
)

// serialTransport is raft's network transport without the heartbeat fast path (guard G1, raft #695):
// stock raft handles heartbeats on the transport's goroutine, where they raise the term while the
// main loop writes entries of the old one. The concrete type is embedded, so that pre-vote and Close
// survive.
type serialTransport struct {
	*raft.NetworkTransport
	// replied is told of each answered AppendEntries of raft's.
	replied func(id raft.ServerID, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse)
	// carry makes a heartbeat tell a commit index; false if it has none to tell. nil: none does.
	carry func(id raft.ServerID, req *raft.AppendEntriesRequest) bool
	// answer answers a message from what the follower has said already; false if there is nothing. nil: there never is.
	answer func(id raft.ServerID, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) bool
	// hold repeats a message until it is worth reporting that it failed. nil: each failure is.
	hold func(id raft.ServerID, term uint64, send func() error) error
	// inbox replaces the transport's own stream of requests, so that others can put some in. nil: none.
	inbox chan raft.RPC
	// trunk carries what is small. nil: the group's own streams do.
	trunk *trunkEnd
	// beat delays a heartbeat to the next beat of the node. nil: none is delayed.
	beat func()
}

var (
	_ raft.Transport   = (*serialTransport)(nil)
	_ raft.WithPreVote = (*serialTransport)(nil)
	_ raft.WithClose   = (*serialTransport)(nil)
)

func networkConfig(layer raft.StreamLayer, timeout time.Duration, lg hclog.Logger) *raft.NetworkTransportConfig {
	return &raft.NetworkTransportConfig{
		Stream: layer, MaxPool: connPool, MaxRPCsInFlight: maxRPCsInFlight, Timeout: timeout,
		Logger: lg, MsgpackUseNewTimeFormat: false,
	}
}

func newSerialTransport(cfg *raft.NetworkTransportConfig) *serialTransport {
	return &serialTransport{NetworkTransport: raft.NewNetworkTransportWithConfig(cfg)}
}

// openInbox must be called before raft takes the Consumer.
func (t *serialTransport) openInbox() { t.inbox = make(chan raft.RPC, 1) }

// Consumer implements raft.Transport.
func (t *serialTransport) Consumer() <-chan raft.RPC {
	if t.inbox != nil {
		return t.inbox
	}
	return t.NetworkTransport.Consumer()
}

// Close implements raft.WithClose.
func (t *serialTransport) Close() error {
	t.hangUp()
	return t.NetworkTransport.Close()
}

// hangUp leaves the trunk: calls under way fail, and nothing more comes in.
func (t *serialTransport) hangUp() {
	if t.trunk != nil {
		t.trunk.leave()
	}
}

// forward moves requests of the group's own streams into the inbox until stop closes.
func (t *serialTransport) forward(stop <-chan struct{}) {
	for {
		select {
		case rpc := <-t.NetworkTransport.Consumer():
			select {
			case t.inbox <- rpc:
			case <-stop:
				return
			}
		case <-stop:
			return
		}
	}
}

// timeoutNow asks this replica to stand for election at once. The inbox must be open, and raft running.
func (t *serialTransport) timeoutNow() {
	t.inbox <- raft.RPC{
		Command:  &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax}},
		RespChan: make(chan raft.RPCResponse, 1),
	}
}

// SetHeartbeatHandler does nothing: heartbeats pass the main loop like any other message.
func (t *serialTransport) SetHeartbeatHandler(func(raft.RPC)) {}

// AppendEntries implements raft.Transport.
func (t *serialTransport) AppendEntries(id raft.ServerID, _ raft.ServerAddress,
	req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if t.answer != nil && t.answer(id, req, resp) {
		return nil
	}
	send := func() error { return t.entries(id, req, resp) }
	var err error
	switch {
	case isHeartbeat(req):
		req, err = t.heartbeat(id, req, resp)
	case t.hold != nil:
		err = t.hold(id, req.Term, send)
	default:
		err = send()
	}
	if err == nil && t.replied != nil {
		t.replied(id, req, resp)
	}
	return err
}

// heartbeat sends a heartbeat on the node's next beat, with a commit index if there is one to tell, and returns what was
// answered. A follower that lacks the entry refuses it, which raft would take for a leadership that
// has ended: it gets the heartbeat as raft made it.
func (t *serialTransport) heartbeat(id raft.ServerID,
	req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (*raft.AppendEntriesRequest, error) {
	if t.beat != nil {
		t.beat()
	}
	if told := *req; t.carry != nil && t.carry(id, &told) {
		err := t.entries(id, &told, resp)
		if err != nil || resp.Success || resp.Term != req.Term {
			return &told, err
		}
		*resp = raft.AppendEntriesResponse{}
	}
	return req, t.entries(id, req, resp)
}

// entries sends AppendEntries, with or without entries.
func (t *serialTransport) entries(id raft.ServerID, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	stream := func() error { return t.NetworkTransport.AppendEntries(id, raft.ServerAddress(id), req, resp) }
	if !fitsTrunk(req) {
		return stream()
	}
	return t.viaTrunk(id, frameAppend, req, resp, stream)
}

// viaTrunk sends a request by the trunk, or, if there is none to that node, by the group's own stream.
func (t *serialTransport) viaTrunk(id raft.ServerID, kind frameKind, req, resp any, stream func() error) error {
	if t.trunk != nil {
		if err := t.trunk.call(id, kind, req, resp); !errors.Is(err, errNoTrunk) {
			return err
		}
	}
	return stream()
}

// InstallSnapshot implements raft.Transport. A snapshot is a stream, which cannot be sent again: a
// heartbeat finds out first whether there is somebody to send it to.
func (t *serialTransport) InstallSnapshot(id raft.ServerID, target raft.ServerAddress,
	args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	if t.hold != nil {
		ping := raft.AppendEntriesRequest{RPCHeader: args.RPCHeader, Term: args.Term}
		err := t.hold(id, args.Term, func() error {
			return t.entries(id, &ping, &raft.AppendEntriesResponse{})
		})
		if err != nil {
			return err
		}
	}
	return t.NetworkTransport.InstallSnapshot(id, target, args, resp, data)
}

// RequestVote implements raft.Transport.
func (t *serialTransport) RequestVote(id raft.ServerID, target raft.ServerAddress,
	req *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	return retryStale(func() error {
		return t.viaTrunk(id, frameVote, req, resp, func() error { return t.NetworkTransport.RequestVote(id, target, req, resp) })
	})
}

// RequestPreVote implements raft.WithPreVote.
func (t *serialTransport) RequestPreVote(id raft.ServerID, target raft.ServerAddress,
	req *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return retryStale(func() error {
		return t.viaTrunk(id, framePreVote, req, resp, func() error { return t.NetworkTransport.RequestPreVote(id, target, req, resp) })
	})
}

// TimeoutNow implements raft.Transport.
func (t *serialTransport) TimeoutNow(id raft.ServerID, target raft.ServerAddress,
	req *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	return retryStale(func() error {
		return t.viaTrunk(id, frameTimeoutNow, req, resp, func() error { return t.NetworkTransport.TimeoutNow(id, target, req, resp) })
	})
}

// retryStale repeats a message that went into a connection which the peer has closed: after a peer's
// restart, the pool holds nothing else, and a vote lost to it costs an election timeout, a hand-over
// the hand-over. These messages may arrive twice; replication repeats by itself.
func retryStale(call func() error) error {
	for tries := 0; ; tries++ {
		err := call()
		if tries == connPool || !isStale(err) {
			return err
		}
	}
}

func isStale(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}
