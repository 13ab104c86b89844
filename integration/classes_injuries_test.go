package integration

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"
	"unsafe"

	"github.com/flotilla-mqtt/flotilla/integration/harness"
)

func (r *ward) killFollower() string { return r.down("kill", nil, r.follower()) }
func (r *ward) killLeader() string   { return r.down("kill", nil, r.leader()) }
func (r *ward) killGateway() string  { return r.down("kill", nil, r.any()) }

func (r *ward) killMany() string {
	if r.rng.IntN(2) == 0 {
		return r.down("kill all", nil, r.c.Nodes...)
	}
	majority := len(r.c.Nodes)/2 + 1
	var victims []*harness.Node
	for _, i := range r.rng.Perm(len(r.c.Nodes))[:majority] {
		victims = append(victims, r.c.Nodes[i])
	}
	return r.down("kill a majority", nil, victims...)
}

func (r *ward) pauseLeader() string   { return r.standStill(r.leader()) }
func (r *ward) pauseFollower() string { return r.standStill(r.follower()) }

func (r *ward) standStill(n *harness.Node) string {
	said := r.note("pause", n)
	r.must(n.Pause())
	r.wait(100*time.Millisecond, maxPause+2*time.Second)
	r.must(n.Resume())
	return said
}

func (r *ward) mend() {
	for _, p := range r.c.Proxies {
		p.Heal()
	}
}

// link sets what happens to the connections that one node dials to another.
func (r *ward) link(from, to int, rule harness.Rule) {
	r.c.Proxies[to].Set(r.c.Nodes[from].ID, rule)
}

// part draws a partition: a silent leader, a cut node, one way, one link (a bridge stays), and one that flaps.
func (r *ward) part() string {
	defer r.mend()
	i := r.rng.IntN(len(r.c.Nodes))
	j := (i + 1 + r.rng.IntN(len(r.c.Nodes)-1)) % len(r.c.Nodes)
	a, b := r.c.Nodes[i], r.c.Nodes[j]
	silent := harness.Rule{StallIn: true, StallOut: true}
	switch r.rng.IntN(6) {
	case 0:
		v := r.leader()
		said := r.note("silence all links", v)
		r.partition(silenceLeader, v)
		r.wait(100*time.Millisecond, maxPartition)
		return said
	case 1:
		said := r.note("cut all links", a)
		r.partition(cutAny, a)
		r.wait(100*time.Millisecond, maxPartition)
		return said
	case 2:
		said := r.note("silence one way", a)
		r.link(i, j, harness.Rule{StallIn: true})
		r.link(j, i, harness.Rule{StallOut: true})
		r.wait(100*time.Millisecond, maxPartition)
		return said
	case 3:
		said := r.note("silence the link between", a, b)
		r.link(i, j, silent)
		r.link(j, i, silent)
		r.wait(100*time.Millisecond, maxPartition)
		return said
	case 4:
		v, l := r.follower(), r.c.Leader(r.t.Context(), 0)
		said := r.note("cut from the leader of the control group", v)
		for k, n := range r.c.Nodes {
			if n == l {
				r.c.Proxies[k].Set(v.ID, silent)
			}
			if n == v && l != nil {
				r.c.Proxies[k].Set(l.ID, silent)
			}
		}
		r.wait(100*time.Millisecond, maxPartition)
		return said
	}
	said := r.note("flapping links", a)
	for until := time.Now().Add(r.between(2*time.Second, 6*time.Second)); time.Now().Before(until); {
		r.partition(silenceShard, a)
		r.wait(50*time.Millisecond, 500*time.Millisecond)
		r.mend()
		r.wait(50*time.Millisecond, 500*time.Millisecond)
	}
	return said
}

// badLinks draws delays, jitter, a narrow band or connections that break in the middle of a frame, on all links of a node.
func (r *ward) badLinks() string {
	defer r.mend()
	rules := []struct {
		what string
		rule harness.Rule
	}{
		{"delay", harness.Rule{Delay: r.between(10*time.Millisecond, 300*time.Millisecond)}},
		{"jitter", harness.Rule{Delay: 5 * time.Millisecond, Jitter: r.between(10*time.Millisecond, 200*time.Millisecond)}},
		{"1 MB/s", harness.Rule{BytesPerSecond: 1 << 20}},
		{"breaks within frames", harness.Rule{BreakAfter: 20_000 + r.rng.IntN(200_000)}},
	}
	bad := rules[r.rng.IntN(len(rules))]
	v := r.any()
	said := r.note(bad.what, v)
	for i, n := range r.c.Nodes {
		if n == v {
			r.c.Proxies[i].Set(harness.Everybody, bad.rule)
		} else {
			r.c.Proxies[i].Set(v.ID, bad.rule)
		}
	}
	r.wait(time.Second, 6*time.Second)
	return said
}

// powerLoss drops what is not synced, of one node or of all.
func (r *ward) powerLoss() string {
	victims := []*harness.Node{r.any()}
	if r.rng.IntN(3) == 0 {
		victims = r.c.Nodes
	}
	said := r.note("power loss", victims...)
	for _, v := range victims {
		r.must(v.Disk(harness.DiskPowerLoss))
	}
	for _, v := range victims {
		v.WaitExit(r.t, patience)
	}
	r.wait(0, 2*time.Second)
	for _, v := range victims {
		r.must(v.Disk(harness.DiskWell))
		r.must(v.Launch())
	}
	return said
}

// tornWrite cuts a few bytes off a file that was written to until the end.
func (r *ward) tornWrite() string {
	v := r.any()
	return r.damaged("torn write", v, func() (string, error) {
		path, size, err := v.Newest()
		if err != nil {
			return "", err
		}
		cut := min(size, 1+r.rng.Int64N(64))
		return fmt.Sprintf(", %d bytes of %s", cut, filepath.Base(path)), os.Truncate(path, size-cut)
	})
}

func (r *ward) flipBit() string {
	v := r.any()
	return r.damaged("bit flip", v, func() (string, error) {
		path, size, err := v.File(r.rng)
		if err != nil {
			return "", err
		}
		at := r.rng.Int64N(size)
		return fmt.Sprintf(", byte %d of %s", at, filepath.Base(path)), harness.FlipBit(path, at, r.rng.IntN(8))
	})
}

func (r *ward) truncate() string {
	v := r.any()
	return r.damaged("truncated file", v, func() (string, error) {
		path, size, err := v.File(r.rng)
		if err != nil {
			return "", err
		}
		if r.rng.IntN(4) == 0 {
			return ", without " + filepath.Base(path), os.Remove(path)
		}
		left := r.rng.Int64N(size)
		return fmt.Sprintf(", %s at %d of %d bytes", filepath.Base(path), left, size), os.Truncate(path, left)
	})
}

// emptyDisk is an identity without its memory: it must be refused (I25).
func (r *ward) emptyDisk() string {
	v := r.any()
	before := r.refused
	said := r.damaged("empty disk", v, func() (string, error) { return "", v.Wipe() })
	if r.refused == before {
		r.t.Errorf("I25: %s: the node came up", said)
	}
	return said
}

// full leaves a node without room, or without file descriptors.
func (r *ward) full() string {
	v := r.any()
	if r.rng.IntN(2) == 0 {
		said := r.note("disk full", v)
		return r.failStop(said, v, harness.DiskFull)
	}
	said := r.note("no descriptors", v)
	old, err := limitFiles(v.Pid(), 40)
	r.must(err)
	r.wait(time.Second, 4*time.Second)
	if v.Running() {
		_, err = limitFiles(v.Pid(), old)
		r.must(err)
		return said
	}
	r.must(v.Launch()) // it stopped rather than go on without its files
	return said + ": it stopped"
}

// failStop lets a disk fail: the node must end with 10 before it acknowledges anything more, and comes back with a disk.
func (r *ward) failStop(said string, v *harness.Node, order string) string {
	r.must(v.Disk(order))
	code := v.WaitExit(r.t, patience)
	if code != 10 {
		r.t.Errorf("I23: %s: the node ended with %d, want 10", said, code)
	}
	r.must(v.Disk(harness.DiskWell))
	r.wait(0, time.Second)
	r.must(v.Launch())
	return said
}

func (r *ward) ioErrors() string {
	v := r.any()
	return r.failStop(r.note("EIO", v), v, harness.DiskEIO)
}

// stalledDisk delays each sync, or holds everything: for longer than the watchdog allows, the node ends.
func (r *ward) stalledDisk() string {
	v := r.any()
	if r.rng.IntN(2) == 0 {
		said := r.note("slow disk", v)
		r.must(v.Disk(harness.DiskSlow))
		r.wait(time.Second, 6*time.Second)
		r.must(v.Disk(harness.DiskWell))
		return said
	}
	said := r.note("stalled disk", v)
	r.must(v.Disk(harness.DiskStall))
	r.wait(500*time.Millisecond, 8*time.Second)
	r.must(v.Disk(harness.DiskWell))
	// One that its watchdog has ended goes a moment later, and may answer until then.
	_ = harness.Until(r.t.Context(), 3*time.Second, "the node to end", func(context.Context) error {
		if v.Running() {
			return errors.New("it runs")
		}
		return nil
	})
	if !v.Running() {
		r.must(v.Launch())
		return said + ": it stopped"
	}
	return said
}

// longAway keeps a node away until the others have cut their logs, so that it comes back by a snapshot.
func (r *ward) longAway() string {
	v := r.any()
	said := r.note("away for long", v)
	r.must(v.Kill())
	before := r.tr.acked()
	_ = harness.Until(r.t.Context(), 25*time.Second, "traffic to pass the node by", func(context.Context) error {
		if r.tr.acked() < before+8000 {
			return errTooFew
		}
		return nil
	})
	r.must(v.Launch())
	r.must(v.Ready(r.t.Context(), healTimeout))
	return fmt.Sprintf("%s: %d messages missed, %d snapshots", said, r.tr.acked()-before, len(v.Events("raft.snapshot_restored")))
}

// drainOne sends the clients and leaderships of a node away, and takes it back.
func (r *ward) drainOne() string {
	v := r.any()
	said := r.note("drain", v)
	var refused *harness.HTTPError
	if err := v.Do(r.t.Context(), http.MethodPost, "/api/v1/nodes/"+v.ID+"/drain", nil, nil); err != nil && !errors.As(err, &refused) {
		r.must(err)
	}
	r.wait(time.Second, 4*time.Second)
	r.must(harness.Until(r.t.Context(), patience, "the node to be taken back", func(ctx context.Context) error {
		err := v.Do(ctx, http.MethodPost, "/api/v1/nodes/"+v.ID+"/undrain", nil, nil)
		if errors.As(err, &refused) && refused.Status == http.StatusConflict {
			return nil
		}
		return err
	}))
	return said
}

// transfer moves leaderships for a while.
func (r *ward) transfer() string {
	said := r.note("leadership transfer")
	for range 4 {
		group := r.rng.IntN(9)
		// A refusal is an answer, too: the target may lag, or the group may have no leader.
		_ = r.any().Do(r.t.Context(), http.MethodPost, fmt.Sprintf("/api/v1/groups/%d/transfer", group), map[string]string{"to": r.any().ID}, nil)
		r.wait(100*time.Millisecond, 800*time.Millisecond)
	}
	return said
}

// rolling stops and starts all nodes, one after the other, as an upgrade does.
func (r *ward) rolling() string {
	said := r.note("rolling restart", r.c.Nodes...)
	for _, n := range r.c.Nodes {
		n.Stop(r.t)
		r.must(n.Launch())
		r.heal()
	}
	return said
}

// clientsBreak cuts the connections of some clients, and keeps some away.
func (r *ward) clientsBreak() string {
	said := r.note("clients break")
	people := append(append([]*person(nil), r.tr.publishers...), r.tr.subscribers...)
	for range 12 {
		p := people[r.rng.IntN(len(people))]
		if r.rng.IntN(3) == 0 {
			p.leave()
			r.wait(0, 300*time.Millisecond)
			p.back()
		} else {
			p.drop()
		}
		r.wait(0, 200*time.Millisecond)
	}
	return said
}

// garbage writes noise to both ports of a node, with the first bytes of what belongs there.
func (r *ward) garbage() string {
	v := r.any()
	said := r.note("garbage", v)
	for range 40 {
		addr := []string{v.MQTTAddr(), v.ClusterAddr()}[r.rng.IntN(2)]
		conn, err := net.DialTimeout("tcp", addr, time.Second)
		if err != nil {
			continue
		}
		noise := make([]byte, 1+r.rng.IntN(4096))
		for i := range noise {
			noise[i] = byte(r.rng.IntN(256))
		}
		if r.rng.IntN(2) == 0 {
			noise[0] = []byte{0x10, 'F', 0x16, 0x00}[r.rng.IntN(4)]
		}
		_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = conn.Write(noise) // the node may hang up in the middle
		_ = conn.Close()
	}
	return said
}

// starve starts a node again with little memory or one slow thread, and after a while as before.
func (r *ward) starve() string {
	v := r.any()
	said := r.note("starved", v)
	r.must(v.Kill())
	if r.rng.IntN(2) == 0 {
		r.must(v.LaunchWith("GOMEMLIMIT=64MiB", "GOGC=10"))
	} else {
		r.must(v.LaunchWith("GOMAXPROCS=1"))
		r.must(syscall.Setpriority(syscall.PRIO_PROCESS, v.Pid(), 15))
	}
	r.must(v.Ready(r.t.Context(), healTimeout))
	r.wait(time.Second, 4*time.Second)
	r.must(v.Kill())
	r.must(v.Launch())
	return said
}

// composite hurts in two ways at a time.
func (r *ward) composite() string {
	defer r.mend()
	i := r.rng.IntN(len(r.c.Nodes))
	a, b := r.c.Nodes[i], r.c.Nodes[(i+1)%len(r.c.Nodes)]
	rule := []harness.Rule{{StallIn: true, StallOut: true}, {Delay: 80 * time.Millisecond}, {Cut: true}}[r.rng.IntN(3)]
	said := r.note("bad links and", a)
	for k, n := range r.c.Nodes {
		if n == a {
			r.c.Proxies[k].Set(harness.Everybody, rule)
		}
	}
	r.wait(0, time.Second)
	if r.rng.IntN(2) == 0 {
		return said + ", " + r.down("kill", nil, b)
	}
	return said + ", " + r.standStill(b)
}

// limitFiles sets how many files a process may have open, and returns what it was.
func limitFiles(pid int, limit uint64) (old uint64, err error) {
	var before, now syscall.Rlimit
	if err := prlimit(pid, nil, &before); err != nil {
		return 0, err
	}
	now = before
	now.Cur = limit
	return before.Cur, prlimit(pid, &now, nil)
}

func prlimit(pid int, set, get *syscall.Rlimit) error {
	_, _, errno := syscall.RawSyscall6(syscall.SYS_PRLIMIT64, uintptr(pid), syscall.RLIMIT_NOFILE, uintptr(unsafe.Pointer(set)), uintptr(unsafe.Pointer(get)), 0, 0)
	if errno != 0 {
		return fmt.Errorf("prlimit of %d: %w", pid, errno)
	}
	return nil
}
