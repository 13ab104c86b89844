package raftfsm_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/flotilla-mqtt/flotilla/raftfsm"
	"github.com/flotilla-mqtt/flotilla/raftfsm/raftfsmtest"
)

// faulty wraps node 0's file system; fail decides which operations fail while it is armed.
type faulty struct {
	armed atomic.Bool
	hits  atomic.Int64
	fail  func(op errorfs.Op) bool
}

func (f *faulty) inject(op errorfs.Op) error {
	if f.armed.Load() && f.fail(op) {
		f.hits.Add(1)
		return syscall.EIO
	}
	return nil
}

func (f *faulty) host(node int, cfg *raftfsm.HostConfig) {
	if node == 0 {
		cfg.FS = errorfs.Wrap(cfg.FS, errorfs.InjectorFunc(f.inject))
	}
}

func isWrite(op errorfs.Op) bool {
	switch op.Kind {
	case errorfs.OpCreate, errorfs.OpFileWrite, errorfs.OpFileWriteAt, errorfs.OpFileSync, errorfs.OpFileSyncData,
		errorfs.OpFileSyncTo, errorfs.OpRename:
		return true
	}
	return false
}

// TestG5StorageErrorEndsNode fails each kind of write in turn: the node ends with the cause, what it
// acknowledged before is there after a power loss, and the others go on.
func TestG5StorageErrorEndsNode(t *testing.T) {
	for name, fail := range map[string]func(op errorfs.Op) bool{
		"log write": func(op errorfs.Op) bool { return isWrite(op) && strings.Contains(op.Path, "/log/") },
		"log fsync": func(op errorfs.Op) bool {
			return (op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData) && strings.Contains(op.Path, "/log/")
		},
		"tail":  func(op errorfs.Op) bool { return isWrite(op) && strings.HasSuffix(op.Path, "/tail") },
		"state": func(op errorfs.Op) bool { return isWrite(op) && strings.Contains(op.Path, "/state/") },
		"marker": func(op errorfs.Op) bool {
			return isWrite(op) && strings.HasSuffix(op.Path, "/snapshot.tmp")
		},
		"rename": func(op errorfs.Op) bool { return op.Kind == errorfs.OpRename },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &faulty{fail: fail}
				c := raftfsmtest.NewCluster(t, raftfsmtest.Options{Host: f.host, Group: small})
				defer c.Close()
				fill(t, c, 1, "before", 30)
				c.WaitEqual(1)
				f.armed.Store(true)
				fill(t, c, 1, "after", 200)
				n := c.Nodes[0]
				<-n.FatalCh()
				if err := n.Fatal(); !errors.Is(err, raftfsm.ErrFailStop) || !strings.Contains(err.Error(), "input/output error") {
					t.Errorf("cause: %v", err)
				}
				if f.hits.Load() == 0 {
					t.Error("nothing failed")
				}
				if _, err := raftfsmtest.Propose(n.Group(1), []byte("late")); !errors.Is(err, raftfsm.ErrClosed) {
					t.Errorf("proposal at the failed node: %v", err)
				}
				c.Kill(0, 0, rand.New(rand.NewPCG(1, 1)))
				f.armed.Store(false)
				c.Start(0)
				c.WaitEqual(1)
			})
		})
	}
}

// TestG5VotesErrorEndsNode fails the store of votes.
func TestG5VotesErrorEndsNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := raftfsmtest.NewCluster(t, raftfsmtest.Options{Control: true})
		defer c.Close()
		c.MustPropose(0, []byte("x"))
		n := c.Nodes[0]
		n.Disk.SetHook(func(op string, _ uint32) error {
			if op == "set" || op == "append" {
				return syscall.EIO
			}
			return nil
		})
		for i := range 5 {
			c.MustPropose(0, []byte(fmt.Sprintf("entry %d", i)))
		}
		<-n.FatalCh()
		if err := n.Fatal(); !errors.Is(err, syscall.EIO) {
			t.Errorf("cause: %v", err)
		}
		n.Disk.SetHook(nil)
		c.Kill(0, 0, rand.New(rand.NewPCG(1, 1)))
		c.Start(0)
		c.WaitEqual(0)
		c.WaitEqual(1)
	})
}

// TestReceivedSnapshotFails fails each write of a stream that a leader sends, one after the other:
// nothing is restored from it, the old state stays, and the next try succeeds.
func TestReceivedSnapshotFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at atomic.Int64
		f := &faulty{}
		f.fail = func(op errorfs.Op) bool {
			return isWrite(op) && strings.HasSuffix(op.Path, "/incoming") && at.Add(-1) == 0
		}
		c := raftfsmtest.NewCluster(t, raftfsmtest.Options{Host: f.host, Group: small})
		defer c.Close()
		rng := rand.New(rand.NewPCG(1, 1))
		for k := int64(1); ; k++ {
			fill(t, c, 1, "a", 20)
			c.WaitEqual(1)
			c.Kill(0, 0, rng)
			fill(t, c, 1, "b", 200)
			if err := c.Leader(1).Group(1).Snapshot(testCtx(t)); err != nil {
				t.Fatal(err)
			}
			before := f.hits.Load()
			at.Store(k)
			f.armed.Store(true)
			c.Start(0)
			c.WaitEqual(1)
			f.armed.Store(false)
			if err := c.Nodes[0].Fatal(); err != nil {
				t.Fatal(err)
			}
			if f.hits.Load() == before {
				t.Logf("a stream takes %d writes", k-1)
				if k == 1 {
					t.Error("nothing failed")
				}
				return
			}
		}
	})
}

// TestCrashDuringInstall loses power at each write while a snapshot is installed: every image starts,
// with either state whole.
func TestCrashDuringInstall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(7, 7))
		var mu sync.Mutex
		var images []*raftfsmtest.Disk
		var recording atomic.Bool
		var c *raftfsmtest.Cluster
		c = raftfsmtest.NewCluster(t, raftfsmtest.Options{Group: small, Host: func(node int, cfg *raftfsm.HostConfig) {
			if node != 0 {
				return
			}
			cfg.FS = errorfs.Wrap(cfg.FS, errorfs.InjectorFunc(func(op errorfs.Op) error {
				if recording.Load() && isWrite(op) {
					mu.Lock()
					defer mu.Unlock()
					images = append(images, c.Nodes[0].Disk.Clone(len(images)%2*50, rng))
				}
				return nil
			}))
		}})
		defer c.Close()
		fill(t, c, 1, "a", 20)
		c.WaitEqual(1)
		c.Kill(0, 0, rng)
		fill(t, c, 1, "b", 200)
		if err := c.Leader(1).Group(1).Snapshot(testCtx(t)); err != nil {
			t.Fatal(err)
		}
		c.Start(0)
		recording.Store(true)
		c.WaitEqual(1)
		recording.Store(false)
		if len(images) < 10 {
			t.Fatalf("%d images", len(images))
		}
		t.Logf("%d images", len(images))
		for _, image := range images {
			c.Kill(0, 0, rng)
			c.Nodes[0].Disk = image
			c.Start(0) // the oracle holds what is loaded against the history
			c.WaitEqual(1)
		}
	})
}
