package cluster

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"
	"time"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
)

// API keys live in the control group. Any node takes a change, the control
// leader commits it; every node finds keys in what it knows itself, so that
// operators get in without a majority, too.

// GuardLimit is the code of a GuardError for what there may be only so many of.
const GuardLimit = "limit-exceeded"

// APIKeysInUse says that there is an API key, or that this node cannot rule it out.
func (n *Node) APIKeysInUse() bool {
	return n.keys.inUse.Load() || len(n.control.view().APIKeys) > 0
}

// APIKey finds a key by its id in what this node knows. The record is shared: it
// must not be changed.
func (n *Node) APIKey(id string) (*command.APIKey, bool) {
	k, ok := n.knownKeys()[id]
	return k, ok
}

// APIKeys are the keys that this node knows, in the order of their ids.
func (n *Node) APIKeys() []*command.APIKey {
	known := n.knownKeys()
	out := make([]*command.APIKey, 0, len(known))
	for _, id := range sortedKeys(known) {
		out = append(out, known[id])
	}
	return out
}

// keyRequest is what one node asks the control leader: one of the two is set.
type keyRequest struct {
	Put  *command.APIKey `json:"put,omitempty"`
	Drop string          `json:"drop,omitempty"`
}

// keyReply is the answer.
type keyReply struct{ ruling }

// CreateAPIKey commits a key. Only the SHA-256 of the secret leaves this
// function.
func (n *Node) CreateAPIKey(ctx context.Context, k command.APIKey, secret string, ttl time.Duration) (command.APIKey, error) {
	sum := sha256.Sum256([]byte(secret))
	k.Hash, k.CreatedAt = sum[:], n.now()
	if ttl > 0 {
		k.ExpiresAt = k.CreatedAt + ttl.Milliseconds()
	}
	if err := n.askKeys(ctx, keyRequest{Put: &k}); err != nil {
		return command.APIKey{}, err
	}
	// Here at least the key works when its maker has it.
	_ = n.settles(ctx, func() bool { _, ok := n.APIKey(k.ID); return ok })
	return k, nil
}

// DropAPIKey takes a key back, by its id or its name.
func (n *Node) DropAPIKey(ctx context.Context, id string) error {
	if err := n.askKeys(ctx, keyRequest{Drop: id}); err != nil {
		return err
	}
	_ = n.settles(ctx, func() bool { _, ok := n.APIKey(id); return !ok })
	return nil
}

// settles waits a moment for this node to apply what the leader has committed.
func (n *Node) settles(ctx context.Context, cond func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Raft.Heartbeat)
	defer cancel()
	tick := time.NewTicker(bootPoll / 4)
	defer tick.Stop()
	for !cond() {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-n.ctx.Done():
			return ErrStopped
		case <-tick.C:
		}
	}
	return nil
}

// askKeys puts a question to the control leader, here or elsewhere.
func (n *Node) askKeys(ctx context.Context, req keyRequest) error {
	_, err := decide(ctx, n, queryKeys, req, n.control.judgeKey)
	return err
}

// judgeKey decides on the control leader.
func (c *control) judgeKey(ctx context.Context, req keyRequest) (keyReply, error) {
	l, err := c.judging(ctx)
	if err != nil {
		return keyReply{}, err
	}
	if req.Put != nil {
		return keyReply{}, l.putKey(ctx, req.Put)
	}
	return keyReply{}, l.dropKey(ctx, c.view(), req.Drop)
}

func (l *controlLead) putKey(ctx context.Context, k *command.APIKey) error {
	code, err := l.commit(ctx, command.AppendPutAPIKey(nil, &command.PutAPIKey{Key: *k}))
	if err != nil {
		return err
	}
	return refusedKey(code, k)
}

// dropKey takes back the key of an id or a name.
func (l *controlLead) dropKey(ctx context.Context, v *state.ControlView, name string) error {
	id := name
	if v.APIKeys[id] == nil {
		for _, k := range v.APIKeys {
			if k.Name == name {
				id = k.ID
			}
		}
	}
	code, err := l.commit(ctx, command.AppendDropAPIKey(nil, &command.DropAPIKey{ID: strings.Clone(id)}))
	switch {
	case err != nil:
		return err
	case code == command.NoMatch:
		return refuse(GuardNotFound, "there is no API key %s", name)
	case code == command.Denied:
		return refuse(GuardConflict, "API key %s is the last one of an administrator: make another first (flotilla apikey add NAME --role admin), or take back the others before it", name)
	}
	return nil
}

func refusedKey(code command.ResultCode, k *command.APIKey) error {
	switch code {
	case command.OK:
		return nil
	case command.Duplicate:
		return refuse(GuardConflict, "there is an API key named %s: take another name, or take that one back first (flotilla apikey rm %s)", k.Name, k.Name)
	case command.Full:
		return refuse(GuardLimit, "there are too many API keys: take back those that nobody uses")
	case command.Denied:
		return refuse(GuardConflict, "the first API key must have the role admin, no scope, and not have expired: from then on a key is needed, also on loopback")
	default:
		return refuse(GuardInvalid, "the API key could not be stored: %s", code)
	}
}

// Synced returns once this node has applied what was committed in the control
// group before the call.
func (n *Node) Synced(ctx context.Context) error {
	if err := n.control.barrier(ctx); err != nil {
		return fmt.Errorf("%w: the control group: %w", ErrNoLeader, err)
	}
	return nil
}

// Staleness is how long ago this node last heard of the control group's leader,
// negative if it never did.
func (n *Node) Staleness() time.Duration {
	if l := n.control.lead.Load(); l != nil {
		return 0
	}
	return n.lease.age()
}

// Positions are the indexes that the replicas of this node have applied, by group.
func (n *Node) Positions() map[uint32]uint64 {
	out := map[uint32]uint64{}
	if n.control.group.Load() != nil {
		out[0] = n.control.mach.Applied()
	}
	for _, r := range n.allReplicas() {
		out[r.id] = r.mach.Applied()
	}
	return out
}
