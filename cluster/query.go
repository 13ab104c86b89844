package cluster

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/flotilla-mqtt/flotilla/raftfsm"
	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
	"github.com/flotilla-mqtt/flotilla/session"
)

// statusTimeout bounds how long Status waits for other nodes.
const statusTimeout = time.Second

// localStatus is what one node says of itself to the others.
type localStatus struct {
	Clients int                    `json:"clients"`
	Ready   bool                   `json:"ready"`
	Groups  map[uint32]GroupStatus `json:"groups"`
	Reasons []string               `json:"reasons"`

	Sessions      *int64     `json:"sessions,omitempty"`
	LagEntries    *int64     `json:"lag_entries,omitempty"`
	DiskFreeBytes *int64     `json:"disk_free_bytes,omitempty"`
	StartedAt     *time.Time `json:"started_at,omitempty"`
	Alarms        []Alarm    `json:"alarms,omitempty"`

	MessagesReceived *uint64 `json:"messages_received,omitempty"`
	MessagesSent     *uint64 `json:"messages_sent,omitempty"`
}

func (n *Node) localStatus() localStatus {
	s := localStatus{Clients: n.server.Stats().Connections, Ready: n.ready(), Groups: map[uint32]GroupStatus{}}
	if g := n.control.group.Load(); g != nil {
		s.Groups[0] = groupStatus(g, "control", n.control.mach.Digest)
	}
	for _, r := range n.allReplicas() {
		s.Groups[r.id] = groupStatus(r.group, "shard", r.mach.Digest)
	}
	n.describe(&s)
	return s
}

func groupStatus(g *raftfsm.Group, kind string, digest func() (uint64, [16]byte)) GroupStatus {
	st := g.Status()
	out := GroupStatus{
		ID: g.ID(), Kind: kind, Term: st.Term, AppliedIndex: st.Applied, CommitIndex: st.Commit, Local: true,
		LogBytes: st.LogBytes, Snapshot: st.SnapshotIndex, Replicas: []string{},
	}
	if st.Leader != "" {
		out.Leader = &st.Leader
	}
	for _, m := range st.Members {
		if m.Voter {
			out.Replicas = append(out.Replicas, m.ID)
		}
	}
	index, d := digest()
	out.DigestIndex, out.Digest = index, hex.EncodeToString(d[:])
	return out
}

func (n *Node) answerStatus() ([]byte, error) { return json.Marshal(n.localStatus()) }

// Status describes the cluster as this node sees it. It asks whom it can reach
// and answers without a majority, too.
func (n *Node) Status(ctx context.Context) Status {
	v := n.control.view()
	answers := n.askStatus(ctx, v)
	s := Status{ClusterID: n.ClusterID(), Reasons: []string{}, FeatureLevel: int(v.FeatureLevel), Nodes: []NodeStatus{}, Groups: []GroupStatus{}}
	for _, id := range sortedKeys(v.Nodes) {
		if v.Nodes[id].State != command.NodeRemoved {
			s.Nodes = append(s.Nodes, n.nodeStatus(v.Nodes[id], answers, &s))
		}
	}
	for id := uint32(0); id <= v.Shards && v.Formed(); id++ {
		s.Groups = append(s.Groups, n.mergeGroup(id, v, answers, &s))
	}
	if !v.Formed() {
		s.Reasons = append(s.Reasons, "the cluster is not formed yet: this node waits for the others")
	}
	if r := v.Restore; r != nil {
		s.Reasons = append(s.Reasons, restoreReason(v, r))
	}
	s.Healthy = len(s.Reasons) == 0
	return s
}

func (n *Node) nodeStatus(rec *state.NodeInfo, answers map[string]*localStatus, s *Status) NodeStatus {
	out := NodeStatus{
		ID: rec.ID, State: rec.Status(), Roles: rec.Roles, Zone: rec.Zone, ClusterAddr: rec.ClusterAddr, MQTTAddr: rec.MQTTAddr,
		AdminAddr: rec.AdminAddr, Version: rec.Version, Incarnation: rec.Incarnation, LastContactMS: -1,
	}
	if out.Roles == nil {
		out.Roles = []string{}
	}
	if a := answers[rec.ID]; a != nil {
		out.Clients, out.LastContactMS = a.Clients, 0
		out.Sessions, out.LagEntries, out.DiskFreeBytes, out.StartedAt = a.Sessions, a.LagEntries, a.DiskFreeBytes, a.StartedAt
		s.Reasons, out.Alarms = append(s.Reasons, a.Reasons...), a.Alarms
		out.MessagesReceived, out.MessagesSent = a.MessagesReceived, a.MessagesSent
		switch {
		case rec.State == command.NodeDrained: // as an operator wants it
		case rec.State != command.NodeReady:
			s.Reasons = append(s.Reasons, fmt.Sprintf("node %s is %s", rec.ID, rec.Status()))
		case !a.Ready:
			s.Reasons = append(s.Reasons, fmt.Sprintf("node %s is not ready", rec.ID))
		}
	} else {
		s.Reasons = append(s.Reasons, fmt.Sprintf("node %s does not answer", rec.ID))
	}
	if seen, ok := n.control.book.lastSeen(rec.ID); ok && n.control.lead.Load() != nil {
		out.LastContactMS = time.Since(seen).Milliseconds()
	}
	return out
}

// mergeGroup takes the leader's word on a group, or else the word of whoever
// is furthest ahead.
func (n *Node) mergeGroup(id uint32, v *state.ControlView, answers map[string]*localStatus, s *Status) GroupStatus {
	kind := "shard"
	if id == 0 {
		kind = "control"
	}
	best := GroupStatus{ID: id, Kind: kind, Replicas: slices.Clone(v.Placement[id])}
	var led bool
	for _, node := range sortedKeys(answers) {
		g, ok := answers[node].Groups[id]
		if !ok {
			continue
		}
		leads := g.Leader != nil && *g.Leader == node
		if leads || (!led && g.Term >= best.Term) {
			best, led = g, leads
		}
	}
	best.Local = false
	if own, ok := answers[n.id].Groups[id]; ok {
		best.Local, best.AppliedIndex, best.Digest, best.DigestIndex = true, own.AppliedIndex, own.Digest, own.DigestIndex
	} else {
		best.Digest, best.DigestIndex = "", 0
	}
	if !led {
		s.Reasons = append(s.Reasons, fmt.Sprintf("group %d has no leader that answers", id))
	}
	if want := min(int(v.Replicas), stores(v)); id > 0 && led && len(best.Replicas) < want {
		s.Reasons = append(s.Reasons, fmt.Sprintf("group %d has %d of %d replicas", id, len(best.Replicas), want))
	}
	if best.Replicas == nil {
		best.Replicas = []string{}
	}
	return best
}

// stores is how many members can hold replicas.
func stores(v *state.ControlView) int {
	n := 0
	for _, rec := range v.Nodes {
		if rec.State == command.NodeReady && hasRole(rec.Roles, RoleStore) {
			n++
		}
	}
	return n
}

func (n *Node) askStatus(ctx context.Context, v *state.ControlView) map[string]*localStatus {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	own := n.localStatus()
	answers := map[string]*localStatus{n.id: &own}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for id := range v.Nodes {
		if id == n.id {
			continue
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			resp, err := n.query(ctx, id, queryStatus, nil)
			st := new(localStatus)
			if err != nil || json.Unmarshal(resp, st) != nil {
				return
			}
			mu.Lock()
			answers[id] = st
			mu.Unlock()
		}()
	}
	wg.Wait()
	return answers
}

func (n *Node) ready() bool {
	return n.serving.Load() && n.mayRoute() && !n.stopped.Load() && !n.drained.Load()
}

// LiveChecks say whether the process makes progress. They never ask for a majority.
func (n *Node) LiveChecks() []Check {
	c := Check{Name: "storage", OK: true}
	if err := n.failed.Load(); err != nil {
		c.OK, c.Detail = false, (*err).Error()
	}
	return []Check{c}
}

// StartupChecks say whether the state is restored and the node is a member.
func (n *Node) StartupChecks() []Check {
	formed := n.formed.Load()
	member := n.control.view().Nodes[n.id] != nil
	return []Check{
		check("formed", formed, "waiting for the other nodes to form the cluster"),
		check("member", member, "the control group does not know this node yet"),
		check("registered", n.incarnation.Load() != 0, "no control leader has registered this process yet"),
	}
}

// ReadyChecks say whether the node may be sent clients.
func (n *Node) ReadyChecks() []Check {
	checks := n.StartupChecks()
	missing := n.routes.missing()
	draining := "an operator has drained this node (flotilla node undrain)"
	if n.stopped.Load() {
		draining = "the node is stopping"
	}
	checks = append(checks, n.alarmChecks()...)
	return append(checks,
		check("restore", n.control.view().Restore == nil, "a backup is being restored"),
		check("lease", n.lease.held(), "the lease is not held: no majority of the control group can be reached"),
		check("routes", missing == 0, fmt.Sprintf("%d shards have not sent their routes yet", missing)),
		n.listenersCheck(),
		check("not_draining", !n.stopped.Load() && !n.drained.Load(), draining),
	)
}

func check(name string, ok bool, lack string) Check {
	if ok {
		return Check{Name: name, OK: true}
	}
	return Check{Name: name, Detail: lack}
}

// Clients lists the connected clients of this node.
func (n *Node) Clients() []session.ClientInfo {
	var all []session.ClientInfo
	after := ""
	for {
		page := n.server.Clients("", after, 1000)
		all = append(all, page...)
		if len(page) < 1000 {
			return all
		}
		after = page[len(page)-1].ClientID
	}
}

func sessionKey(tenant, clientID string) command.SessionKey {
	return command.SessionKey{Tenant: tenant, ClientID: clientID}
}
