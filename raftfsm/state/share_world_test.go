package state_test

import (
	"fmt"
	"hash/fnv"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state/statetest"
	"github.com/flotilla-mqtt/flotilla/router"
)

// A world is several shards, each with a machine that never writes back and one
// that is restarted at random, clients that are members of shares, and a network that
// carries originated commands from shard to shard: each source in order, as the
// origin pump does, and otherwise late, crosswise and more than once.
type world struct {
	t       *rapid.T
	shards  []*worldShard
	clients []*worldClient
	now     int64
	pubs    int
	sent    map[string]*worldMessage
	order   []*worldMessage
	shares  []string
	nodeInc map[string]uint64 // incarnation of the process that runs
}

type worldShard struct {
	id    uint32
	w     *world
	log   [][]byte
	reps  []*state.Shard
	st    *statetest.MemStore
	opts  state.Options
	sent  map[uint32]uint64 // cursor of the pump, per target
	done  map[uint64]bool   // confirmed, not yet told
	lost  []command.NodeLost
	again []worldRepeat
}

type worldRepeat struct {
	to  *worldShard
	cmd []byte
}

type worldMessage struct {
	id      string
	num     int
	qos     byte
	expires bool
	shares  map[int]bool // that must hand it out
	got     map[int][]string
	excused bool
}

func (w *world) shardOf(key string) *worldShard {
	h := fnv.New32a()
	_, _ = h.Write([]byte(key))
	return w.shards[int(h.Sum32())%len(w.shards)]
}

// draw is a number in [0, n).
func (w *world) draw(what string, n int) int { return rapid.IntRange(0, n-1).Draw(w.t, what) }

func newWorld(t *rapid.T, shards int, set command.ShardSettings) *world {
	w := &world{t: t, now: 1_000_000, sent: map[string]*worldMessage{}, nodeInc: map[string]uint64{"n1": 1, "n2": 1}}
	for i := range shards {
		sh := &worldShard{id: uint32(i + 1), w: w, st: statetest.NewMemStore(), sent: map[uint32]uint64{}, done: map[uint64]bool{}}
		sh.opts = state.Options{Settings: set, HotBytes: rapid.SampledFrom([]int64{1, 500, 0}).Draw(t, "hot bytes"), HotOffline: rapid.SampledFrom([]int{1, 0}).Draw(t, "hot offline")}
		for _, o := range []state.Options{{Settings: set}, sh.opts} {
			s := state.NewShard(sh.id, o)
			state.SetTickItems(s, 3)
			st := sh.st
			if len(sh.reps) == 0 {
				st = statetest.NewMemStore()
			}
			if err := s.Load(st); err != nil {
				t.Fatal(err)
			}
			sh.reps = append(sh.reps, s)
		}
		w.shards = append(w.shards, sh)
	}
	return w
}

func (sh *worldShard) mach() *state.Shard { return sh.reps[0] }

// apply applies an entry to both machines, compares them, and disturbs the second.
func (sh *worldShard) apply(cmds ...[]byte) []command.Result {
	t := sh.w.t
	var all []byte
	for _, c := range cmds {
		all = append(all, c...)
	}
	index := uint64(len(sh.log) + 1)
	e := command.BuildEntry(nil, &command.Header{Time: sh.w.now}, command.AppendBatch(nil, &command.BatchHeader{}, all))
	sh.log = append(sh.log, e)
	var out []command.Result
	for i, s := range sh.reps {
		res, _, err := s.Apply(index, e)
		if err != nil {
			t.Fatalf("shard %d: apply: %v", sh.id, err)
		}
		if i == 0 {
			if out, err = command.DecodeResults(res[0].Results, len(cmds)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, got := sh.reps[1].Digest(); got != digestOf(sh.reps[0]) {
		t.Fatalf("shard %d: digests differ at %d", sh.id, index)
	}
	if sh.w.draw("write back", 4) == 0 {
		if err := sh.reps[1].WriteBack(); err != nil {
			t.Fatalf("write back: %v", err)
		}
	}
	if sh.w.draw("crash", 10) == 0 {
		s := state.NewShard(sh.id, sh.opts)
		state.SetTickItems(s, 3)
		if err := s.Load(sh.st); err != nil {
			t.Fatalf("load: %v", err)
		}
		for i := s.Applied(); i < index; i++ {
			if _, _, err := s.Apply(i+1, sh.log[i]); err != nil {
				t.Fatalf("replay: %v", err)
			}
		}
		sh.reps[1] = s
		if digestOf(s) != digestOf(sh.reps[0]) {
			t.Fatalf("shard %d: digest after a restart", sh.id)
		}
	}
	return out
}

func digestOf(s *state.Shard) [16]byte {
	_, d := s.Digest()
	return d
}

// pump sends the next command of a shard to one target; false if there is none.
func (sh *worldShard) pump(to *worldShard) bool {
	for _, o := range sh.mach().Origins(sh.sent[to.id], 1000) {
		if o.Command == nil || sh.w.shardOf(o.TargetKey) != to {
			continue
		}
		cmd := o.Command(nil, command.OriginKey{Shard: sh.id, Seq: o.Seq, Low: sh.mach().OriginLow()})
		sh.sent[to.id] = o.Seq
		if code := to.apply(cmd)[0].Code; code != command.OK && code != command.Duplicate {
			sh.w.t.Fatalf("command %d of shard %d: %v", o.Seq, sh.id, code)
		}
		sh.done[o.Seq] = true
		if len(sh.again) < 50 {
			sh.again = append(sh.again, worldRepeat{to, cmd})
		}
		return true
	}
	return false
}

// repeat sends something again that was sent before, by a leader of the past.
func (sh *worldShard) repeat() {
	if len(sh.again) > 0 {
		r := sh.again[sh.w.draw("repeat", len(sh.again))]
		if code := r.to.apply(r.cmd)[0].Code; code != command.Duplicate {
			sh.w.t.Fatalf("a repeated command was applied: %v", code)
		}
	}
}

// newLeader begins again at the lowest that is not done.
func (sh *worldShard) newLeader() {
	low := sh.mach().OriginLow() - 1
	for id := range sh.sent {
		sh.sent[id] = min(sh.sent[id], low)
	}
	clear(sh.done)
}

func (sh *worldShard) tellDone() {
	var seqs []uint64
	for seq := range sh.done {
		seqs = append(seqs, seq)
	}
	clear(sh.done)
	slices.Sort(seqs)
	var rs []command.Range
	for _, seq := range seqs {
		rs = command.AppendSeq(rs, seq)
	}
	if len(rs) > 0 {
		sh.apply(command.AppendOriginDone(nil, &command.OriginDone{Seqs: rs}))
	}
}

// settle lets the network carry everything that is under way.
func (w *world) settle() {
	for again := true; again; {
		again = false
		for _, sh := range w.shards {
			for len(sh.lost) > 0 {
				sh.hearOfLoss()
			}
			for _, to := range w.shards {
				for sh.pump(to) {
					again = true
				}
			}
			sh.tellDone()
		}
	}
	w.checkShares()
}

// checkShares looks at shares when nothing is under way.
func (w *world) checkShares() {
	for _, c := range w.clients {
		in, ok := c.session()
		if !ok || in.Connected {
			continue
		}
		// A member that is away has only what it perhaps got.
		p, err := c.shard().mach().Peek(command.SessionRef{SessionKey: in.Key, Epoch: in.Epoch}, 0, 1000, 1<<20)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, d := range p.Deliveries {
			if d.Seq > in.SentTo || d.QoS == 0 {
				w.t.Fatalf("%s keeps %s from the others", c.id, show(d))
			}
		}
	}
	for _, sh := range w.shards {
		hash := sh.mach().Settings().ShareStrategy == command.ShareHashTopic
		for _, v := range sh.mach().Shares("", 100) {
			room, assigned := false, 0
			for _, m := range v.Members {
				room = room || m.Online && m.Assigned < m.Room
				assigned += m.Assigned
				ms := w.shardOf(m.Key.ClientID).mach()
				in, ok := ms.Session(m.Key)
				if want := ok && in.Connected && !m.Left; m.Online != want {
					w.t.Fatalf("share %s: member %+v, session %+v", v.Filter, m, in)
				}
			}
			if uint64(assigned) != v.Assigned || v.Assigned > v.Queue {
				w.t.Fatalf("share %s: %+v", v.Filter, v)
			}
			if room && v.Queue > v.Assigned && !hash {
				w.t.Fatalf("share %s stalls: %+v", v.Filter, v)
			}
		}
	}
}

// publish sends a message to every share that has a member.
func (w *world) publish(topic string, qos byte, expiryS int) {
	w.pubs++
	m := &worldMessage{num: w.pubs, id: fmt.Sprintf("m%d", w.pubs), qos: qos, shares: map[int]bool{}, got: map[int][]string{}, expires: expiryS > 0}
	var edits []func(*command.Message)
	if expiryS > 0 {
		edits = append(edits, expiry(uint32(expiryS)))
	}
	p := command.AppendPublish(nil, &command.Publish{Message: msg(topic, m.id, qos, edits...), Flags: command.ToShares})
	targets := map[*worldShard]bool{}
	for i, f := range w.shares {
		sh := w.shardOf(f)
		for _, v := range sh.mach().Shares("", 100) {
			if _, inner, _, _ := router.SplitShare(f); v.Filter == f && router.Matches(inner, []byte(topic)) {
				m.shares[i] = true
				targets[sh] = true
			}
		}
	}
	for _, sh := range w.shards {
		if targets[sh] {
			if code := sh.apply(p)[0].Code; code != command.OK {
				w.t.Fatalf("publish: %v", code)
			}
		}
	}
	w.sent[m.id] = m
	w.order = append(w.order, m)
}

func (w *world) tick(ms int64) {
	w.now += ms
	for _, sh := range w.shards {
		for range 50 {
			sh.apply(tick)
			if due := sh.mach().NextDue(); due == 0 || due > w.now {
				break
			}
		}
		if due := sh.mach().NextDue(); due != 0 && due <= w.now {
			w.t.Fatalf("shard %d: still due at %d after many ticks", sh.id, due)
		}
	}
}

// TestShares_I16 checks with random events that no message of a share is lost, that
// one at QoS 2 reaches one member, and that nothing stalls.
func TestShares_I16(t *testing.T) { rapid.Check(t, runShares) }

// FuzzShares is TestShares_I16 driven by the fuzzer.
func FuzzShares(f *testing.F) { f.Fuzz(rapid.MakeFuzz(runShares)) }

func runShares(t *rapid.T) {
	w := newWorld(t, 3, command.ShardSettings{ShareStrategy: rapid.SampledFrom([]command.ShareStrategy{0, 1, 2, 3}).Draw(t, "strategy")})
	w.shares = []string{"$share/g/a/#", "$share/h/a/b", "$share/h/c"}[:1+w.draw("shares", 3)]
	for i := range 2 + w.draw("clients", 4) {
		w.clients = append(w.clients, &worldClient{w: w, id: fmt.Sprintf("c%d", i)})
	}
	// The first client is in every share and never leaves it, so that no share ends.
	anchor := w.clients[0]
	anchor.connect(true, false)
	for i := range w.shares {
		anchor.subscribe(i, 2)
	}
	w.settle()
	for range rapid.IntRange(1, 120).Draw(t, "steps") {
		w.step()
	}
	w.finish()
}

func (w *world) step() {
	c := w.clients[w.draw("client", len(w.clients))]
	anchor := c == w.clients[0]
	sh := w.shards[w.draw("shard", len(w.shards))]
	switch rapid.SampledFrom([]string{
		"publish", "publish", "publish", "work", "work", "work", "ack", "ack", "pump", "pump", "pump", "pump", "connect", "subscribe",
		"subscribe", "unsubscribe", "disconnect", "settle", "repeat", "leader", "done", "kill", "lost", "tick", "end",
	}).Draw(w.t, "what") {
	case "publish":
		for range 1 + w.draw("burst", 4) {
			w.publish([]string{"a/b", "a/c", "c"}[w.draw("topic", 3)], byte(1+w.draw("qos", 2)), max(0, w.draw("expiry", 12)-8)*10)
		}
	case "work":
		c.work()
	case "ack":
		c.ack()
	case "pump":
		for range 1 + w.draw("times", 5) {
			sh.pump(w.shards[w.draw("to", len(w.shards))])
		}
	case "connect":
		durable := anchor || w.draw("durable", 2) == 0
		c.connect(durable, !anchor && w.draw("clean", 5) == 0)
	case "subscribe":
		c.subscribe(w.draw("share", len(w.shares)), byte(2-w.draw("granted", 3)))
	case "unsubscribe":
		if !anchor {
			c.unsubscribe(w.draw("share", len(w.shares)))
		}
	case "disconnect":
		c.disconnect()
	case "settle":
		w.settle()
	case "repeat":
		sh.repeat()
	case "leader":
		sh.newLeader()
	case "done":
		sh.tellDone()
	case "kill":
		w.kill([]string{"n1", "n2"}[w.draw("node", 2)])
	case "lost":
		if len(sh.lost) > 0 {
			sh.hearOfLoss()
		}
	case "tick":
		w.tick(int64(w.draw("ms", 30_000)))
	case "end":
		if !anchor {
			c.end()
		}
	}
}

// hearOfLoss tells a shard of the next process that ended. What a session without a future got since
// then counts as perhaps sent, too: the shard cannot know better.
func (sh *worldShard) hearOfLoss() {
	for _, c := range sh.w.clients {
		if in, ok := c.session(); ok && c.shard() == sh && !c.connected && !in.Durable {
			c.excuse()
		}
	}
	sh.apply(command.AppendNodeLost(nil, &sh.lost[0]))
	sh.lost = sh.lost[1:]
}

// kill ends a process. Each shard learns of it in its own time.
func (w *world) kill(node string) {
	inc := w.nodeInc[node]
	w.nodeInc[node]++
	for _, c := range w.clients {
		if c.connected && c.node == node {
			c.connected = false
		}
	}
	for _, sh := range w.shards {
		sh.lost = append(sh.lost, command.NodeLost{Node: node, Incarnation: inc})
	}
}

// finish brings everybody back, lets all messages through, and checks them.
func (w *world) finish() {
	w.settle()
	for range 400 {
		for _, c := range w.clients {
			if !c.connected {
				c.connect(c == w.clients[0] || c.durable, false)
			}
			for c.work() || c.ack() {
			}
		}
		w.settle()
		if w.idle() {
			break
		}
	}
	for _, sh := range w.shards {
		for _, v := range sh.mach().Shares("", 100) {
			if v.Queue != 0 {
				w.t.Fatalf("share %s is not empty: %+v", v.Filter, v)
			}
		}
	}
	for _, m := range w.order {
		for i := range m.shares {
			n := len(m.got[i])
			if n == 0 && !m.expires && !(m.excused && m.qos == 2) {
				w.t.Fatalf("%s (QoS %d) of share %d reached nobody", m.id, m.qos, i)
			}
			if n > 1 && m.qos == 2 && !slices.ContainsFunc(m.got[i], func(s string) bool { return s[0] != '2' }) {
				w.t.Fatalf("%s (QoS 2) of share %d reached %v", m.id, i, m.got[i])
			}
		}
	}
}

func (w *world) idle() bool {
	for _, sh := range w.shards {
		for _, v := range sh.mach().Shares("", 100) {
			if v.Queue > 0 {
				return false
			}
		}
	}
	return true
}
