package raftfsm_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/flotilla-mqtt/flotilla/raftfsm"
	"github.com/flotilla-mqtt/flotilla/raftfsm/raftfsmtest"
)

// syncCounter counts fsyncs of a file system.
type syncCounter struct {
	vfs.FS
	n atomic.Int64
}

type countedFile struct {
	vfs.File
	n *atomic.Int64
}

func (f countedFile) Sync() error     { f.n.Add(1); return f.File.Sync() }
func (f countedFile) SyncData() error { f.n.Add(1); return f.File.SyncData() }

func (c *syncCounter) Create(name string, cat vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := c.FS.Create(name, cat)
	return countedFile{f, &c.n}, err
}

func (c *syncCounter) ReuseForWrite(o, n string, cat vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := c.FS.ReuseForWrite(o, n, cat)
	return countedFile{f, &c.n}, err
}

func benchCluster(b *testing.B, groups int) (*raftfsmtest.Cluster, []uint32, *syncCounter) {
	counter := &syncCounter{FS: vfs.Default}
	var ids []uint32
	for g := range groups {
		ids = append(ids, uint32(g+1))
	}
	c := raftfsmtest.NewCluster(b, raftfsmtest.Options{
		Groups: ids, Dir: b.TempDir(), Heartbeat: time.Second, NoOracle: true,
		Host: func(_ int, cfg *raftfsm.HostConfig) { cfg.FS, cfg.Stable = counter, raftfsm.OpenBolt },
	})
	for _, g := range ids {
		c.MustPropose(g, []byte("first"))
	}
	return c, ids, counter
}

// BenchmarkPropose measures 256-byte commands with fsync, three nodes in one process, window
// proposals in flight per group.
func BenchmarkPropose(b *testing.B) {
	for _, groups := range []int{1, 8} {
		for _, size := range []int{256, 16 << 10} {
			b.Run(fmt.Sprintf("groups=%d/bytes=%d", groups, size), func(b *testing.B) {
				window := 512
				if size > 1024 {
					window = 64
				}
				benchPropose(b, groups, size, window)
			})
		}
	}
}

func benchPropose(b *testing.B, groups, size, window int) {
	c, ids, counter := benchCluster(b, groups)
	defer c.Close()
	before := counter.n.Load()
	var failed atomic.Int64
	b.SetBytes(int64(size))
	b.ResetTimer()
	var wg sync.WaitGroup
	for _, id := range ids {
		g := c.Leader(id).Group(id)
		wg.Add(1)
		go func() {
			defer wg.Done()
			slots := make(chan struct{}, window)
			for range b.N / groups {
				slots <- struct{}{}
				g.Propose(make([]byte, size), func(_ any, _ uint64, err error) {
					if err != nil {
						failed.Add(1)
					}
					<-slots
				})
			}
			for range window {
				slots <- struct{}{}
			}
		}()
	}
	wg.Wait()
	b.StopTimer()
	if n := failed.Load(); n > 0 {
		b.Fatalf("%d proposals failed", n)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "cmds/s")
	b.ReportMetric(float64(counter.n.Load()-before)*1000/float64(b.N), "fsyncs/1000")
}

// BenchmarkLone measures one command at a time.
func BenchmarkLone(b *testing.B) {
	c, _, _ := benchCluster(b, 1)
	defer c.Close()
	g := c.Leader(1).Group(1)
	b.ResetTimer()
	for range b.N {
		if _, err := raftfsmtest.Propose(g, make([]byte, 256)); err != nil {
			b.Fatal(err)
		}
	}
}
