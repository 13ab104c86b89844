package cluster

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
)

// Verification of replicas on an operator's word. In a shard the leader puts a Checkpoint into the log, so every replica takes its
// digest at that very entry, whatever else goes on; it names no digest to compare with, so nobody ends. The control group is quiet:
// its replicas are asked until they answer for one index. What the digests say is told; the leader's own checkpoints (guard G8) end
// a replica that differs.

// Queries of a verification. Numbers are on the wire.
const (
	queryVerifyMark   byte = 64 // the leader puts a mark into the log and answers its index
	queryVerifyDigest byte = 65 // a replica's digest at the mark
	queryVerifyStored byte = 66 // a replica reads all that it has stored
)

// The states of a replica in a verification.
const (
	ReplicaEqual       = "equal"
	ReplicaDiffers     = "differs"
	ReplicaDamaged     = "damaged"
	ReplicaUnreachable = "unreachable"
	ReplicaBehind      = "behind"
)

const (
	// verifyWait bounds the wait of one replica for the mark.
	verifyWait = 10 * time.Second
	// verifyTries is how often a group is tried: another mark may come between.
	verifyTries = 5
	// verifyPause is between two tries.
	verifyPause = 200 * time.Millisecond
)

// VerifyOptions say what is compared.
type VerifyOptions struct {
	// Groups are the groups; none means all.
	Groups []uint32
	// Deep reads all stored records, too.
	Deep bool
}

// Verification is what was found. Its JSON is a contract.
type Verification struct {
	Equal  bool          `json:"equal"`
	Deep   bool          `json:"deep"`
	Groups []VerifyGroup `json:"groups"`
}

// VerifyGroup is one group of it.
type VerifyGroup struct {
	ID       uint32          `json:"id"`
	Kind     string          `json:"kind"`
	Index    uint64          `json:"index"`
	Equal    bool            `json:"equal"`
	Detail   string          `json:"detail,omitempty"`
	Replicas []VerifyReplica `json:"replicas"`
}

// VerifyReplica is one replica of it.
type VerifyReplica struct {
	Node   string `json:"node"`
	State  string `json:"state"`
	Digest string `json:"digest,omitempty"`
	Detail string `json:"detail,omitempty"`
}

// replicaDigest is what a replica answers.
type replicaDigest struct {
	Index  uint64   `json:"index"`
	Digest string   `json:"digest"`
	Damage []string `json:"damage,omitempty"`
}

// Verify compares the replicas of groups, one group after the other. What could not be asked is in the answer. ErrNotMember-like
// refusals are a *GuardError.
func (n *Node) Verify(ctx context.Context, opt VerifyOptions) (Verification, error) {
	v := n.control.view()
	if !v.Formed() {
		return Verification{}, fmt.Errorf("%w: the cluster is not formed yet", ErrNoLeader)
	}
	groups := opt.Groups
	if len(groups) == 0 {
		for id := uint32(0); id <= v.Shards; id++ {
			groups = append(groups, id)
		}
	}
	out := Verification{Equal: true, Deep: opt.Deep, Groups: []VerifyGroup{}}
	for _, id := range groups {
		if id > v.Shards {
			return Verification{}, refuse(GuardNotFound, "there is no group %d: the cluster has groups 0 to %d", id, v.Shards)
		}
		g := n.verifyGroup(ctx, id)
		if opt.Deep {
			n.verifyStored(ctx, &g)
		}
		g.judge()
		out.Equal = out.Equal && g.Equal
		out.Groups = append(out.Groups, g)
		if ctx.Err() != nil {
			return out, context.Cause(ctx)
		}
	}
	return out, nil
}

// replicasOf are the nodes that hold a replica of a group, as its leader says, or else as was planned.
func (n *Node) replicasOf(ctx context.Context, id uint32) []string {
	v := n.control.view()
	info, err := n.groupInfo(ctx, id)
	var nodes []string
	switch {
	case err == nil:
		for _, m := range info.Members {
			nodes = append(nodes, m.ID)
		}
	case id == 0:
		for _, node := range sortedKeys(v.Nodes) {
			if v.Nodes[node].State != command.NodeRemoved {
				nodes = append(nodes, node)
			}
		}
	default:
		nodes = slices.Clone(v.Placement[id])
	}
	slices.Sort(nodes)
	return nodes
}

// verifyGroup asks all replicas of a group for their digest at one index.
func (n *Node) verifyGroup(ctx context.Context, id uint32) VerifyGroup {
	g := VerifyGroup{ID: id, Kind: "shard", Replicas: []VerifyReplica{}}
	if id == 0 {
		g.Kind = "control"
	}
	for try := range verifyTries {
		if try > 0 && sleep(ctx, verifyPause) != nil {
			break
		}
		index, err := n.verifyMark(ctx, id)
		if err != nil {
			g.Detail = fmt.Sprintf("it has no leader that answers: %v", err)
			continue
		}
		g.Index, g.Detail = index, ""
		g.Replicas = n.askReplicas(ctx, id, index)
		if !slices.ContainsFunc(g.Replicas, func(r VerifyReplica) bool { return r.State == ReplicaBehind }) {
			break
		}
	}
	return g
}

// verifyMark makes the leader mark an index.
func (n *Node) verifyMark(ctx context.Context, id uint32) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, verifyWait)
	defer cancel()
	resp, err := n.askLeader(ctx, id, queryVerifyMark, putUint(nil, uint64(id)))
	if err != nil {
		return 0, err
	}
	d := dec{b: resp}
	index := d.uint()
	return index, d.err()
}

func (n *Node) localMark(ctx context.Context, id uint32) (uint64, error) {
	if id == 0 {
		return n.localReadIndex(ctx, 0)
	}
	l := n.leading(id)
	if l == nil {
		return 0, ErrNoLeader
	}
	type answer struct {
		index uint64
		err   error
	}
	ch := make(chan answer, 1)
	batch := command.AppendBatch(nil, &command.BatchHeader{}, command.AppendCheckpoint(nil, &command.Checkpoint{}))
	l.merge.submit(batch, func(_ command.BatchResult, index uint64, err error) { ch <- answer{index, err} })
	select {
	case a := <-ch:
		return a.index, a.err
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

// askReplicas asks all replicas at the same time.
func (n *Node) askReplicas(ctx context.Context, id uint32, index uint64) []VerifyReplica {
	nodes := n.replicasOf(ctx, id)
	out := make([]VerifyReplica, len(nodes))
	var wg sync.WaitGroup
	for i, node := range nodes {
		wg.Add(1)
		go func() {
			defer wg.Done()
			out[i] = n.askReplica(ctx, node, id, index)
		}()
	}
	wg.Wait()
	return out
}

func (n *Node) askReplica(ctx context.Context, node string, id uint32, index uint64) VerifyReplica {
	out := VerifyReplica{Node: node}
	ctx, cancel := context.WithTimeout(ctx, verifyWait)
	defer cancel()
	d, err := n.replicaQuery(ctx, node, queryVerifyDigest, id, index)
	switch {
	case err != nil:
		out.State, out.Detail = ReplicaUnreachable, err.Error()
	case d.Index != index:
		out.State, out.Detail = ReplicaBehind, fmt.Sprintf("it answers for entry %d, not %d", d.Index, index)
	default:
		out.Digest = d.Digest
	}
	return out
}

func (n *Node) replicaQuery(ctx context.Context, node string, q byte, id uint32, index uint64) (replicaDigest, error) {
	var d replicaDigest
	var raw []byte
	var err error
	body := putUint(putUint(nil, uint64(id)), index)
	if node == n.id {
		raw, err = n.answerVerify(ctx, q, &dec{b: body})
	} else {
		raw, err = n.query(ctx, node, q, body)
	}
	if err == nil && json.Unmarshal(raw, &d) != nil {
		err = errFrame
	}
	return d, err
}

// answerVerify serves one replica's part.
func (n *Node) answerVerify(ctx context.Context, q byte, d *dec) ([]byte, error) {
	id, index := uint32(d.uint()), uint64(0)
	if q != queryVerifyMark {
		index = d.uint()
	}
	if err := d.err(); err != nil {
		return nil, err
	}
	var out replicaDigest
	var err error
	switch q {
	case queryVerifyMark:
		at, err := n.localMark(ctx, id)
		return putUint(nil, at), err
	case queryVerifyDigest:
		out, err = n.digestAt(ctx, id, index)
	default:
		out, err = n.checkStored(id)
	}
	if err != nil {
		return nil, err
	}
	return json.Marshal(out)
}

// digestAt is the digest of the local replica at a mark, or at whatever index it can answer for.
func (n *Node) digestAt(ctx context.Context, id uint32, index uint64) (replicaDigest, error) {
	g := n.groupOf(id)
	if g == nil {
		return replicaDigest{}, fmt.Errorf("there is no replica of group %d on this node", id)
	}
	if err := g.WaitApplied(ctx, index); err != nil {
		return replicaDigest{}, fmt.Errorf("it has not applied entry %d: %w", index, err)
	}
	if id == 0 {
		// Entries without data (a leader's barriers) are beyond the machine: what it has applied is the state at the mark.
		before := g.Status().Applied
		_, digest := n.control.mach.Digest()
		at := g.Status().Applied
		if before != at {
			at = 0 // which of the two it belongs to is not known
		}
		return replicaDigest{Index: at, Digest: hex.EncodeToString(digest[:])}, nil
	}
	r := n.replica(id)
	if r == nil {
		return replicaDigest{}, ErrNoLeader
	}
	cp := r.mach.LastCheckpoint()
	return replicaDigest{Index: cp.Index, Digest: hex.EncodeToString(cp.Digest[:])}, nil
}

// verifyStored lets each replica read what it has stored.
func (n *Node) verifyStored(ctx context.Context, g *VerifyGroup) {
	if g.ID == 0 {
		return // its digest covers every byte that it stores
	}
	for i := range g.Replicas {
		r := &g.Replicas[i]
		if r.State == ReplicaUnreachable {
			continue
		}
		d, err := n.replicaQuery(ctx, r.Node, queryVerifyStored, g.ID, 0)
		switch {
		case err != nil:
			r.State, r.Detail = ReplicaUnreachable, err.Error()
		case len(d.Damage) > 0:
			r.State, r.Detail = ReplicaDamaged, fmt.Sprintf("as stored at entry %d: %s", d.Index, strings.Join(d.Damage, "; "))
		}
	}
}

// checkStored reads all that the local replica has stored. It takes as long as it takes.
func (n *Node) checkStored(id uint32) (replicaDigest, error) {
	r := n.replica(id)
	if r == nil {
		return replicaDigest{}, fmt.Errorf("there is no replica of group %d on this node", id)
	}
	st, done, err := r.group.StoredView()
	if err != nil {
		return replicaDigest{}, err
	}
	index, damage, err := state.CheckStored(id, endingStore{Store: st, ctx: n.ctx})
	if closeErr := done(); err == nil {
		err = closeErr
	}
	if err != nil {
		damage = append(damage, err.Error())
	}
	return replicaDigest{Index: index, Damage: damage}, nil
}

// endingStore ends a long look at a store when the node stops.
type endingStore struct {
	state.Store
	ctx context.Context
}

// Iterate implements state.Store.
func (e endingStore) Iterate(lower, upper []byte, fn func(k, v []byte) bool) error {
	ended := false
	err := e.Store.Iterate(lower, upper, func(k, v []byte) bool {
		ended = e.ctx.Err() != nil
		return !ended && fn(k, v)
	})
	if ended {
		return ErrStopped
	}
	return err
}

// judge names the replicas that differ: from the majority, or all of them if no majority agrees.
func (g *VerifyGroup) judge() {
	votes := map[string]int{}
	answered := 0
	for i := range g.Replicas {
		if r := &g.Replicas[i]; r.State == "" || r.State == ReplicaDamaged {
			votes[r.Digest]++
			answered++
		}
	}
	majority := ""
	for digest, n := range votes {
		if n > len(g.Replicas)/2 || len(votes) == 1 {
			majority = digest
		}
	}
	g.Equal = len(g.Replicas) > 0 && answered == len(g.Replicas)
	for i := range g.Replicas {
		r := &g.Replicas[i]
		if r.State == "" {
			r.State = ReplicaEqual
			if r.Digest != majority {
				r.State = ReplicaDiffers
			}
		}
		g.Equal = g.Equal && r.State == ReplicaEqual
	}
	switch {
	case len(votes) > 1 && majority == "":
		g.Detail = "no majority of the replicas agrees"
	case len(g.Replicas) == 0 && g.Detail == "":
		g.Detail = "none of its replicas could be asked"
	}
}
