package sim

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// episode is one kind of fault: it begins, lasts for some time, and undoes what it did.
type episode struct {
	name   string
	weight int
	run    func(f *faults)
}

// faults draws episodes until its time is over, one after the other on one lane; two lanes overlap.
type faults struct {
	w   *World
	rng *rand.Rand
	end time.Time
}

func episodes() []episode {
	return []episode{
		{"crash one", 5, (*faults).crashOne},
		{"crash the leader", 4, (*faults).crashLeader},
		{"crash all", 2, (*faults).crashAll},
		{"isolate one", 3, (*faults).isolate},
		{"one way", 3, (*faults).oneWay},
		{"cut one link", 3, (*faults).cutLink},
		{"slow links", 2, (*faults).slowLinks},
		{"slow disk", 2, (*faults).slowDisk},
		{"reset", 2, (*faults).reset},
		{"quiet", 3, (*faults).quiet},
	}
}

// run draws and plays episodes.
func (f *faults) run() {
	list := episodes()
	total := 0
	for _, e := range list {
		total += e.weight
	}
	for time.Now().Before(f.end) {
		at := f.rng.IntN(total)
		for _, e := range list {
			if at -= e.weight; at < 0 {
				e.run(f)
				break
			}
		}
		f.wait(0, time.Second)
	}
}

// wait lasts for a random time, but not much beyond the end.
func (f *faults) wait(least, most time.Duration) {
	d := least + time.Duration(f.rng.Int64N(int64(most-least)+1))
	time.Sleep(min(d, max(time.Until(f.end), 0)+time.Millisecond))
}

func (f *faults) one() *machine { return f.w.nodes[f.rng.IntN(len(f.w.nodes))] }

// two draws two different nodes.
func (f *faults) two() (a, b *machine) {
	i := f.rng.IntN(len(f.w.nodes))
	j := (i + 1 + f.rng.IntN(len(f.w.nodes)-1)) % len(f.w.nodes)
	return f.w.nodes[i], f.w.nodes[j]
}

// unsynced is how much of what was not synced survives: mostly nothing.
func (f *faults) unsynced() int {
	if f.rng.IntN(3) > 0 {
		return 0
	}
	return f.rng.IntN(101)
}

func (f *faults) crash(ms ...*machine) {
	f.w.Crash(f.rng.IntN(2) == 0, f.unsynced(), ms...)
}

func (f *faults) crashOne() {
	m := f.one()
	f.crash(m)
	f.wait(0, 5*time.Second)
	f.w.Start(m)
}

func (f *faults) crashLeader() {
	m := f.w.lead.latest(int64(f.rng.IntN(f.w.opt.Shards + 1)))
	if m == nil {
		return
	}
	f.crash(m)
	f.wait(0, 3*time.Second)
	f.w.Start(m)
}

func (f *faults) crashAll() {
	f.crash(f.w.nodes...)
	for _, i := range f.rng.Perm(len(f.w.nodes)) {
		f.wait(0, time.Second)
		f.w.Start(f.w.nodes[i])
	}
}

// isolate cuts one node, often a leader, from the others; clients reach it in half of the cases.
func (f *faults) isolate() {
	m := f.one()
	if f.rng.IntN(2) == 0 {
		if l := f.w.lead.latest(int64(f.rng.IntN(f.w.opt.Shards + 1))); l != nil {
			m = l
		}
	}
	clients := f.rng.IntN(2) == 0
	f.w.fault(fmt.Sprintf("isolate %s clients=%v", m.id, clients))
	if clients {
		f.w.Hub.Isolate(m.id)
	}
	f.w.cutPeers(m)
	f.wait(200*time.Millisecond, 6*time.Second)
	f.heal()
}

func (f *faults) oneWay() {
	a, b := f.two()
	f.w.fault("cut " + a.id + " to " + b.id)
	f.w.Hub.Cut(a.id, b.id)
	f.wait(200*time.Millisecond, 6*time.Second)
	f.heal()
}

func (f *faults) cutLink() {
	a, b := f.two()
	f.w.fault("cut " + a.id + " and " + b.id)
	f.w.Hub.Cut(a.id, b.id)
	f.w.Hub.Cut(b.id, a.id)
	f.wait(200*time.Millisecond, 6*time.Second)
	f.heal()
}

func (f *faults) heal() {
	f.w.Hub.HealAll()
	f.w.fault(healed)
}

func (f *faults) slowLinks() {
	a, b := f.two()
	d := time.Duration(1+f.rng.IntN(100)) * time.Millisecond
	f.w.fault(fmt.Sprintf("%s and %s take %v", a.id, b.id, d))
	f.w.Hub.SetDelay(a.id, b.id, d, d)
	f.w.Hub.SetDelay(b.id, a.id, d, d)
	f.wait(time.Second, 4*time.Second)
	f.w.Hub.SetDelay(a.id, b.id, linkDelay, linkDelay)
	f.w.Hub.SetDelay(b.id, a.id, linkDelay, linkDelay)
}

func (f *faults) slowDisk() {
	m := f.one()
	d := time.Duration(2+f.rng.IntN(30)) * time.Millisecond
	f.w.fault(fmt.Sprintf("fsync of votes and control log of %s takes %v", m.id, d))
	m.disk.SetDelay(d)
	f.wait(time.Second, 4*time.Second)
	m.disk.SetDelay(fsyncTime)
}

func (f *faults) reset() {
	a, b := f.two()
	f.w.fault("reset " + a.id + " and " + b.id)
	f.w.Hub.Reset(a.id, b.id)
}

func (f *faults) quiet() { f.wait(500*time.Millisecond, 2*time.Second) }

// cutPeers cuts a node from all other nodes, not from clients.
func (w *World) cutPeers(m *machine) {
	for _, o := range w.nodes {
		if o != m {
			w.Hub.Cut(m.id, o.id)
			w.Hub.Cut(o.id, m.id)
		}
	}
}

// Heal ends all faults and starts what is down.
func (w *World) Heal() {
	w.votes.calm()
	w.Hub.HealAll()
	for _, a := range w.nodes {
		a.disk.SetDelay(fsyncTime)
		for _, b := range w.nodes {
			w.Hub.SetDelay(a.id, b.id, linkDelay, linkDelay)
		}
	}
	w.fault(healed)
	for _, m := range w.nodes {
		w.Start(m)
	}
}
