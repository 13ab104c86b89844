package state_test

import (
	"bytes"
	"maps"
	"slices"
	"testing"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state/statetest"
	"pgregory.net/rapid"
)

// backup is what a backup holds of a shard.
type backup struct {
	meta   []byte
	pairs  [][2][]byte
	sum    state.RecordSum
	digest [16]byte
}

// backupOf takes a machine that was just written back.
func backupOf(t tester, s *state.Shard, st *statetest.MemStore) *backup {
	t.Helper()
	b := &backup{digest: s.ContentDigest()}
	err := st.Iterate(nil, nil, func(k, v []byte) bool {
		switch {
		case state.IsMeta(k):
			b.meta = bytes.Clone(v)
		case state.Restorable(k):
			b.pairs = append(b.pairs, [2][]byte{bytes.Clone(k), append([]byte{}, v...)})
			b.sum.Add(k, v)
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func step(step command.RestoreStep) []byte {
	return command.AppendRestore(nil, &command.Restore{Step: step, ID: "r1"})
}

func (b *backup) load() []byte {
	return command.AppendRestore(nil, &command.Restore{
		Step: command.RestoreLoad, ID: "r1", Meta: b.meta, Records: b.sum.Records, Sum: b.sum.Sum(), Digest: b.digest,
	})
}

// chunks are the records in chunks of n.
func (b *backup) chunks(n int) (out [][]byte) {
	for i := 0; i < len(b.pairs); i += n {
		var pairs []byte
		for _, p := range b.pairs[i:min(i+n, len(b.pairs))] {
			pairs = state.AppendPair(pairs, p[0], p[1])
		}
		out = append(out, command.AppendRestoreChunk(nil, &command.RestoreChunk{ID: "r1", Seq: uint64(len(out)), Pairs: pairs}))
	}
	return out
}

// stage begins a restore and brings the chunks.
func (b *backup) stage(r *rig, n int) {
	r.t.Helper()
	r.one(command.OK, step(command.RestoreBegin))
	for _, c := range b.chunks(n) {
		r.one(command.OK, c)
	}
}

// busyShard has something of every kind.
func busyShard(t tester) (*rig, map[string]command.SessionRef) {
	r := newRig(t, state.Options{})
	refs := map[string]command.SessionRef{}
	for _, c := range []string{"on", "off", "soon"} {
		refs[c] = r.connect(c, func(c *command.Connect) {
			c.HasWill, c.Will = true, command.Will{Message: msg("will/"+c.Key.ClientID, "w", 1), DelayS: 60}
		})
		r.one(command.OK, sub(refs[c], filters(2, "t/#")...))
	}
	refs["fleeting"] = r.connect("fleeting", func(c *command.Connect) {
		c.ExpiryS, c.HasWill, c.Will = 0, true, command.Will{Message: msg("will/f", "gone", 1)}
	})
	r.one(command.OK, sub(refs["fleeting"], filters(1, "t/#")...))
	for _, p := range []string{"1", "2", "3"} {
		r.one(command.OK, pub("t/1", p, 2))
	}
	r.one(command.OK, pub("t/r", "kept", 1, retain))
	r.one(command.OK, pub("t/x", "short", 1, expiry(30)))
	r.one(command.OK, ack(refs["on"], 2, 1))
	r.one(command.OK, recv(refs["on"], 3, 2))
	r.one(command.OK, disc(refs["off"], command.DisconnectNormal, 1))
	r.now += 10_000
	r.one(command.OK, disc(refs["soon"], command.DisconnectLost, 0))
	r.one(command.OK, command.AppendReceive(nil, &command.Receive{Ref: refs["on"], PacketID: 9, Message: msg("t/in", "in", 2)}))
	r.one(command.OK, command.AppendReceive(nil, &command.Receive{Ref: refs["on"], PacketID: 10, Message: msg("t/out", "out", 2)}))
	r.one(command.OK, command.AppendRelease(nil, &command.Release{Ref: refs["on"], PacketID: 10}))
	r.one(command.OK, command.AppendPublish(nil, &command.Publish{Message: msg("t/o", "o", 1), Flags: command.ToInboxes, Origin: command.OriginKey{Shard: 3, Seq: 5, Low: 4}}))
	r.writeBack()
	return r, refs
}

// TestRestoreBringsEverythingBack takes a shard apart and puts it together elsewhere, a week later.
func TestRestoreBringsEverythingBack(t *testing.T) {
	src, refs := busyShard(t)
	b := backupOf(t, src.s, src.st)
	dst := newRig(t, state.Options{})
	dst.now = src.now + 7*86400_000
	b.stage(dst, 3)
	dst.writeBack()
	dst.one(command.OK, b.load())
	if len(dst.fx.Routes) == 0 {
		t.Error("nobody is told of the routes")
	}
	if dst.fx.Origins || len(dst.s.Origins(0, 10)) != 0 {
		t.Error("a shard that is not open originates")
	}
	dst.one(command.Full, conn("new"))
	dst.one(command.OK, step(command.RestoreOpen))
	dst.one(command.Duplicate, step(command.RestoreOpen))
	if !dst.fx.Origins && len(dst.s.Origins(0, 10)) == 0 {
		t.Error("what was originated is gone")
	}
	for name, ref := range refs {
		want := src.fetch(ref)
		in, ok := dst.s.Session(ref.SessionKey)
		if name == "fleeting" {
			if ok {
				t.Error("a session that lived in its connection outlived it")
			}
			continue
		}
		if !ok || in.Connected || in.Epoch <= src.refsMax(refs) {
			t.Fatalf("%s: %+v", name, in)
		}
		dst.one(command.StaleEpoch, sub(ref, filters(1, "x")...))
		got := dst.fetch(command.SessionRef{SessionKey: ref.SessionKey, Epoch: in.Epoch})
		if a, z := shows(want), shows(got); name != "on" && !slices.Equal(a, z) {
			t.Errorf("%s: %v, was %v", name, z, a)
		} else if len(a) != len(z) {
			t.Errorf("%s: %d entries, were %d", name, len(z), len(a))
		}
	}
	was, _ := src.s.Session(key("off"))
	is, _ := dst.s.Session(key("off"))
	if left, had := is.ExpiresAt-dst.now, was.ExpiresAt-src.now; left != had {
		t.Errorf("the session ends %d ms from now, was %d", left, had)
	}
	if on, _ := dst.s.Session(key("on")); on.ExpiresAt-dst.now != 3600_000 || on.Inbound != 1 || !on.HasWill {
		t.Errorf("the session that was connected: %+v", on)
	}
	// Its fleeting neighbour's will went out, and what was released is still to go.
	if o := dst.s.Origins(0, 10); len(o) != 2 || !o[1].Will {
		t.Errorf("originated: %+v", o)
	}
	dst.one(command.Duplicate, command.AppendPublish(nil, &command.Publish{Message: msg("t/o", "o", 1), Flags: command.ToInboxes, Origin: command.OriginKey{Shard: 3, Seq: 5, Low: 4}}))
	kept, err := dst.s.Retained(state.RetainedQuery{Filter: "t/r", Limit: 10})
	if err != nil || len(kept.Items) != 1 || string(kept.Items[0].Msg.Payload) != "kept" {
		t.Errorf("retained: %v, %v", kept, err)
	}
	// What expired meanwhile is not delivered: its interval was a promise to its publisher.
	dst.one(command.OK, command.AppendTick(nil))
	off, _ := dst.s.Session(key("off"))
	if off.InboxMessages != was.InboxMessages-1 {
		t.Errorf("%d messages, were %d: one has expired", off.InboxMessages, was.InboxMessages)
	}
	dst.writeBack()
	if err := state.Audit(dst.st); err != nil {
		t.Error(err)
	}
}

func (r *rig) refsMax(refs map[string]command.SessionRef) (most uint64) {
	for _, ref := range refs {
		most = max(most, ref.Epoch)
	}
	return most
}

// TestRestoreIsAllOrNothing: what is half here serves nobody, survives restarts as that, and can begin anew.
func TestRestoreIsAllOrNothing(t *testing.T) {
	src, _ := busyShard(t)
	b := backupOf(t, src.s, src.st)
	dst := newRig(t, state.Options{})
	c := dst.connect("in the way")
	dst.one(command.NotEmpty, step(command.RestoreBegin))
	dst.one(command.OK, command.AppendEndSession(nil, &command.EndSession{Key: c.SessionKey}))
	dst.one(command.OK, step(command.RestoreBegin))
	chunks := b.chunks(4)
	dst.one(command.OK, chunks[0])
	dst.one(command.Duplicate, chunks[0])
	dst.one(command.Invalid, chunks[2])
	other := command.AppendRestoreChunk(nil, &command.RestoreChunk{ID: "r0", Seq: 1})
	dst.one(command.Invalid, other)
	dst.one(command.Invalid, command.AppendRestoreChunk(nil, &command.RestoreChunk{ID: "r1", Seq: 1, Pairs: state.AppendPair(nil, []byte("L"), nil)}))
	dst.one(command.Invalid, b.load())
	dst.one(command.Full, pub("t/1", "never", 1))
	dst.writeBack()
	for range 2 {
		if id, n, loaded, ok := dst.s.Restoring(); id != "r1" || n != 1 || loaded || !ok || dst.s.Stats().Sessions != 0 {
			t.Fatalf("restoring %q, %d chunks, %v %v, %+v", id, n, loaded, ok, dst.s.Stats())
		}
		dst.restart()
	}
	dst.one(command.Invalid, step(command.RestoreOpen))
	b.stage(dst, 5)
	bad := *b
	bad.digest[0]++
	dst.one(command.Invalid, bad.load())
	if dst.s.Stats().Sessions != 0 {
		t.Fatal("state that is not that of the backup stands")
	}
	dst.one(command.OK, b.load())
	dst.one(command.Duplicate, b.load())
	dst.restart()
	dst.writeBack()
	dst.restart()
	// Given up at the last moment, it is an empty shard.
	dst.one(command.OK, step(command.RestoreClear))
	dst.one(command.Duplicate, step(command.RestoreClear))
	dst.writeBack()
	if n := dst.st.Len(); n != 1+dst.st.Count("L") || !dst.s.Blank() {
		t.Fatalf("%d records are left", n)
	}
	if _, routes := dst.s.Routes(); len(routes) != 0 {
		t.Fatalf("routes are left: %v", routes)
	}
	dst.connect("welcome")
}

// TestRestoreOfNothing: a shard that never applied anything comes back as that.
func TestRestoreOfNothing(t *testing.T) {
	src := newRig(t, state.Options{})
	src.writeBack()
	b := backupOf(t, src.s, src.st)
	if b.meta != nil || len(b.pairs) != 0 {
		t.Fatal("there is something")
	}
	dst := newRig(t, state.Options{})
	b.stage(dst, 1)
	dst.one(command.OK, b.load())
	dst.one(command.OK, step(command.RestoreOpen))
	dst.connect("first")
}

// TestRestoreClearUnroutes: gateways that have the routes of a restore hear that they are gone.
func TestRestoreClearUnroutes(t *testing.T) {
	src, _ := busyShard(t)
	b := backupOf(t, src.s, src.st)
	dst := newRig(t, state.Options{})
	b.stage(dst, 100)
	dst.one(command.OK, b.load())
	if len(dst.fx.Routes) != 1 || !dst.fx.Routes[0].Durable {
		t.Fatalf("routes %+v", dst.fx.Routes)
	}
	dst.one(command.OK, step(command.RestoreBegin))
	if len(dst.fx.Routes) != 1 || dst.fx.Routes[0].Durable {
		t.Fatalf("routes %+v", dst.fx.Routes)
	}
}

// restore replaces the machines of a model's run by ones that a backup of them was restored into.
func (r *run) restore() {
	r.now += rapid.Int64Range(-2000, 200_000).Draw(r.t, "pause")
	from := r.all[1]
	if err := from.s.WriteBack(); err != nil {
		r.t.Fatal(err)
	}
	b := backupOf(r.t, from.s, from.st)
	r.index, r.log = 0, nil
	for _, mu := range r.all {
		mu.st = statetest.NewMemStore()
		mu.s = state.NewShard(7, mu.opts)
		r.limits(mu.s)
		if err := mu.s.Load(mu.st); err != nil {
			r.t.Fatal(err)
		}
	}
	// A shard keeps the settings of its own cluster; here they are the same.
	cmds := [][]byte{command.AppendConfigure(nil, &command.Configure{Settings: r.m.set}), step(command.RestoreBegin)}
	cmds = append(cmds, b.chunks(rapid.IntRange(1, 20).Draw(r.t, "chunk"))...)
	for _, cmd := range append(cmds, b.load(), step(command.RestoreOpen)) {
		r.index++
		entry := command.BuildEntry(nil, &command.Header{Time: r.now}, command.AppendBatch(nil, &command.BatchHeader{}, cmd))
		r.log = append(r.log, entry)
		for _, mu := range r.all {
			res, _, err := mu.s.Apply(r.index, entry)
			if err != nil {
				r.t.Fatalf("%s: restore: %v", mu.name, err)
			}
			if got, err := command.DecodeResults(res[0].Results, 1); err != nil || got[0].Code != command.OK {
				r.t.Fatalf("%s: restore: %v, %v", mu.name, got, err)
			}
			r.disturb(mu)
		}
		_, want := r.all[0].s.Digest()
		for _, mu := range r.all[1:] {
			if _, got := mu.s.Digest(); got != want {
				r.t.Fatalf("%s: digest differs in a restore", mu.name)
			}
		}
	}
	r.m.sever(r.now)
	for _, k := range slices.SortedFunc(maps.Keys(r.m.sess), compareKeys) {
		r.refs = append(r.refs, command.SessionRef{SessionKey: k, Epoch: r.m.sess[k].epoch})
	}
	r.compare()
}

func compareKeys(a, b command.SessionKey) int {
	return bytes.Compare([]byte(a.Tenant+"\x00"+a.ClientID), []byte(b.Tenant+"\x00"+b.ClientID))
}

// sever is what a restore changes.
func (m *model) sever(now int64) {
	was := m.clock
	m.begin(now)
	m.lost, m.authors = map[string]uint64{}, map[command.SessionKey]mAuthor{}
	for _, s := range m.byAge() {
		m.epoch++
		s.epoch = m.epoch
		switch {
		case s.owner != nil:
			s.sentTo = s.perhapsSent()
			m.disconnect(s)
		default:
			if s.expiresAt != 0 {
				s.expiresAt += m.clock - was
			}
			if s.will != nil && s.willDue != 0 {
				s.willDue += m.clock - was
			}
		}
	}
}
