package raftfsm_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/raftfsm"
	"github.com/flotilla-mqtt/flotilla/raftfsm/raftfsmtest"
	"github.com/google/go-cmp/cmp"
)

// left is what a cluster that has ended left behind of its node n1.
type left struct {
	dir     string // of n1
	parent  string
	control bool
	group   uint32
	applied uint64
	digest  [16]byte
}

// leave runs three nodes on real files, and stops all. With snapshot, n1 was away, has a snapshot of its leader, and no log behind it.
func leave(t *testing.T, control, snapshot bool) left {
	t.Helper()
	l := left{parent: t.TempDir(), control: control}
	l.dir = filepath.Join(l.parent, "n1")
	o := raftfsmtest.Options{Dir: l.parent, Control: control, Group: small, Heartbeat: 300 * time.Millisecond}
	if !control {
		l.group = 1
	}
	c := raftfsmtest.NewCluster(t, o)
	defer c.Close()
	fill(t, c, l.group, "a", 10)
	if snapshot {
		raftfsmtest.WaitFor(t, "another leader than n1", func() bool {
			lead := c.Leader(l.group)
			if lead.ID == "n1" {
				_ = lead.Group(l.group).TransferLeadership(testCtx(t), "n2")
			}
			return lead.ID != "n1"
		})
		c.Stop(0)
		fill(t, c, l.group, "b", 200)
		if err := c.Leader(l.group).Group(l.group).Snapshot(testCtx(t)); err != nil {
			t.Fatal(err)
		}
		c.Start(0)
	}
	c.WaitEqual(l.group)
	l.applied, l.digest = c.Nodes[0].Machine(l.group).Digest()
	c.Stop(0) // before the others, so that it hears of no new leader
	return l
}

// again is the cluster of n1 alone, which its files must let lead.
func (l left) again(t *testing.T) *raftfsmtest.Cluster {
	t.Helper()
	c := raftfsmtest.NewCluster(t, raftfsmtest.Options{Nodes: 1, Dir: l.parent, Control: l.control, Group: small, NoOracle: true})
	t.Cleanup(c.Close)
	c.Leader(l.group)
	return c
}

// repair opens the replica as a recovery does.
func (l left) repair(t *testing.T, do func(r *raftfsm.Repair)) {
	t.Helper()
	h, err := raftfsm.OpenHost(raftfsm.HostConfig{Dir: l.dir, NodeID: "n1", Fatal: func(err error) { t.Errorf("fatal: %v", err) }})
	if err != nil {
		t.Fatal(err)
	}
	r, err := h.OpenRepair(l.group, l.control)
	if err != nil {
		t.Fatal(err)
	}
	do(r)
	if err := errors.Join(r.Close(), h.Close()); err != nil {
		t.Fatal(err)
	}
}

// files are the contents of a directory.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		out[path] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

var alone = []raftfsm.Member{{ID: "n1", Voter: true}}

// forms are the kinds of log, and whether the snapshot is newer than it.
func forms(t *testing.T, f func(t *testing.T, l left, snapshot bool)) {
	for _, control := range []bool{false, true} {
		for _, snapshot := range []bool{false, true} {
			t.Run(fmt.Sprintf("control=%v,snapshot=%v", control, snapshot), func(t *testing.T) {
				l := leave(t, control, snapshot)
				for attempt := 0; snapshot && !l.bare(t); attempt++ { // a new leader's first entry came behind the snapshot
					if attempt == 3 {
						t.Fatal("the log never ended at the snapshot")
					}
					l = leave(t, control, snapshot)
				}
				f(t, l, snapshot)
			})
		}
	}
}

// bare tells whether the replica's snapshot is all that it has.
func (l left) bare(t *testing.T) bool {
	t.Helper()
	f := l.facts(t)
	return f.Snapshot != nil && f.Last <= f.Snapshot.Index
}

// facts are what the files say.
func (l left) facts(t *testing.T) raftfsm.ReplicaFacts {
	t.Helper()
	o, err := raftfsm.OpenOffline(l.dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	g, err := o.Group(l.group, l.control)
	if err != nil {
		t.Fatal(err)
	}
	f := g.Replica
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	return f
}

// TestOfflineReadsAReplica: a stopped replica reads as what it was when it ran, and nothing in its directory changes.
func TestOfflineReadsAReplica(t *testing.T) {
	forms(t, func(t *testing.T, l left, snapshot bool) {
		before := files(t, l.dir)
		o, err := raftfsm.OpenOffline(l.dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := raftfsm.OpenHost(raftfsm.HostConfig{Dir: l.dir, NodeID: "n1", Fatal: func(error) {}}); !errors.Is(err, raftfsm.ErrLocked) {
			t.Errorf("a node starts while its directory is read: %v", err)
		}
		want := []uint32{1}
		if l.control {
			want = []uint32{0, 1}
		}
		groups, err := o.Groups()
		if err != nil || o.NodeID() != "n1" || !cmp.Equal(groups, want) {
			t.Errorf("node %q, groups %v, %v", o.NodeID(), groups, err)
		}
		g, err := o.Group(l.group, l.control)
		if err != nil {
			t.Fatal(err)
		}
		end, term := g.Replica.End()
		if end < l.applied || term == 0 || term > g.Replica.Term {
			t.Errorf("it ends at %d in term %d, votes in %d, had applied %d", end, term, g.Replica.Term, l.applied)
		}
		s := g.Replica.Snapshot
		if snapshot && (s.Index != end || s.Term != term) {
			t.Errorf("it ends at %d in term %d, its snapshot at %d in %d", end, term, s.Index, s.Term)
		}
		members, at, err := g.Members()
		if err != nil || len(members) != 3 || at == 0 || at > end {
			t.Errorf("members %v as of %d, %v", members, at, err)
		}
		m := raftfsmtest.NewMachine()
		if _, err := g.Load(m); err != nil {
			t.Fatal(err)
		}
		if applied, digest := m.Digest(); applied != l.applied || digest != l.digest {
			t.Errorf("its machine is at %d with %x, it was at %d with %x", applied, digest, l.applied, l.digest)
		}
		if err := o.Close(); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(before, files(t, l.dir)); diff != "" {
			t.Errorf("reading changed files: %d bytes of difference", len(diff))
		}
	})
}

// TestRepairAdopt: the replica of one node becomes the group: that node leads alone, with every entry that it had and the new one.
func TestRepairAdopt(t *testing.T) {
	forms(t, func(t *testing.T, l left, _ bool) {
		var end uint64
		before := l.facts(t)
		before.Term += 5 // it has voted since its last entry
		l.repair(t, func(r *raftfsm.Repair) {
			if err := r.SetTerm(before.Term); err != nil {
				t.Fatal(err)
			}
		})
		l.repair(t, func(r *raftfsm.Repair) {
			end, _ = r.End()
			if err := r.Adopt(alone, l.applied, []byte("recovered")); err != nil {
				t.Fatal(err)
			}
		})
		// A replica that is lost may have entries of any term up to this one's, and of a vote's.
		if after := l.facts(t); after.LastTerm <= max(before.Term, before.LastTerm) || after.Term != after.LastTerm {
			t.Errorf("the new entries are of term %d, the replica is in term %d; it was in %d with entries up to %d", after.LastTerm, after.Term, before.Term, before.LastTerm)
		}
		c := l.again(t)
		m := c.Nodes[0].Machine(l.group)
		raftfsmtest.WaitFor(t, "the entry of the recovery", func() bool { return m.Applied() >= end+2 })
		if at := l.reads(t, c); at != end+2 {
			t.Errorf("the new entry stands at %d, the replica ended at %d", at, end)
		}
		c.MustPropose(l.group, []byte("goes on"))
	})
}

// reads stops the cluster, compares what its files hold with what its machine was, and returns the index; the cluster goes on.
func (l left) reads(t *testing.T, c *raftfsmtest.Cluster) uint64 {
	t.Helper()
	applied, digest := c.Nodes[0].Machine(l.group).Digest()
	c.Stop(0)
	o, err := raftfsm.OpenOffline(l.dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	g, err := o.Group(l.group, l.control)
	if err != nil {
		t.Fatal(err)
	}
	if members, _, err := g.Members(); err != nil || !cmp.Equal(members, alone) {
		t.Errorf("members %v, %v", members, err)
	}
	m := raftfsmtest.NewMachine()
	if _, err := g.Load(m); err != nil {
		t.Fatal(err)
	}
	if at, d := m.Digest(); at != applied || d != digest {
		t.Errorf("the files hold %x at %d, the node had %x at %d", d, at, digest, applied)
	}
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	c.Start(0)
	return applied
}

// TestRepairAdoptsAStateAheadOfTheLog: a snapshot that was installed may hold a state that is younger than its index. The entry of
// the recovery goes behind that state; at the end of the log the machine would take it for one that it has.
func TestRepairAdoptsAStateAheadOfTheLog(t *testing.T) {
	for _, control := range []bool{false, true} {
		t.Run(fmt.Sprintf("control=%v", control), func(t *testing.T) {
			l := leave(t, control, false)
			var ahead uint64
			m := raftfsmtest.NewMachine()
			l.repair(t, func(r *raftfsm.Repair) {
				end, _ := r.End()
				if err := m.Load(r.Store()); err != nil {
					t.Fatal(err)
				}
				for ahead = end + 1; ahead < end+5; ahead++ {
					if _, err := m.Apply(ahead, 1, fmt.Appendf(nil, "%c ahead", 'a'+ahead%26)); err != nil {
						t.Fatal(err)
					}
				}
				ahead--
				if err := errors.Join(m.WriteBack(), r.Adopt(alone, ahead, []byte("recovered"))); err != nil {
					t.Fatal(err)
				}
				if at, _ := r.End(); at != ahead+2 {
					t.Errorf("it ends at %d, want %d", at, ahead+2)
				}
			})
			if _, err := m.Apply(ahead+2, 1, []byte("recovered")); err != nil {
				t.Fatal(err)
			}
			c := l.again(t)
			got := c.Nodes[0].Machine(l.group)
			raftfsmtest.WaitFor(t, "the entry of the recovery", func() bool { return got.Applied() >= ahead+2 })
			wantAt, want := m.Digest()
			if at, digest := got.Digest(); at != wantAt || digest != want {
				t.Errorf("the machine is at %d with %x, want %d with %x", at, digest, wantAt, want)
			}
			c.MustPropose(l.group, []byte("goes on"))
		})
	}
}

// TestOfflineRefuses: a directory that a node runs in, that is none, that is another node's.
func TestOfflineRefuses(t *testing.T) {
	dir := t.TempDir()
	if _, err := raftfsm.OpenOffline(dir, nil); !errors.Is(err, raftfsm.ErrNoData) {
		t.Errorf("an empty directory: %v", err)
	}
	h, err := raftfsm.OpenHost(raftfsm.HostConfig{Dir: dir, NodeID: "n1", Fatal: func(error) {}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := raftfsm.OpenOffline(dir, nil); !errors.Is(err, raftfsm.ErrLocked) {
		t.Errorf("a node runs in it: %v", err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := raftfsm.OpenHost(raftfsm.HostConfig{Dir: dir, NodeID: "n2", Fatal: func(error) {}}); !errors.Is(err, raftfsm.ErrIdentity) {
		t.Errorf("another node's: %v", err)
	}
	o, err := raftfsm.OpenOffline(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.Group(7, false); !errors.Is(err, raftfsm.ErrCorrupt) {
		t.Errorf("a group that is not there: %v", err)
	}
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
}
