package state_test

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state/statetest"
	"github.com/flotilla-mqtt/flotilla/router"
)

// TestModel runs random commands through the reference model and three machines:
// one that never writes back, one that writes back and evicts everything at random
// points, and one that is also restarted at random points. All must agree on results,
// effects, inboxes, routes, retained and originated messages, and the machines on
// the digest (I1 I2 I4 I6 I8 I9 I10 I12 I15 I19 I20).
func TestModel(t *testing.T) { rapid.Check(t, runModel) }

// FuzzModel is TestModel driven by the fuzzer.
func FuzzModel(f *testing.F) { f.Fuzz(rapid.MakeFuzz(runModel)) }

type run struct {
	t     *rapid.T
	m     *model
	now   int64
	index uint64
	log   [][]byte
	all   []*machineUnderTest  // the first never writes back
	refs  []command.SessionRef // epochs that were given out, old ones too
	pubs  int
}

type machineUnderTest struct {
	name   string
	s      *state.Shard
	st     *statetest.MemStore
	opts   state.Options
	writes bool
	crash  bool
}

func runModel(t *rapid.T) {
	set := command.ShardSettings{
		InboxMaxMessages:    rapid.SampledFrom([]uint64{0, 3, 8}).Draw(t, "max messages"),
		InboxMaxBytes:       rapid.SampledFrom([]uint64{0, 0, 150}).Draw(t, "max bytes"),
		InboxOverflow:       rapid.SampledFrom([]command.Overflow{1, 2, 2, 3}).Draw(t, "overflow"),
		RetainedMaxMessages: rapid.SampledFrom([]uint64{0, 2}).Draw(t, "max retained"),
		MaxSessionExpiryS:   rapid.SampledFrom([]uint32{0, 100}).Draw(t, "max expiry"),
		MaxSubscriptions:    rapid.SampledFrom([]uint32{0, 0, 2}).Draw(t, "max subscriptions"),
	}
	r := &run{t: t, m: newModel(set), now: 1_000_000}
	r.m.limit = rapid.SampledFrom([]int{1, 2, 3, 1000}).Draw(t, "tick items")
	for i, name := range []string{"memory", "write-back", "restart"} {
		o := state.Options{Settings: set}
		if i > 0 {
			o.HotBytes = rapid.SampledFrom([]int64{1, 1000, 0}).Draw(t, "hot bytes")
			o.HotOffline = rapid.SampledFrom([]int{1, 2, 0}).Draw(t, "hot offline")
		}
		mu := &machineUnderTest{name: name, st: statetest.NewMemStore(), opts: o, writes: i > 0, crash: i > 1}
		mu.s = state.NewShard(7, o)
		r.limits(mu.s)
		if err := mu.s.Load(mu.st); err != nil {
			t.Fatal(err)
		}
		r.all = append(r.all, mu)
	}
	for range rapid.IntRange(1, 80).Draw(t, "entries") {
		r.step()
		if rapid.IntRange(0, 30).Draw(t, "restore") == 0 {
			r.restore()
		}
	}
	r.audit()
}

// limits gives a machine those of the model.
func (r *run) limits(s *state.Shard) {
	state.SetTickItems(s, r.m.limit)
	state.SetAuthorLimits(s, modelAuthorsKept, modelAuthors)
}

// audit looks into the stores at the end: nothing is lost, nothing is left over.
func (r *run) audit() {
	_, want := r.all[0].s.Digest()
	for _, mu := range r.all[1:] {
		for range 3 { // ended sessions are swept one write-back later
			if err := mu.s.WriteBack(); err != nil {
				r.t.Fatalf("%s: write back: %v", mu.name, err)
			}
			if err := state.Audit(mu.st); err != nil {
				r.t.Fatalf("%s: audit: %v", mu.name, err)
			}
			r.index++
			e := command.BuildEntry(nil, &command.Header{})
			if _, _, err := mu.s.Apply(r.index, e); err != nil {
				r.t.Fatalf("%s: apply: %v", mu.name, err)
			}
		}
		if _, got, err := mu.s.Verify(); err != nil || got != want {
			r.t.Fatalf("%s: the records do not have the digest of the memory: %v", mu.name, err)
		}
		if n := mu.st.Count("Z"); n != 0 {
			r.t.Fatalf("%s: %d inboxes are still to be swept", mu.name, n)
		}
	}
}

// step applies one entry of one to four commands everywhere, and compares.
func (r *run) step() {
	if rapid.IntRange(0, 3).Draw(r.t, "advance") == 0 {
		r.now += rapid.Int64Range(-2000, 40_000).Draw(r.t, "ms")
	}
	r.m.begin(r.now)
	var cmds []byte
	var want []command.Result
	for range rapid.IntRange(1, 4).Draw(r.t, "commands") {
		cmd, res := r.command()
		cmds = append(cmds, cmd...)
		want = append(want, res)
	}
	r.index++
	entry := command.BuildEntry(nil, &command.Header{Time: r.now}, command.AppendBatch(nil, &command.BatchHeader{}, cmds))
	r.log = append(r.log, entry)
	for i := range want {
		if len(want[i].Codes) > 0 || want[i].Epoch > 0 {
			want[i].Index = r.index
		}
	}
	for _, mu := range r.all {
		res, fx, err := mu.s.Apply(r.index, entry)
		if err != nil {
			r.t.Fatalf("%s: apply: %v", mu.name, err)
		}
		got, err := command.DecodeResults(res[0].Results, len(want))
		if err != nil {
			r.t.Fatalf("%s: results: %v", mu.name, err)
		}
		if d := gocmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
			r.t.Fatalf("%s: results (-model +machine):\n%s", mu.name, d)
		}
		r.compareEffects(mu, &fx)
		r.disturb(mu)
	}
	r.compare()
}

// disturb writes back, and crashes, at random.
func (r *run) disturb(mu *machineUnderTest) {
	if mu.writes && rapid.IntRange(0, 2).Draw(r.t, "write back") == 0 {
		if err := mu.s.WriteBack(); err != nil {
			r.t.Fatalf("%s: write back: %v", mu.name, err)
		}
	}
	if mu.crash && rapid.IntRange(0, 4).Draw(r.t, "crash") == 0 {
		mu.s = state.NewShard(7, mu.opts)
		r.limits(mu.s)
		if err := mu.s.Load(mu.st); err != nil {
			r.t.Fatalf("%s: load: %v", mu.name, err)
		}
		for i := mu.s.Applied(); i < r.index; i++ {
			if _, _, err := mu.s.Apply(i+1, r.log[i]); err != nil {
				r.t.Fatalf("%s: replay: %v", mu.name, err)
			}
		}
	}
}

func (r *run) compareEffects(mu *machineUnderTest, fx *state.Effects) {
	var wakes []command.SessionKey
	for k := range r.m.wakes {
		if s := r.m.sess[k]; s != nil && s.owner != nil {
			wakes = append(wakes, k)
		}
	}
	byKey := func(a, b command.SessionKey) int {
		return cmp.Or(strings.Compare(a.Tenant, b.Tenant), strings.Compare(a.ClientID, b.ClientID))
	}
	slices.SortFunc(wakes, byKey)
	var got []command.SessionKey
	for _, w := range fx.Wakes {
		got = append(got, w.Key)
		if s := r.m.sess[w.Key]; s == nil || s.owner == nil || s.owner.Node != w.Node || s.epoch != w.Epoch {
			r.t.Fatalf("%s: wake of %v, epoch %d at %s", mu.name, w.Key, w.Epoch, w.Node)
		}
	}
	slices.SortFunc(got, byKey)
	if d := gocmp.Diff(wakes, got, cmpopts.EquateEmpty()); d != "" {
		r.t.Fatalf("%s: wakes (-model +machine):\n%s", mu.name, d)
	}
	slices.SortFunc(r.m.kicks, func(a, b state.Kick) int { return cmp.Compare(a.Epoch, b.Epoch) })
	if d := gocmp.Diff(r.m.kicks, fx.Kicks, cmpopts.EquateEmpty()); d != "" {
		r.t.Fatalf("%s: kicks (-model +machine):\n%s", mu.name, d)
	}
	slices.SortFunc(r.m.ended, byKey)
	if d := gocmp.Diff(r.m.ended, fx.Ended, cmpopts.EquateEmpty()); d != "" {
		r.t.Fatalf("%s: ended (-model +machine):\n%s", mu.name, d)
	}
}

// compare looks at everything that can be read.
func (r *run) compare() {
	routes := r.m.routes()
	for _, mu := range r.all {
		r.compareSessions(mu)
		if _, got := mu.s.Routes(); gocmp.Diff(routes, got, cmpopts.EquateEmpty()) != "" {
			r.t.Fatalf("%s: routes (-model +machine):\n%s", mu.name, gocmp.Diff(routes, got, cmpopts.EquateEmpty()))
		}
		r.compareOrigins(mu)
		for _, tenant := range tenants {
			for _, f := range append([]string{"#", "+", "a/+"}, filterPool...) {
				r.compareRetained(mu, tenant, f)
			}
		}
		r.compareAuthors(mu)
		st := mu.s.Stats()
		if st.Dropped != r.m.dropped || st.SessionsExpired != r.m.sessionsExpired || st.Sessions != len(r.m.sess) || st.RetainedMessages != len(r.m.retained) {
			r.t.Fatalf("%s: stats %+v, model dropped %+v", mu.name, st, r.m.dropped)
		}
		if due, got := r.m.nextDue(), mu.s.NextDue(); due != 0 && (got == 0 || got > due) {
			r.t.Fatalf("%s: next due %d, too late for %d", mu.name, got, due)
		}
	}
	_, want := r.all[0].s.Digest()
	for _, mu := range r.all[1:] {
		if _, got := mu.s.Digest(); got != want {
			r.t.Fatalf("%s: digest differs", mu.name)
		}
	}
}

func (r *run) compareSessions(mu *machineUnderTest) {
	items, more := mu.s.Sessions(command.SessionKey{}, 100)
	if more || len(items) != len(r.m.sess) {
		r.t.Fatalf("%s: %d sessions, model %d", mu.name, len(items), len(r.m.sess))
	}
	for _, ref := range r.refs {
		s, code := r.m.get(ref)
		if code != command.OK {
			if _, err := mu.s.Fetch(ref, 0, 1, 1); !errors.Is(err, state.ErrStaleEpoch) {
				r.t.Fatalf("%s: fetch of old epoch: %v", mu.name, err)
			}
			continue
		}
		want := r.m.deliveries(s)
		got := fetchAllRapid(r.t, mu.s, ref)
		if d := gocmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
			r.t.Fatalf("%s: inbox of %v (-model +machine):\n%s", mu.name, ref, d)
		}
		in, ok := mu.s.Session(ref.SessionKey)
		if !ok || in.InboxMessages != uint64(len(s.inbox)) || in.InboxBytes != s.bytes() || in.Full != s.full ||
			in.Connected != (s.owner != nil) || in.ExpiresAt != s.expiresAt || in.HasWill != (s.will != nil) ||
			in.SentTo != s.sentTo || in.Inbound != len(s.inbound) || in.Subscriptions != len(s.subs) {
			r.t.Fatalf("%s: session %+v, model %+v", mu.name, in, s)
		}
		if mu.s.IsFull(s.key) != s.full {
			r.t.Fatalf("%s: full", mu.name)
		}
	}
	if _, err := mu.s.Fetch(command.SessionRef{SessionKey: key("a"), Epoch: r.m.epoch + 1}, 0, 1, 1); !errors.Is(err, state.ErrNotYet) {
		r.t.Fatalf("%s: fetch of a future epoch: %v", mu.name, err)
	}
}

func fetchAllRapid(t *rapid.T, s *state.Shard, ref command.SessionRef) []state.Delivery {
	var out []state.Delivery
	per := rapid.IntRange(1, 5).Draw(t, "page")
	for cursor := uint64(0); ; {
		p, err := s.Peek(ref, cursor, per, 1<<20)
		if err != nil {
			t.Fatalf("fetch: %v", err)
		}
		if len(p.Deliveries) > per || p.More && len(p.Deliveries) == 0 {
			t.Fatalf("page of %d, at most %d, more %v", len(p.Deliveries), per, p.More)
		}
		out = append(out, p.Deliveries...)
		if !p.More {
			return out
		}
		if p.Next <= cursor {
			t.Fatalf("cursor stays at %d", cursor)
		}
		cursor = p.Next
	}
}

func (r *run) compareOrigins(mu *machineUnderTest) {
	got := mu.s.Origins(0, 1000)
	if len(got) != len(r.m.origins) {
		r.t.Fatalf("%s: %d originated, model %d", mu.name, len(got), len(r.m.origins))
	}
	low := r.m.origin + 1
	for i, o := range r.m.origins {
		low = min(low, o.seq)
		g := got[i]
		if g.Seq != o.seq || g.Key != o.key || g.Will != o.will || string(g.Encoded) != string(r.m.remaining(o.m)) || g.ExpiresAt != o.m.expiresAt ||
			(g.Flags&command.ToRetained != 0) != o.m.Retain {
			r.t.Fatalf("%s: originated %+v, model %+v", mu.name, g, o)
		}
	}
	if mu.s.OriginLow() != low {
		r.t.Fatalf("%s: origin low %d, model %d", mu.name, mu.s.OriginLow(), low)
	}
}

func (r *run) compareAuthors(mu *machineUnderTest) {
	var want []string
	for _, k := range r.m.authorsByAge() {
		want = append(want, fmt.Sprintf("%s/%s %d at %d", k.Tenant, k.ClientID, r.m.authors[k].epoch, r.m.authors[k].seen))
	}
	if d := gocmp.Diff(want, state.Authors(mu.s), cmpopts.EquateEmpty()); d != "" {
		r.t.Fatalf("%s: authors (-model +machine):\n%s", mu.name, d)
	}
}

func (r *run) compareRetained(mu *machineUnderTest, tenant, filter string) {
	var want []string
	for k, m := range r.m.retained {
		if k.tenant == tenant && router.Matches(filter, []byte(k.topic)) && !r.m.expired(m.expiresAt) {
			want = append(want, fmt.Sprintf("%s\x00%s %d", k.topic, m.Payload, m.storedAt))
		}
	}
	slices.Sort(want)
	var got []string
	for after := ""; ; {
		page, err := mu.s.Retained(state.RetainedQuery{Tenant: tenant, Filter: filter, After: after, Limit: 2})
		if err != nil {
			r.t.Fatalf("%s: retained: %v", mu.name, err)
		}
		for _, it := range page.Items {
			got = append(got, fmt.Sprintf("%s\x00%s %d", it.Msg.Topic, it.Msg.Payload, it.StoredAt))
			after = string(it.Msg.Topic)
		}
		if !page.More {
			break
		}
	}
	if d := gocmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
		r.t.Fatalf("%s: retained %s (-model +machine):\n%s", mu.name, filter, d)
	}
}
