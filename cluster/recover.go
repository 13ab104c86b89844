package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/flotilla-mqtt/flotilla/raftfsm"
	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
)

// Recovery after the loss of a majority: offline, over the data directories of all nodes that are left. Each group becomes what its
// newest replica among them has, with that replica as its only voter; everything in its log counts as committed. By the election rule
// that replica has every committed entry that any of the others has: it would win an election among them. The other replicas are
// dropped and come back over the network, as those of new nodes do. A group of which no replica is left begins anew, empty. All nodes
// whose directory is not named are put out for good, since what they have may be of a future that is gone. raftfsm/DESIGN.md has the proof.

// ErrRecoverNeedless says that the nodes are a majority: they only have to be started.
var ErrRecoverNeedless = errors.New("recovery is not needed")

// RecoverOptions say what is left of a cluster.
type RecoverOptions struct {
	// DataDirs are the data directories of all nodes that are left, one each. The nodes are stopped.
	DataDirs []string
	// Logger may be nil.
	Logger *zap.Logger
}

// RecoverPlan says what a recovery would do, and what may be lost. Its JSON is a contract.
type RecoverPlan struct {
	ClusterID string         `json:"cluster_id"`
	Survivors []RecoverNode  `json:"survivors"`
	Removed   []string       `json:"removed"` // nodes that are put out for good
	Groups    []RecoverGroup `json:"groups"`
	Warnings  []string       `json:"warnings"`
	Settled   RecoverSettled `json:"settled"`
}

// RecoverNode is a node that is left.
type RecoverNode struct {
	ID      string   `json:"id"`
	DataDir string   `json:"data_dir"`
	Roles   []string `json:"roles"`
}

// RecoverGroup is one group.
type RecoverGroup struct {
	ID   uint32 `json:"id"`
	Kind string `json:"kind"` // control, shard
	// Node has the replica that the group is made of, or begins an empty one if Lost.
	Node string `json:"node"`
	Lost bool   `json:"lost"`
	// Voters are those of the group so far.
	Voters []string `json:"voters"`
	// Entries FirstIndex to LastIndex are in the log; those up to AppliedIndex were committed for certain.
	FirstIndex   uint64     `json:"first_index"`
	LastIndex    uint64     `json:"last_index"`
	LastTerm     uint64     `json:"last_term"`
	AppliedIndex uint64     `json:"applied_index"`
	NewestAt     *time.Time `json:"newest_entry_at"`
	// Of a shard: its slots, and what is kept.
	Slots           string   `json:"slots,omitempty"`
	Sessions        int      `json:"sessions"`
	DurableSessions int      `json:"durable_sessions"`
	QueuedMessages  uint64   `json:"queued_messages"`
	Retained        int      `json:"retained_messages"`
	Shares          int      `json:"shares"`
	SessionIDs      []string `json:"session_ids,omitempty"` // durable ones, at most RecoverMaxSessions
	// Others are the replicas on other survivors, which are dropped and filled again.
	Others []RecoverReplica `json:"other_replicas,omitempty"`
}

// RecoverReplica is a replica that was not chosen.
type RecoverReplica struct {
	Node      string `json:"node"`
	LastIndex uint64 `json:"last_index"`
	LastTerm  uint64 `json:"last_term"`
}

// RecoverSettled counts what is between shards and cannot be kept.
type RecoverSettled struct {
	// ShareMembers are members of shares whose session is lost or has forgotten the subscription.
	ShareMembers int `json:"share_members"`
	// JoinTokens are taken back; Operations were under way.
	JoinTokens int `json:"join_tokens"`
	Operations int `json:"operations"`
}

// RecoverMaxSessions is how many session ids a plan names per group.
const RecoverMaxSessions = 10_000

// Recovery is a plan that can be carried out. It keeps the directories locked until Apply or Close.
type Recovery struct {
	Plan RecoverPlan

	lg      *zap.Logger
	dirs    []*recoverDir
	view    *state.ControlView
	control *recoverGroup
	shards  []*recoverGroup
}

// recoverDir is a directory that is left.
type recoverDir struct {
	dir    string
	ident  *identity
	off    *raftfsm.Offline
	groups map[uint32]*raftfsm.OfflineGroup
}

// recoverGroup is one group on its way.
type recoverGroup struct {
	id      uint32
	chosen  *recoverDir // whose replica counts, or where it begins
	replica *raftfsm.OfflineGroup
	others  []*recoverDir
	end     uint64 // of the chosen replica
	endTerm uint64
	applied uint64 // of its stored machine
	entry   []byte // what is put behind it
	mach    *state.Shard
	facts   state.Facts
}

// PlanRecover reads the directories and decides. It changes nothing. ErrRecoverNeedless, ErrIdentity, ErrConfig, and those of
// raftfsm.OpenOffline.
func PlanRecover(ctx context.Context, opt RecoverOptions) (_ *Recovery, err error) {
	r := &Recovery{lg: opt.Logger}
	if r.lg == nil {
		r.lg = zap.NewNop()
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	if err := r.openDirs(opt.DataDirs); err != nil {
		return nil, err
	}
	if err := r.chooseControl(); err != nil {
		return nil, err
	}
	for id := uint32(1); id <= r.view.Shards; id++ {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err := r.chooseShard(id); err != nil {
			return nil, err
		}
	}
	if err := r.refuseNeedless(); err != nil {
		return nil, err
	}
	r.placeLost()
	return r, r.compose()
}

// Close gives the directories free.
func (r *Recovery) Close() error {
	var err error
	for _, d := range r.dirs {
		if d.off != nil {
			err = errors.Join(err, d.off.Close())
			d.off, d.groups = nil, nil
		}
	}
	return err
}

func (r *Recovery) openDirs(dirs []string) error {
	if len(dirs) == 0 {
		return fmt.Errorf("%w: name the data directory of each node that is left", ErrConfig)
	}
	for _, dir := range dirs {
		d, err := openRecoverDir(dir, r.lg)
		if err != nil {
			return err
		}
		r.dirs = append(r.dirs, d)
		first := r.dirs[0]
		if d.ident.clusterID() != first.ident.clusterID() {
			return fmt.Errorf("%w: %s is of cluster %s, %s of cluster %s", ErrIdentity, dir, d.ident.clusterID(), first.dir, first.ident.clusterID())
		}
		for _, other := range r.dirs[:len(r.dirs)-1] {
			if other.ident.NodeID == d.ident.NodeID {
				return fmt.Errorf("%w: %s and %s both say that they are node %s", ErrIdentity, other.dir, dir, d.ident.NodeID)
			}
		}
	}
	return nil
}

// openRecoverDir opens one directory, with its identity and its replicas.
func openRecoverDir(dir string, lg *zap.Logger) (_ *recoverDir, err error) {
	if _, err := os.Stat(identityPath(dir)); err != nil {
		return nil, fmt.Errorf("%w: %s is no data directory of a node: %w", raftfsm.ErrNoData, dir, err)
	}
	d := &recoverDir{dir: dir, groups: map[uint32]*raftfsm.OfflineGroup{}}
	if d.ident, err = loadIdentity(dir, ""); err != nil {
		return nil, err
	}
	if !d.ident.Formed || d.ident.Agreed == nil {
		return nil, fmt.Errorf("%w: node %s in %s was never in a cluster", ErrIdentity, d.ident.NodeID, dir)
	}
	if d.off, err = raftfsm.OpenOffline(dir, lg); err != nil {
		return nil, err
	}
	fail := func(err error) (*recoverDir, error) { return nil, errors.Join(err, d.off.Close()) }
	if d.off.NodeID() != d.ident.NodeID {
		return fail(fmt.Errorf("%w: %s is of node %s, its stores are of node %s", ErrIdentity, dir, d.ident.NodeID, d.off.NodeID()))
	}
	ids, err := d.off.Groups()
	if err != nil {
		return fail(err)
	}
	for _, id := range ids {
		if d.groups[id], err = d.off.Group(id, id == 0); err != nil {
			return fail(fmt.Errorf("%s: %w", dir, err))
		}
	}
	return d, nil
}

// choose finds the newest replica of a group: it has every committed entry that any of the others has.
func (r *Recovery) choose(id uint32) (*recoverGroup, error) {
	g := &recoverGroup{id: id}
	for _, d := range r.dirs {
		rep := d.groups[id]
		if rep == nil || rep.Replica.Empty() {
			if rep != nil {
				g.others = append(g.others, d)
			}
			continue
		}
		end, term, err := endOf(rep)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", d.dir, err)
		}
		if rep.Replica.Applied() > end && len(r.dirs) > 1 {
			r.warn("group %d: node %s has installed a snapshot that is newer than its log; its state counts up to %d", id, d.ident.NodeID, rep.Replica.Applied())
		}
		end = max(end, rep.Replica.Applied())
		if g.chosen != nil && cmp.Or(cmp.Compare(term, g.endTerm), cmp.Compare(end, g.end)) <= 0 {
			g.others = append(g.others, d)
			continue
		}
		if g.chosen != nil {
			g.others = append(g.others, g.chosen)
		}
		g.chosen, g.replica, g.end, g.endTerm = d, rep, end, term
	}
	return g, nil
}

// endOf is the last entry that a replica vouches for. A log that conflicts with the snapshot under it is dropped at the next start
// (guard G2), so it counts for nothing.
func endOf(g *raftfsm.OfflineGroup) (index, term uint64, err error) {
	f := &g.Replica
	index, term = f.End()
	s := f.Snapshot
	if s == nil || s.Index < f.First || s.Index > f.Last {
		return index, term, nil
	}
	err = g.Entries(s.Index, s.Index, func(e *raftfsm.LogEntry) bool {
		if e.Term != s.Term {
			index, term = s.Index, s.Term
		}
		return false
	})
	return index, term, err
}

func (r *Recovery) chooseControl() error {
	g, err := r.choose(0)
	if err != nil {
		return err
	}
	if g.chosen == nil {
		return fmt.Errorf("%w: none of these nodes has the control group: there is nothing to recover from", ErrIdentity)
	}
	mach := offlineControl{state.NewControl()}
	if g.applied, err = g.replica.Load(mach); err != nil {
		return fmt.Errorf("%s: %w", g.chosen.dir, err)
	}
	r.control, r.view = g, mach.View()
	if id := r.dirs[0].ident.clusterID(); r.view.ClusterID != id {
		return fmt.Errorf("%w: node.json says cluster %s, the control group %q", ErrIdentity, id, r.view.ClusterID)
	}
	for _, d := range r.dirs {
		if n := r.view.Nodes[d.ident.NodeID]; n == nil || n.State == command.NodeRemoved {
			return fmt.Errorf("%w: node %s in %s is no member of the cluster any more: leave its directory out", ErrIdentity, d.ident.NodeID, d.dir)
		}
	}
	return r.describe(g, nil)
}

func (r *Recovery) chooseShard(id uint32) error {
	g, err := r.choose(id)
	if err != nil {
		return err
	}
	r.shards = append(r.shards, g)
	if g.chosen == nil {
		r.Plan.Groups = append(r.Plan.Groups, RecoverGroup{
			ID: id, Kind: "shard", Lost: true, Voters: slices.Clone(r.view.Placement[id]), Slots: slotsText(r.view, id),
		})
		return nil
	}
	if n := g.chosen.ident.NodeID; !contains(r.view.Placement[id], n) {
		r.warn("group %d: node %s was not meant to have a replica any more; what it has is all that is left, and may be old", id, n)
	}
	g.mach = state.NewShard(id, state.Options{Settings: formedSettings(r.view)})
	if g.applied, err = g.replica.Load(offlineShard{g.mach}); err != nil {
		return fmt.Errorf("%s: %w", g.chosen.dir, err)
	}
	g.facts = g.mach.Facts()
	return r.describe(g, g.mach)
}

// describe says in the plan what a group keeps.
func (r *Recovery) describe(g *recoverGroup, m *state.Shard) error {
	out := RecoverGroup{
		ID: g.id, Kind: "control", Node: g.chosen.ident.NodeID, FirstIndex: g.replica.Replica.First, LastIndex: g.end, LastTerm: g.endTerm,
		AppliedIndex: min(max(g.applied, g.replica.Replica.StateIndex), g.end), Voters: []string{},
	}
	if s := g.replica.Replica.Snapshot; s != nil {
		out.AppliedIndex = max(out.AppliedIndex, s.Index)
	}
	members, _, err := g.replica.Members()
	if err != nil {
		return fmt.Errorf("%s: %w", g.chosen.dir, err)
	}
	for _, m := range members {
		if m.Voter {
			out.Voters = append(out.Voters, m.ID)
		}
	}
	err = g.replica.Entries(g.replica.Replica.Last, 0, func(e *raftfsm.LogEntry) bool {
		if !e.AppendedAt.IsZero() {
			at := e.AppendedAt.UTC()
			out.NewestAt = &at
		}
		return true
	})
	if err != nil {
		return err
	}
	for _, d := range g.others {
		f := &d.groups[g.id].Replica
		last, term := f.End()
		out.Others = append(out.Others, RecoverReplica{Node: d.ident.NodeID, LastIndex: last, LastTerm: term})
	}
	if m != nil {
		out.Kind, out.Slots = "shard", slotsText(r.view, g.id)
		st := m.Stats()
		out.Sessions, out.DurableSessions, out.Shares = st.Sessions, st.Durable, st.Shares
		out.QueuedMessages, out.Retained = st.InboxMessages, st.RetainedMessages
		items, _ := m.Sessions(command.SessionKey{}, RecoverMaxSessions)
		for i := range items {
			if items[i].Durable {
				out.SessionIDs = append(out.SessionIDs, items[i].Key.ClientID)
			}
		}
	}
	r.Plan.Groups = append(r.Plan.Groups, out)
	return nil
}

// refuseNeedless refuses to take nodes out of a cluster that these nodes can form by themselves.
func (r *Recovery) refuseNeedless() error {
	for i := range r.Plan.Groups {
		g := &r.Plan.Groups[i]
		have := 0
		for _, d := range r.dirs {
			rep := d.groups[g.ID]
			if contains(g.Voters, d.ident.NodeID) && rep != nil && !rep.Replica.Empty() {
				have++
			}
		}
		if g.Lost || have < len(g.Voters)/2+1 {
			return nil
		}
	}
	return fmt.Errorf("%w: these nodes are a majority of every group: start them, and take the others out with flotilla node remove", ErrRecoverNeedless)
}

func (r *Recovery) warn(format string, args ...any) {
	r.Plan.Warnings = append(r.Plan.Warnings, fmt.Sprintf(format, args...))
}

// slotsText names the slots of a shard.
func slotsText(v *state.ControlView, shard uint32) string {
	text := ""
	for from := 0; from < len(v.Slots); from++ {
		if v.Slots[from] != shard {
			continue
		}
		to := from
		for to+1 < len(v.Slots) && v.Slots[to+1] == shard {
			to++
		}
		if text != "" {
			text += ","
		}
		text += fmt.Sprintf("%d-%d", from, to)
		from = to
	}
	return text
}
