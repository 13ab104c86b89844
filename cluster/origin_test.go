package cluster

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
	"github.com/flotilla-mqtt/flotilla/session"
)

// originList is the machine of a source shard: what it originated and is not done.
type originList struct {
	mu      sync.Mutex
	items   []state.Originated
	last    uint64
	reports int
}

func (s *originList) add(target string, gated bool) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last++
	s.items = append(s.items, state.Originated{Seq: s.last, TargetKey: target, Gated: gated, Command: func(dst []byte, key command.OriginKey) []byte {
		text := binary.AppendUvarint([]byte(target), key.Seq)
		return command.AppendPublish(dst, &command.Publish{Message: text, Flags: command.ToInboxes, Origin: key})
	}})
	return s.last
}

func (s *originList) Origins(after uint64, limit int) []state.Originated {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []state.Originated
	for _, o := range s.items {
		if o.Seq > after && len(out) < limit {
			out = append(out, o)
		}
	}
	return out
}

func (s *originList) OriginLow() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.items) > 0 {
		return s.items[0].Seq
	}
	return s.last + 1
}

// tell applies OriginDone, sometimes not.
func (s *originList) tell(rng *rand.Rand) func([]byte, func(error)) {
	return func(cmds []byte, done func(error)) {
		var c command.Command
		b, err := command.DecodeBatch(command.AppendBatch(nil, &command.BatchHeader{}, cmds))
		if err != nil {
			panic(err)
		}
		it := b.Commands()
		if ok, err := it.Next(&c); !ok || err != nil {
			panic(fmt.Sprint(ok, err))
		}
		var od command.OriginDone
		if err := od.Decode(c.Payload); err != nil {
			panic(err)
		}
		s.mu.Lock()
		s.reports++
		if rng.Float64() < 0.2 {
			s.mu.Unlock()
			time.AfterFunc(time.Millisecond, func() { done(errFakeLink) })
			return
		}
		s.items = slices.DeleteFunc(s.items, func(o state.Originated) bool {
			return slices.ContainsFunc(od.Seqs, func(r command.Range) bool { return r.From <= o.Seq && o.Seq <= r.To })
		})
		s.mu.Unlock()
		time.AfterFunc(time.Millisecond, func() { done(nil) })
	}
}

// originTarget is the machine of a target shard: it applies each batch of a lane
// once and in order, and each origin key once.
type originTarget struct {
	mu    sync.Mutex
	lanes map[string]*[2]uint64 // by node: incarnation, last sequence
	low   uint64
	known map[uint64]bool
	first []uint64 // keys in the order of their first application
	calls int
}

func newOriginTargets() map[string]*originTarget {
	out := map[string]*originTarget{}
	for _, k := range originKeys {
		out[k] = &originTarget{lanes: map[string]*[2]uint64{}, known: map[uint64]bool{}}
	}
	return out
}

func (s *originTarget) apply(raw []byte) command.BatchResult {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := command.DecodeBatch(raw)
	if err != nil {
		panic(err)
	}
	res := command.BatchResult{Node: b.Node, Incarnation: b.Incarnation, Seq: b.Seq, Code: command.OK}
	l := s.lanes[b.Node]
	if l == nil {
		l = new([2]uint64)
		s.lanes[b.Node] = l
	}
	switch {
	case b.Incarnation < l[0]:
		res.Code = command.StaleIncarnation
		return res
	case b.Incarnation > l[0]:
		*l = [2]uint64{b.Incarnation, 0}
	}
	if b.Seq > l[1]+1 {
		res.Code = command.Gap
		return res
	}
	var w command.ResultWriter
	var c command.Command
	for it := b.Commands(); ; {
		ok, err := it.Next(&c)
		if err != nil {
			panic(err)
		}
		if !ok {
			break
		}
		w.Code(command.OK)
		if b.Seq <= l[1] {
			continue
		}
		var p command.Publish
		if err := p.Decode(c.Payload); err != nil {
			panic(err)
		}
		s.calls++
		s.low = max(s.low, p.Origin.Low)
		if p.Origin.Seq >= s.low && !s.known[p.Origin.Seq] {
			s.known[p.Origin.Seq] = true
			s.first = append(s.first, p.Origin.Seq)
		}
	}
	l[1] = max(l[1], b.Seq)
	res.Results = w.Bytes()
	return res
}

// originNode is a node with lanes over a bad network.
type originNode struct {
	name    string
	targets map[string]*originTarget
	rng     *rand.Rand

	mu    sync.Mutex
	inc   uint64
	lanes map[string]*lane
	wg    *sync.WaitGroup
	gates int
}

var originKeys = []string{"a", "b", "c"}

func newOriginNode(ctx context.Context, name string, seed uint64, targets map[string]*originTarget, wg *sync.WaitGroup) *originNode {
	n := &originNode{name: name, targets: targets, rng: rand.New(rand.NewPCG(seed, 7)), lanes: map[string]*lane{}, wg: wg}
	for i, k := range originKeys {
		l := newLane(uint32(i), name, originLink{n, targets[k]}, sealBatch, 200*time.Millisecond, newMetrics(nil))
		n.lanes[k] = l
		wg.Add(1)
		go func() { defer wg.Done(); l.run(ctx) }()
	}
	n.renew()
	return n
}

// renew gives the node a new incarnation.
func (n *originNode) renew() {
	n.mu.Lock()
	n.inc++
	inc := n.inc
	n.mu.Unlock()
	for _, k := range originKeys {
		n.lanes[k].reset(inc, ErrLaneReset)
		time.Sleep(time.Millisecond)
	}
}

type originLink struct {
	n *originNode
	t *originTarget
}

func (l originLink) sendBatch(_ uint32, batch []byte, done func(command.BatchResult, uint64, error)) {
	l.n.mu.Lock()
	lost, deaf, wait := l.n.rng.Float64() < 0.1, l.n.rng.Float64() < 0.1, time.Duration(l.n.rng.IntN(5))*time.Millisecond
	l.n.mu.Unlock()
	time.AfterFunc(wait, func() {
		if lost {
			done(command.BatchResult{}, 0, errFakeLink)
			return
		}
		res := l.t.apply(batch)
		if deaf {
			done(command.BatchResult{}, 0, errFakeLink)
			return
		}
		done(res, res.Seq, nil)
	})
}

func (n *originNode) originLanes() uint64 { n.mu.Lock(); defer n.mu.Unlock(); return n.inc }
func (n *originNode) mayRoute() bool      { return true }
func (n *originNode) routeOrigin(context.Context, *state.Originated, command.OriginKey, uint64, func(session.Outcome)) {
	panic("no messages here")
}
func (n *originNode) shardOf(_, key string) uint32 { return uint32(slices.Index(originKeys, key)) }
func (n *originNode) sendOrigin(shard uint32, inc uint64, cmd []byte, done doneFn) error {
	return n.lanes[originKeys[shard]].addKept(inc, func(dst []byte) []byte { return append(dst, cmd...) }, done)
}
func (n *originNode) effective(ctx context.Context, _ uint32, _, _ uint64) error {
	n.mu.Lock()
	n.gates++
	n.mu.Unlock()
	return sleep(ctx, 50*time.Millisecond)
}
func (n *originNode) spawn(fn func()) {
	n.wg.Add(1)
	go func() { defer n.wg.Done(); fn() }()
}

// TestOriginPump_I2_I4 pumps commands through lanes that lose batches and
// answers, are reset, and are given up on, while the leadership moves between two
// nodes and an old leader goes on for a while. Every target applies every command
// once, in the order of sequence, and the machine is told of all of them.
func TestOriginPump_I2_I4(t *testing.T) {
	for seed := uint64(1); seed <= 20; seed++ {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 3))
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			targets := newOriginTargets()
			src := new(originList)
			nodes := []*originNode{newOriginNode(ctx, "n1", seed, targets, &wg), newOriginNode(ctx, "n2", seed+100, targets, &wg)}
			var want = map[string][]uint64{}
			var pumps []*originPump
			lead := func(n *originNode) context.CancelFunc {
				pctx, stop := context.WithCancel(ctx)
				p := newOriginPump(9, src, n, src.tell(rand.New(rand.NewPCG(seed, 5))))
				pumps = append(pumps, p)
				wg.Go(func() { p.run(pctx) })
				return stop
			}
			stop := lead(nodes[0])
			for i := range 3000 {
				k := originKeys[rng.IntN(len(originKeys))]
				want[k] = append(want[k], src.add(k, rng.IntN(10) == 0))
				for _, p := range pumps {
					p.kick()
				}
				switch rng.IntN(200) {
				case 0:
					nodes[rng.IntN(2)].renew()
				case 1: // the old leader does not know yet
					old := stop
					time.AfterFunc(time.Duration(rng.IntN(20))*time.Millisecond, old)
					stop = lead(nodes[rng.IntN(2)])
				}
				if i%10 == 0 {
					time.Sleep(time.Duration(rng.IntN(3)) * time.Millisecond)
				}
			}
			time.Sleep(30 * time.Second)
			synctest.Wait()
			for _, k := range originKeys {
				if got := targets[k].first; !slices.Equal(got, want[k]) {
					t.Errorf("seed %d, target %s: %d of %d commands, or out of order", seed, k, len(got), len(want[k]))
				}
			}
			if left := len(src.items); left != 0 {
				t.Errorf("seed %d: the machine was not told of %d commands", seed, left)
			}
			if src.reports > 600 {
				t.Errorf("seed %d: %d entries told the machine of 3,000 commands", seed, src.reports)
			}
			cancel()
			stop()
			wg.Wait()
		})
	}
}

// TestOriginWaitOne: a CONNACK waits for the will of its client alone, not for what the shard originated before or after it, by
// this leader or the next one, whether it is under way or long done.
func TestOriginWaitOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		targets := newOriginTargets()
		node := newOriginNode(ctx, "n1", 1, targets, &wg)
		src := new(originList)
		src.add("b", true)
		will := src.add("a", false)
		last := src.add("b", true)
		p := newOriginPump(9, src, node, src.tell(rand.New(rand.NewPCG(1, 6))))
		short, end := context.WithTimeout(ctx, time.Second)
		if err := p.waitOne(short, will); err == nil {
			t.Error("nothing was sent, and it is there")
		}
		end()
		pctx, stop := context.WithCancel(ctx)
		wg.Go(func() { p.run(pctx) })
		start := time.Now()
		if err := p.waitOne(ctx, will); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took >= 50*time.Millisecond {
			t.Errorf("it waited %v: the routes of a gated command take 50 ms", took)
		}
		if targets["a"].first == nil {
			t.Error("it was not there")
		}
		if err := p.wait(ctx, last); err != nil { // it is confirmed
			t.Fatal(err)
		}
		if err := p.waitOne(ctx, will); err != nil {
			t.Fatal(err)
		}
		src.mu.Lock()
		src.items = nil // the machine has forgotten it
		src.mu.Unlock()
		if err := newOriginPump(9, src, node, nil).waitOne(ctx, will); err != nil { // and the next leader never knew it
			t.Fatal(err)
		}
		stop()
		cancel()
		wg.Wait()
	})
}

// TestOriginGate_I5: a SUBACK waits for the gated commands up to its own, by this
// leader or the next one, whether they are sent, confirmed or long done.
func TestOriginGate_I5(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		targets := newOriginTargets()
		node := newOriginNode(ctx, "n1", 1, targets, &wg)
		src := new(originList)
		src.add("a", false)
		gate := src.add("b", true)
		pctx, stop := context.WithCancel(ctx)
		p := newOriginPump(9, src, node, src.tell(rand.New(rand.NewPCG(1, 5))))
		wg.Go(func() { p.run(pctx) })
		start := time.Now()
		if err := p.wait(ctx, gate); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took < 50*time.Millisecond || took > 2*time.Second {
			t.Errorf("the gate opened after %v, the routes of the target took 50 ms", took)
		}
		time.Sleep(time.Second)
		if err := p.wait(ctx, gate); err != nil { // done long ago
			t.Fatal(err)
		}
		// Something older is not done; what is waited for was done by the last leader.
		old := src.add("a", true)
		done := src.add("b", true)
		stop()
		src.mu.Lock()
		src.items = slices.DeleteFunc(src.items, func(o state.Originated) bool { return o.Seq == done })
		src.mu.Unlock()
		if err := p.wait(ctx, old); !errors.Is(err, ErrNoLeader) {
			t.Errorf("a pump that has ended answers %v", err)
		}
		p = newOriginPump(9, src, node, src.tell(rand.New(rand.NewPCG(1, 5))))
		pctx, stop = context.WithCancel(ctx)
		wg.Go(func() { p.run(pctx) })
		wctx, end := context.WithTimeout(ctx, 5*time.Second)
		if err := p.wait(wctx, done); err != nil {
			t.Errorf("the wait for what the last leader has done: %v", err)
		}
		end()
		end2, quit := context.WithTimeout(ctx, 10*time.Millisecond)
		if err := p.wait(end2, src.add("c", true)); !errors.Is(err, context.DeadlineExceeded) || len(p.waiters) != 0 {
			t.Errorf("a wait that was given up: %v, %d waiters left", err, len(p.waiters))
		}
		quit()
		stop()
		cancel()
		wg.Wait()
	})
}

// TestOriginVanishes: what failed and is not in the machine any more holds nothing up.
func TestOriginVanishes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		targets := newOriginTargets()
		node := newOriginNode(ctx, "n1", 1, targets, &wg)
		src := new(originList)
		p := newOriginPump(9, src, node, src.tell(rand.New(rand.NewPCG(1, 5))))
		gone := src.add("a", true)
		p.pump(ctx)
		src.mu.Lock()
		src.items = nil
		src.mu.Unlock()
		node.renew() // it fails
		after := src.add("b", true)
		wg.Go(func() { p.run(ctx) })
		wctx, end := context.WithTimeout(ctx, 10*time.Second)
		defer end()
		if err := p.wait(wctx, after); err != nil {
			t.Errorf("what came after %d waits: %v", gone, err)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if len(src.items) != 0 || len(p.items) != 0 {
			t.Errorf("%d are left in the machine, %d in the pump", len(src.items), len(p.items))
		}
		cancel()
		wg.Wait()
	})
}
