package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"go.uber.org/zap"

	"github.com/flotilla-mqtt/flotilla/raftfsm"
	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
	"github.com/flotilla-mqtt/flotilla/router"
)

// Inspection is the data directory of a stopped node, to be looked at. It changes nothing.
type Inspection struct {
	dir   string
	ident *identity
	off   *raftfsm.Offline
}

// Inspect opens a directory. Errors as of raftfsm.OpenOffline, and ErrIdentity.
func Inspect(dir string, lg *zap.Logger) (*Inspection, error) {
	if _, err := os.Stat(identityPath(dir)); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s has no node.json", raftfsm.ErrNoData, dir)
	}
	ident, err := loadIdentity(dir, "")
	if err != nil {
		return nil, err
	}
	off, err := raftfsm.OpenOffline(dir, lg)
	if err != nil {
		return nil, err
	}
	return &Inspection{dir: dir, ident: ident, off: off}, nil
}

// Close gives the directory free.
func (in *Inspection) Close() error { return in.off.Close() }

// ReplicaReport is what the files of a replica say. Its JSON is a contract.
type ReplicaReport struct {
	Node       string `json:"node"`
	Cluster    string `json:"cluster_id"`
	Group      uint32 `json:"group"`
	Kind       string `json:"kind"`
	Term       uint64 `json:"term"`
	VoteTerm   uint64 `json:"vote_term"`
	VotedFor   string `json:"voted_for"`
	FirstIndex uint64 `json:"first_index"`
	LastIndex  uint64 `json:"last_index"`
	LastTerm   uint64 `json:"last_term"`
	// MarkIndex is the index below which neither log nor snapshot may end, TailIndex what was noted last as durable.
	MarkIndex uint64 `json:"mark_index"`
	TailIndex uint64 `json:"tail_index"`
	// Members are those of the newest configuration, which stands at ConfigurationIndex.
	Members            []MemberReport  `json:"members"`
	ConfigurationIndex uint64          `json:"configuration_index"`
	Snapshot           *SnapshotReport `json:"snapshot"`
	// StateIndex is the last entry that the state database holds. Generation counts installed snapshots.
	StateIndex uint64 `json:"state_index"`
	Generation uint32 `json:"generation"`
	StateKeys  int    `json:"state_keys"`
	StateBytes int64  `json:"state_bytes"`
	// Incoming says that a snapshot was being received when the node stopped.
	Incoming bool `json:"incoming"`
}

// MemberReport is a member of a group.
type MemberReport struct {
	ID    string `json:"id"`
	Voter bool   `json:"voter"`
}

// SnapshotReport is the marker of a snapshot.
type SnapshotReport struct {
	Index              uint64         `json:"index"`
	Term               uint64         `json:"term"`
	ConfigurationIndex uint64         `json:"configuration_index"`
	Members            []MemberReport `json:"members"`
}

// Groups are the groups of the directory.
func (in *Inspection) Groups() ([]uint32, error) { return in.off.Groups() }

func (in *Inspection) group(id uint32) (*raftfsm.OfflineGroup, error) {
	ids, err := in.off.Groups()
	if err != nil {
		return nil, err
	}
	for _, have := range ids {
		if have == id {
			return in.off.Group(id, id == 0)
		}
	}
	return nil, fmt.Errorf("%w: node %s has no replica of group %d; it has %v", raftfsm.ErrNoData, in.ident.NodeID, id, ids)
}

// Replica reports one replica.
func (in *Inspection) Replica(id uint32) (ReplicaReport, error) {
	g, err := in.group(id)
	if err != nil {
		return ReplicaReport{}, err
	}
	f := &g.Replica
	out := ReplicaReport{
		Node: in.ident.NodeID, Cluster: in.ident.clusterID(), Group: id, Kind: kindOf(id), Term: f.Term, VoteTerm: f.VoteTerm, VotedFor: f.VotedFor,
		FirstIndex: f.First, LastIndex: f.Last, LastTerm: f.LastTerm, MarkIndex: f.Mark, TailIndex: f.TailLast,
		StateIndex: max(f.StateIndex, f.Applied()), Generation: f.Generation, Incoming: f.Incoming,
	}
	if s := f.Snapshot; s != nil {
		out.Snapshot = &SnapshotReport{Index: s.Index, Term: s.Term, ConfigurationIndex: s.ConfigurationIndex, Members: memberReports(s.Members)}
	}
	members, at, err := g.Members()
	if err != nil {
		return out, err
	}
	out.Members, out.ConfigurationIndex = memberReports(members), at
	out.StateKeys, out.StateBytes, err = g.Keys()
	return out, err
}

func kindOf(group uint32) string {
	if group == 0 {
		return "control"
	}
	return "shard"
}

func memberReports(list []raftfsm.Member) []MemberReport {
	out := make([]MemberReport, len(list))
	for i, m := range list {
		out[i] = MemberReport(m)
	}
	return out
}

// Log gives the entries in [from, to] of a replica to fn until fn answers false; to 0 is the end. Payloads are in them only if wanted.
func (in *Inspection) Log(id uint32, from, to uint64, payloads bool, fn func(EntryReport) bool) error {
	g, err := in.group(id)
	if err != nil {
		return err
	}
	return g.Entries(from, to, func(e *raftfsm.LogEntry) bool { return fn(reportEntry(e, payloads)) })
}

// Control loads the control group as the replica has it.
func (in *Inspection) Control(stored bool) (*state.ControlView, error) {
	g, err := in.group(0)
	if err != nil {
		return nil, err
	}
	m := offlineControl{state.NewControl()}
	if err := loadReplica(g, m, stored); err != nil {
		return nil, err
	}
	return m.View(), nil
}

// Shard loads a shard as the replica has it: with the entries of its log that are behind the state applied, or as stored.
func (in *Inspection) Shard(id uint32, stored bool) (*state.Shard, error) {
	g, err := in.group(id)
	if err != nil {
		return nil, err
	}
	v := &state.ControlView{Settings: in.ident.Settings}
	if len(v.Settings) == 0 {
		if v, err = in.Control(false); err != nil {
			return nil, err
		}
	}
	m := state.NewShard(id, state.Options{Settings: formedSettings(v)})
	if err := loadReplica(g, offlineShard{m}, stored); err != nil {
		return nil, err
	}
	return m, nil
}

func loadReplica(g *raftfsm.OfflineGroup, m raftfsm.Machine, stored bool) error {
	if stored {
		return m.Load(g.Store())
	}
	_, err := g.Load(m)
	return err
}

// ShardOf is the shard of a client id, a topic, or a share's whole filter. The slots are those of the control group here.
func (in *Inspection) ShardOf(key string) (uint32, error) {
	v, err := in.Control(false)
	if err != nil {
		return 0, err
	}
	return v.Shard(router.Slot("", key)), nil
}

// InspectSession is a session of a loaded shard as operators see it, with its subscriptions and up to peek messages of its inbox.
func InspectSession(m *state.Shard, clientID string, peek int) (st SessionStatus, subs []SubscriptionStatus, inbox []InboxStatus, ok bool, err error) {
	info, ok := m.Session(command.SessionKey{ClientID: clientID})
	if !ok {
		return st, nil, nil, false, nil
	}
	r := &shardReplica{id: m.ID(), mach: m}
	st = sessionStatus(r.id, &info)
	st.AwaitingPubrel, st.OldestMessageAt, st.Will = info.AwaitingRelease, timeOf(info.OldestAt), willStatus(info.Will)
	if peek > 0 {
		inbox, err = peekInbox(r, &info, peek)
	}
	return st, subscriptionsOf(r, clientID), inbox, true, err
}

// InspectShare is a share of a loaded shard by its whole filter.
func InspectShare(m *state.Shard, filter string) (ShareStatus, bool) {
	for after := ""; ; {
		page := localShares(&shardReplica{id: m.ID(), mach: m}, after, shareStatusMax)
		for i := range page.Items {
			if s := page.Items[i]; "$share/"+s.Name+"/"+s.Filter == filter || s.Name == filter {
				return s, true
			}
		}
		if !page.More || len(page.Items) == 0 {
			return ShareStatus{}, false
		}
		after = page.Cursors[len(page.Cursors)-1]
	}
}

// InspectRetained is one retained message of a loaded shard.
func InspectRetained(m *state.Shard, topic string) (RetainedStatus, []byte, bool, error) {
	page, err := m.Retained(state.RetainedQuery{Filter: topic, Limit: 1})
	if err != nil || len(page.Items) == 0 {
		return RetainedStatus{}, nil, false, err
	}
	kept := &page.Items[0]
	msg := kept.Msg
	return RetainedStatus{
		Topic: string(msg.Topic), QoS: msg.QoS, PayloadBytes: len(msg.Payload), StoredAt: timeOf(kept.StoredAt), ExpiresAt: timeOf(kept.ExpiresAt),
	}, msg.Payload, true, nil
}
