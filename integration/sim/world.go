package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/zap"

	"github.com/flotilla-mqtt/flotilla/cluster"
	"github.com/flotilla-mqtt/flotilla/integration/checker"
	"github.com/flotilla-mqtt/flotilla/raftfsm"
	"github.com/flotilla-mqtt/flotilla/raftfsm/raftfsmtest"
	"github.com/flotilla-mqtt/flotilla/transport/transporttest"
)

// Timing of the simulated cluster. The ratios are those of the defaults; fake time makes shorter ones cheap, and the
// seconds of a run then hold more elections.
const (
	heartbeat  = 200 * time.Millisecond
	leaseRenew = 500 * time.Millisecond
	leaseLost  = 2 * time.Second
	linkDelay  = 200 * time.Microsecond
	fsyncTime  = 500 * time.Microsecond
	// readyLimit bounds every wait for a healed cluster, drainLimit the drain.
	readyLimit = 60 * time.Second
	drainLimit = 60 * time.Second
)

// Options describe a world.
type Options struct {
	Seed   uint64
	Nodes  int // default 3
	Shards int // default 2
	// CrashVoters is how many of 100 votes end in a crash of the voter right after.
	CrashVoters int
	// Sync is how long a shared log gathers before it syncs; default: drawn for each start.
	Sync time.Duration
	// SnapshotAfter is how many bytes of log a snapshot follows; default 256 KiB.
	SnapshotAfter int64
	// Dir takes the few small files that are on the real disk (node.json).
	Dir string
	// Progress follows the history's time, for a watchdog outside the bubble; nil: nobody looks.
	Progress *atomic.Int64
	// Log gets what the nodes log from Info on, nil: nothing.
	Log *zap.Logger
}

// World is a cluster on a network and disks in memory. It must be made and used inside a bubble of testing/synctest.
type World struct {
	tb    testing.TB
	opt   Options
	Hub   *transporttest.Hub
	rec   *checker.Recorder
	hist  *clock
	lead  *leaders
	votes *votes
	// lastFault is when the last fault began or ended, by hist; 0: none has.
	lastFault atomic.Int64

	nodes []*machine
	wg    sync.WaitGroup // kills under way, clients, faults

	mu       sync.Mutex
	rng      *rand.Rand // of the faults; guarded by mu
	failures []string   // guarded by mu
}

// machine is one node: what survives its process is the disk and the name.
type machine struct {
	id   string
	dir  string
	disk *raftfsmtest.Disk

	// life is held by whoever starts the node, so that two episodes do not.
	life chan struct{}

	// Guarded by World.mu.
	gen   uint64 // counts crashes
	node  *cluster.Node
	dying chan struct{} // closed when the last process is gone
}

// clock gives strictly growing times to a history: in fake time much happens in one nanosecond.
type clock struct {
	start time.Time
	shown *atomic.Int64

	mu   sync.Mutex
	last int64 // guarded by mu
}

func (c *clock) now() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = max(c.last+1, int64(time.Since(c.start))+1)
	c.shown.Store(c.last)
	return c.last
}

// NewWorld prepares the nodes n1, n2, ...; none is started.
func NewWorld(tb testing.TB, opt Options) *World {
	if opt.Nodes == 0 {
		opt.Nodes = 3
	}
	if opt.Shards == 0 {
		opt.Shards = 2
	}
	if opt.SnapshotAfter == 0 {
		opt.SnapshotAfter = 256 << 10
	}
	if opt.Log == nil {
		opt.Log = zap.NewNop()
	}
	if opt.Progress == nil {
		opt.Progress = new(atomic.Int64)
	}
	w := &World{
		tb: tb, opt: opt, Hub: transporttest.NewHub(), rec: checker.NewRecorder(), hist: &clock{start: time.Now(), shown: opt.Progress},
		rng: rand.New(rand.NewPCG(opt.Seed, 0x51)),
	}
	w.lead, w.votes = newLeaders(w), newVotes(w)
	for i := range opt.Nodes {
		id := fmt.Sprintf("n%d", i+1)
		m := &machine{id: id, dir: filepath.Join(opt.Dir, id), disk: raftfsmtest.NewDisk(), life: make(chan struct{}, 1)}
		m.disk.SetDelay(fsyncTime)
		if err := mkdir(m.disk.FS(), opt.Dir); err != nil {
			w.Failf("prepare the disk of %s: %v", id, err)
		}
		w.nodes = append(w.nodes, m)
	}
	for _, a := range w.nodes {
		for _, b := range w.nodes {
			w.Hub.SetDelay(a.id, b.id, linkDelay, linkDelay)
		}
	}
	return w
}

// mkdir makes a directory whose parents a crash cannot take away, as an installed system has it.
func mkdir(fs vfs.FS, dir string) error {
	if err := fs.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for {
		d, err := fs.OpenDir(dir)
		if err != nil {
			return err
		}
		if err := errors.Join(d.Sync(), d.Close()); err != nil {
			return err
		}
		if parent := fs.PathDir(dir); parent != dir && dir != "" {
			dir = parent
			continue
		}
		return nil
	}
}

// config is what a node is started with: the defaults with the names of this world.
func (w *World) config(m *machine, gen uint64) cluster.Config {
	cfg := cluster.DefaultConfig()
	cfg.NodeID, cfg.DataDir = m.id, m.dir
	cfg.ClusterAddr, cfg.MQTTAddr, cfg.AdminAddr = m.id+":7400", m.id+":1883", "none"
	for _, o := range w.nodes {
		cfg.Join = append(cfg.Join, o.id+":7400")
	}
	cfg.BootstrapExpect = len(w.nodes)
	cfg.InsecureCluster = true
	cfg.Raft.Heartbeat = heartbeat
	cfg.Raft.SnapshotAfter = w.opt.SnapshotAfter
	cfg.Raft.MinSyncInterval = w.syncTime()
	cfg.Lease = cluster.LeaseConfig{Renew: leaseRenew, LostAfter: leaseLost}
	cfg.Drain.LBDelay = 0
	cfg.Settings.Shards = w.opt.Shards
	cfg.Network = w.Hub.Node(m.id)
	cfg.FS = m.disk.FS()
	cfg.Stable = func(dir string, group uint32) (raftfsm.StableLog, error) {
		if !w.alive(m, gen) {
			return nil, errDead // the disk is another one now
		}
		st, err := m.disk.Stable(dir, group)
		if err != nil {
			return nil, err
		}
		return w.votes.stable(st, m, group), nil
	}
	cfg.Logger = w.opt.Log.WithOptions(zap.WrapCore(w.lead.core))
	cfg.Fatal = func(err error) {
		if w.alive(m, gen) {
			w.Failf("I23: %s stopped at once: %v", m.id, err)
		}
	}
	return cfg
}

// syncTime draws how long the shared log of a node gathers before it syncs. That, and not a slow fsync, is the time in
// which a crash finds data unsynced: Pebble holds a mutex while it waits for the sync of a log that it rotates, and in a
// bubble time would stand still.
func (w *World) syncTime() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.opt.Sync > 0 {
		return w.opt.Sync
	}
	return fsyncTime + time.Duration(w.rng.Int64N(int64(4*time.Millisecond)))
}

// Failf notes a violation; the run goes on, so that its history is whole.
func (w *World) Failf(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.failures) < 20 {
		w.failures = append(w.failures, fmt.Sprintf("at %v: ", time.Since(w.hist.start))+fmt.Sprintf(format, args...))
	}
}

// Start starts a node that is not running.
func (w *World) Start(m *machine) {
	m.life <- struct{}{}
	defer func() { <-m.life }()
	w.mu.Lock()
	up, dying, gen := m.node != nil, m.dying, m.gen
	w.mu.Unlock()
	if up {
		return
	}
	if dying != nil {
		<-dying
	}
	w.fault("start " + m.id)
	w.Hub.PowerOn(m.id)
	n, err := cluster.Start(context.Background(), w.config(m, gen))
	w.mu.Lock()
	crashed := m.gen != gen
	if !crashed && err == nil {
		m.node = n
	}
	w.mu.Unlock()
	switch {
	case crashed && n != nil:
		n.Kill()
	case !crashed && err != nil:
		w.Failf("I24: %s does not start: %v", m.id, err)
	}
}

var errDead = errors.New("this process is dead")

// alive tells whether the process that was started after that many crashes still is.
func (w *World) alive(m *machine, gen uint64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return m.gen == gen
}

// Crash ends nodes at one moment: first the network, so that nothing that they learn later gets out, then the disk, which
// keeps what was synced and unsynced percent of the rest; then their goroutines. With power the others see silence,
// without it a reset. It does not wait.
func (w *World) Crash(power bool, unsynced int, ms ...*machine) {
	names := make([]string, len(ms))
	for i, m := range ms {
		names[i] = m.id
		if power {
			w.Hub.PowerOff(m.id)
		} else {
			w.Hub.Kill(m.id)
		}
	}
	for _, m := range ms {
		w.mu.Lock()
		n := m.node
		m.node = nil
		m.gen++
		seed := w.rng.Uint64()
		gone := make(chan struct{})
		if n != nil {
			m.dying = gone
		}
		w.mu.Unlock()
		m.disk.Crash(unsynced, rand.New(rand.NewPCG(seed, 1)))
		if n == nil {
			continue
		}
		w.wg.Add(1)
		go func() {
			defer w.wg.Done()
			defer close(gone)
			n.Kill()
		}()
	}
	w.fault(fmt.Sprintf("crash %s power=%v unsynced=%d%%", strings.Join(names, " "), power, unsynced))
}

// Stop ends a node politely, as SIGTERM does.
func (w *World) Stop(m *machine) {
	w.mu.Lock()
	n := m.node
	m.node = nil
	w.mu.Unlock()
	if n == nil {
		return
	}
	w.fault("stop " + m.id)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := n.Stop(ctx); err != nil {
		w.Failf("stop %s: %v", m.id, err)
	}
}

func (w *World) fault(what string) {
	w.opt.Log.Info("FAULT "+what, zap.Duration("at", time.Since(w.hist.start)))
	at := w.hist.now()
	if what != healed || w.lastFault.Load() != 0 { // without a fault there is nothing to heal
		w.lastFault.Store(at)
	}
	w.rec.Add(checker.Event{Kind: checker.Fault, T: at, Err: what})
}

// healed is the fault that ends all others.
const healed = "heal"

// faultSince tells whether a fault began or ended since then.
func (w *World) faultSince(t int64) bool {
	at := w.lastFault.Load()
	return at != 0 && at > t
}

// running returns the node of a machine, nil while it is down.
func (w *World) running(m *machine) *cluster.Node {
	w.mu.Lock()
	defer w.mu.Unlock()
	return m.node
}

// form starts all nodes and waits until they serve.
func (w *World) form() error {
	for _, m := range w.nodes {
		w.Start(m)
	}
	err := w.WaitReady()
	w.lastFault.Store(0) // to start for the first time is none
	return err
}

// WaitReady waits until every node says that it is ready.
func (w *World) WaitReady() error {
	return w.until(readyLimit, func() error {
		for _, m := range w.nodes {
			n := w.running(m)
			if n == nil {
				return fmt.Errorf("%s is down", m.id)
			}
			for _, c := range n.ReadyChecks() {
				if !c.OK {
					return fmt.Errorf("%s: %s: %s", m.id, c.Name, c.Detail)
				}
			}
		}
		return nil
	})
}

// until polls until lack returns nil.
func (w *World) until(limit time.Duration, lack func() error) error {
	end := time.Now().Add(limit)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := lack()
		if err == nil {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("not within %v: %w", limit, err)
		}
		<-tick.C
	}
}

// Equal waits until all replicas have applied the same index of every group, and compares their digests (I20).
func (w *World) Equal() error {
	return w.until(readyLimit, func() error {
		at := map[uint32]cluster.GroupStatus{}
		for _, m := range w.nodes {
			n := w.running(m)
			if n == nil {
				return fmt.Errorf("%s is down", m.id)
			}
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			groups := n.Status(ctx).Groups
			cancel()
			if len(groups) != w.opt.Shards+1 {
				return fmt.Errorf("%s knows %d groups", m.id, len(groups))
			}
			for _, g := range groups {
				first, seen := at[g.ID]
				switch {
				case !g.Local || g.Digest == "":
					return fmt.Errorf("%s has no digest of group %d", m.id, g.ID)
				case !seen:
					at[g.ID] = g
				case g.DigestIndex != first.DigestIndex:
					return fmt.Errorf("group %d: %s has applied %d, %s %d", g.ID, w.nodes[0].id, first.DigestIndex, m.id, g.DigestIndex)
				case g.Digest != first.Digest:
					w.Failf("I20: group %d at index %d: %s has digest %s, %s has %s", g.ID, g.DigestIndex, w.nodes[0].id, first.Digest, m.id, g.Digest)
				}
			}
		}
		return nil
	})
}

// Close ends the nodes, politely or not, and waits for all goroutines of the world. The end of the bubble proves that the
// nodes have none left.
func (w *World) Close(polite bool) {
	for _, m := range w.nodes {
		w.mu.Lock()
		n := m.node
		m.node = nil
		if !polite {
			m.gen++
		}
		w.mu.Unlock()
		if n == nil {
			continue
		}
		w.wg.Add(1)
		go func() {
			defer w.wg.Done()
			if polite {
				ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
				defer cancel()
				if err := n.Stop(ctx); err != nil {
					w.Failf("stop %s: %v", m.id, err)
				}
				return
			}
			n.Kill()
		}()
	}
	w.wg.Wait()
	// A connection may just be closed by the goroutine of a context, which nobody waits for.
	synctest.Wait()
	for _, m := range w.nodes {
		if left := w.Hub.Conns(m.id); left != 0 {
			w.Failf("%s left %d connections open", m.id, left)
		}
	}
}

// Verdict is the error of the run: what was noted, and what the checker finds in the history.
func (w *World) Verdict() (*checker.Report, error) {
	r, err := checker.Check(w.rec.Events())
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var errs []error
	for _, f := range w.failures {
		errs = append(errs, errors.New(f))
	}
	for _, v := range r.Violations {
		errs = append(errs, errors.New(v.String()))
	}
	// The rule allows a QoS 1 duplicate after a failover. Lanes and forwards promise more: what is sent again is applied once.
	if n := r.Duplicates["failover"]; n > 0 {
		errs = append(errs, fmt.Errorf("I3: %d messages came twice on one connection, and no client had sent them again", n))
	}
	if len(r.Undrained) > 0 {
		errs = append(errs, fmt.Errorf("not drained: %v", r.Undrained))
	}
	return r, errors.Join(errs...)
}
