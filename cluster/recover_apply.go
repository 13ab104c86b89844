package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/flotilla-mqtt/flotilla/raftfsm"
	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
)

// recoverStep is the distance of the numbers that a recovery leaves out: more than one run of a cluster gives out, and few enough
// that they stay exact in JSON for two million recoveries.
const recoverStep = 1 << 32

// beyond is the next number that nobody has seen.
func beyond(n uint64) uint64 { return n - n%recoverStep + recoverStep }

// placeLost says which survivor begins the groups anew of which no replica is left: one that holds replicas, with few of them.
func (r *Recovery) placeLost() {
	count := map[string]int{}
	dirs := map[string]*recoverDir{}
	var hosts []string
	for _, d := range r.dirs {
		dirs[d.ident.NodeID] = d
		if hasRole(r.view.Nodes[d.ident.NodeID].Roles, RoleStore) {
			hosts = append(hosts, d.ident.NodeID)
		}
	}
	if len(hosts) == 0 {
		r.warn("none of these nodes has the role store: groups that are lost begin on one that has not, until others join")
		hosts = slices.Sorted(maps.Keys(dirs))
	}
	for _, g := range r.shards {
		if g.chosen != nil {
			count[g.chosen.ident.NodeID]++
		}
	}
	for i, g := range r.shards {
		if g.chosen != nil {
			continue
		}
		at := slices.MinFunc(hosts, func(a, b string) int { return cmp.Or(cmp.Compare(count[a], count[b]), cmp.Compare(a, b)) })
		count[at]++
		g.chosen = dirs[at]
		r.Plan.Groups[i+1].Node = at
		r.warn("group %d is LOST: no replica of it is left. It begins anew and empty: all sessions, queued messages, retained messages and shares of slots %s are gone",
			g.id, r.Plan.Groups[i+1].Slots)
	}
}

// compose makes the entries that are put behind each log, and tries them on the machines.
func (r *Recovery) compose() error {
	p := &r.Plan
	p.ClusterID = r.view.ClusterID
	var survivors []string
	for _, d := range r.dirs {
		id := d.ident.NodeID
		survivors = append(survivors, id)
		p.Survivors = append(p.Survivors, RecoverNode{ID: id, DataDir: d.dir, Roles: r.view.Nodes[id].Roles})
	}
	slices.Sort(survivors)
	for _, id := range sortedKeys(r.view.Nodes) {
		if r.view.Nodes[id].State != command.NodeRemoved && !contains(survivors, id) {
			p.Removed = append(p.Removed, id)
		}
	}
	p.Settled.JoinTokens = len(r.view.Tokens)
	if _, ok := r.view.Running(); ok {
		p.Settled.Operations = 1
	}
	unknown, incarnation := r.composeShards()
	p.Removed = append(p.Removed, unknown...)
	p.Removed, p.Warnings = notNil(p.Removed), notNil(p.Warnings)
	for _, g := range r.shards {
		if g.mach == nil {
			g.mach = state.NewShard(g.id, state.Options{Settings: formedSettings(r.view)})
			if err := g.mach.Load(emptyStore{}); err != nil {
				return err
			}
		}
		if _, _, err := g.mach.Apply(max(g.end, g.applied)+2, g.entry); err != nil {
			return fmt.Errorf("group %d cannot be recovered: %w", g.id, err)
		}
		g.mach = nil // it may be large
	}
	return r.composeControl(survivors, unknown, incarnation)
}

// composeShards makes the shards' entries, of what all of them know of each other. It returns nodes that the control group does not
// know, and the highest incarnation that anything names.
func (r *Recovery) composeShards() (unknown []string, incarnation uint64) {
	subscribed, holds := map[state.ShareSubscription]bool{}, map[state.ShareSubscription]state.SharePart{}
	origins, shares := map[uint32]uint64{}, uint64(0)
	for _, g := range r.shards {
		f := &g.facts
		for _, s := range f.Subscribed {
			subscribed[s] = true
		}
		for _, h := range f.Holds {
			if h.Share >= holds[h.ShareSubscription].Share {
				holds[h.ShareSubscription] = h
			}
			shares = max(shares, h.Share)
		}
		for from, top := range f.Sources {
			origins[from] = max(origins[from], top)
		}
		for _, node := range sortedKeys(f.Incarnations) {
			incarnation = max(incarnation, f.Incarnations[node])
			if r.view.Nodes[node] == nil && !contains(unknown, node) {
				unknown = append(unknown, node)
			}
		}
	}
	for _, g := range r.shards {
		c := command.Recover{Epoch: beyond(g.facts.LastEpoch), SID: beyond(max(g.facts.LastSID, shares)), Origin: max(g.facts.LastOrigin, origins[g.id])}
		for _, m := range g.facts.Members {
			if subscribed[m.ShareSubscription] {
				continue
			}
			h := holds[m.ShareSubscription]
			c.Gone = append(c.Gone, command.GoneMember{
				Member: command.SessionKey{Tenant: m.Tenant, ClientID: m.Client}, Filter: m.Filter, Share: h.Share, Held: h.Held,
			})
		}
		r.Plan.Settled.ShareMembers += len(c.Gone)
		g.entry = recoverEntry(g.chosen, command.AppendRecover(nil, &c))
	}
	slices.Sort(unknown)
	return unknown, incarnation
}

func (r *Recovery) composeControl(survivors, unknown []string, incarnation uint64) error {
	cmds := command.AppendRecoverControl(nil, &command.RecoverControl{
		Survivors: survivors, Removed: unknown, Incarnation: incarnation, Reason: "ended by flotilla cluster recover",
	})
	for _, g := range r.shards {
		cmds = command.AppendPlace(cmds, &command.Place{Shard: g.id, Replicas: []string{g.chosen.ident.NodeID}})
	}
	g := r.control
	g.entry = recoverEntry(g.chosen, cmds)
	mach := offlineControl{state.NewControl()}
	if _, err := g.replica.Load(mach); err != nil {
		return err
	}
	results, err := mach.Control.Apply(max(g.end, g.applied)+2, g.entry)
	if err != nil {
		return fmt.Errorf("the control group cannot be recovered: %w", err)
	}
	rs, err := command.DecodeResults(results[0].Results, len(r.shards)+1)
	if err != nil {
		return err
	}
	for i, res := range rs {
		if res.Code != command.OK {
			return fmt.Errorf("the control group cannot be recovered: command %d: %s", i, res.Code)
		}
	}
	return nil
}

// recoverEntry is an entry of nobody's lane. It has no time: clocks go on with the first leader's.
func recoverEntry(d *recoverDir, cmds []byte) []byte {
	batch := command.AppendBatch(nil, &command.BatchHeader{}, cmds)
	return command.BuildEntry(nil, &command.Header{Leader: d.ident.NodeID}, batch)
}

// emptyStore is the store of a group that begins.
type emptyStore struct{ raftfsm.Store }

// Get implements raftfsm.Store.
func (emptyStore) Get([]byte) ([]byte, error) { return nil, state.ErrNotFound }

// Iterate implements raftfsm.Store.
func (emptyStore) Iterate(_, _ []byte, _ func(k, v []byte) bool) error { return nil }

func notNil(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

// openedDir is a directory that is being changed.
type openedDir struct {
	*recoverDir
	host    *raftfsm.Host
	repairs map[uint32]*raftfsm.Repair
}

// Apply carries the plan out. Everything is opened and checked before the first change; the control group comes last, so that until
// then no node can do anything with what is half done, and the same call can be made again.
func (r *Recovery) Apply(ctx context.Context) (err error) {
	if err := r.Close(); err != nil {
		return err
	}
	opened := map[*recoverDir]*openedDir{}
	defer func() {
		for _, o := range opened {
			err = errors.Join(err, o.close())
		}
	}()
	for _, d := range r.dirs {
		o, err := openForRepair(d, r.lg)
		if err != nil {
			return err
		}
		opened[d] = o
	}
	all := append(slices.Clone(r.shards), r.control)
	for _, g := range all {
		if err := opened[g.chosen].check(g); err != nil {
			return err
		}
	}
	for _, g := range r.shards {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := opened[g.chosen].adopt(g); err != nil {
			return err
		}
	}
	for _, g := range all {
		for _, d := range g.others {
			if err := opened[d].host.DropGroup(g.id); err != nil {
				return fmt.Errorf("%s: %w", d.dir, err)
			}
		}
	}
	for _, d := range r.dirs {
		if d == r.control.chosen {
			continue
		}
		d.ident.Joined = true // it founds nothing, and waits until the control group comes to it
		if err := d.ident.save(d.dir); err != nil {
			return err
		}
	}
	return opened[r.control.chosen].adopt(r.control)
}

func openForRepair(d *recoverDir, lg *zap.Logger) (*openedDir, error) {
	h, err := raftfsm.OpenHost(raftfsm.HostConfig{
		Dir: d.dir, NodeID: d.ident.NodeID, SyncInterval: -1, WatchdogTimeout: time.Hour, Logger: lg,
		Fatal: func(error) {}, // what failed is returned by the call that met it
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.dir, err)
	}
	return &openedDir{recoverDir: d, host: h, repairs: map[uint32]*raftfsm.Repair{}}, nil
}

// check opens a replica and holds it against the plan.
func (o *openedDir) check(g *recoverGroup) error {
	rep, err := o.host.OpenRepair(g.id, g.id == 0)
	if err != nil {
		return fmt.Errorf("%s: %w", o.dir, err)
	}
	o.repairs[g.id] = rep
	if end, _ := rep.End(); max(end, g.applied) != g.end {
		return fmt.Errorf("%w: %s: group %d ends at %d now, it ended at %d before: has the node run meanwhile? Plan again", ErrIdentity, o.dir, g.id, end, g.end)
	}
	return nil
}

func (o *openedDir) adopt(g *recoverGroup) error {
	rep := o.repairs[g.id]
	delete(o.repairs, g.id)
	err := rep.Adopt([]raftfsm.Member{{ID: o.ident.NodeID, Voter: true}}, g.applied, g.entry)
	if err = errors.Join(err, rep.Close()); err != nil {
		return fmt.Errorf("%s: recover group %d: %w", o.dir, g.id, err)
	}
	return nil
}

func (o *openedDir) close() error {
	var err error
	for _, rep := range o.repairs {
		err = errors.Join(err, rep.Close())
	}
	return errors.Join(err, o.host.Close())
}
