package state_test

import (
	"fmt"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state/statetest"
)

// tester is what the helpers need of *testing.T, *testing.B and *rapid.T.
type tester interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
}

// rig drives a shard as its group would: entries with rising indexes and times.
type rig struct {
	t     tester
	s     *state.Shard
	st    *statetest.MemStore
	opts  state.Options
	index uint64
	now   int64
	log   [][]byte // entries from index 1
	fx    state.Effects
}

func newRig(t tester, o state.Options) *rig {
	t.Helper()
	r := &rig{t: t, opts: o, st: statetest.NewMemStore(), now: 1_000_000}
	r.s = state.NewShard(7, o)
	if err := r.s.Load(r.st); err != nil {
		t.Fatalf("load: %v", err)
	}
	return r
}

// entry applies an entry of framed batches.
func (r *rig) entry(batches ...[]byte) []command.BatchResult {
	r.t.Helper()
	r.index++
	e := command.BuildEntry(nil, &command.Header{Time: r.now, Proposal: r.index, Leader: "n1"}, batches...)
	r.log = append(r.log, e)
	res, fx, err := r.s.Apply(r.index, e)
	if err != nil {
		r.t.Fatalf("apply %d: %v", r.index, err)
	}
	r.fx = fx
	return res
}

// do applies commands as the leader's own and returns a result for each.
func (r *rig) do(cmds ...[]byte) []command.Result {
	r.t.Helper()
	var all []byte
	for _, c := range cmds {
		all = append(all, c...)
	}
	res := r.entry(command.AppendBatch(nil, &command.BatchHeader{}, all))
	out, err := command.DecodeResults(res[0].Results, len(cmds))
	if err != nil || len(out) != len(cmds) {
		r.t.Fatalf("results of %d commands: %d, %v", len(cmds), len(out), err)
	}
	return out
}

// one applies one command and wants a code.
func (r *rig) one(want command.ResultCode, cmd []byte) command.Result {
	r.t.Helper()
	res := r.do(cmd)[0]
	if res.Code != want {
		r.t.Fatalf("result %v, want %v", res.Code, want)
	}
	return res
}

// restart writes nothing back: memory is lost, and the log is replayed.
func (r *rig) restart() {
	r.t.Helper()
	r.s = state.NewShard(7, r.opts)
	if err := r.s.Load(r.st); err != nil {
		r.t.Fatalf("load: %v", err)
	}
	for i := r.s.Applied(); i < r.index; i++ {
		if _, _, err := r.s.Apply(i+1, r.log[i]); err != nil {
			r.t.Fatalf("replay %d: %v", i+1, err)
		}
	}
}

func (r *rig) writeBack() {
	r.t.Helper()
	if err := r.s.WriteBack(); err != nil {
		r.t.Fatalf("write back: %v", err)
	}
}

func key(client string) command.SessionKey { return command.SessionKey{ClientID: client} }

// conn is a connect command with defaults: node n1, durable, v5.
func conn(client string, edit ...func(*command.Connect)) []byte {
	c := &command.Connect{Key: key(client), Node: "n1", Incarnation: 1, ExpiryS: 3600, ReceiveMax: 10, Version: 5}
	for _, e := range edit {
		e(c)
	}
	return command.AppendConnect(nil, c)
}

// connect makes a durable session and returns its reference.
func (r *rig) connect(client string, edit ...func(*command.Connect)) command.SessionRef {
	r.t.Helper()
	res := r.one(command.OK, conn(client, edit...))
	return command.SessionRef{SessionKey: key(client), Epoch: res.Epoch}
}

func sub(ref command.SessionRef, subs ...command.Subscription) []byte {
	return command.AppendSubscribe(nil, &command.Subscribe{Ref: ref, Subs: subs})
}

func filters(qos byte, list ...string) []command.Subscription {
	var out []command.Subscription
	for _, f := range list {
		out = append(out, command.Subscription{Filter: f, QoS: qos})
	}
	return out
}

func msg(topic, payload string, qos byte, edit ...func(*command.Message)) []byte {
	m := &command.Message{Topic: []byte(topic), Payload: []byte(payload), QoS: qos, Publisher: "pub", PublishedAt: 1}
	for _, e := range edit {
		e(m)
	}
	return m.Append(nil)
}

func pub(topic, payload string, qos byte, edit ...func(*command.Message)) []byte {
	return command.AppendPublish(nil, &command.Publish{Message: msg(topic, payload, qos, edit...), Flags: command.ToInboxes | command.ToRetained})
}

func expiry(s uint32) func(*command.Message) {
	return func(m *command.Message) { m.HasExpiry, m.Expiry = true, s }
}

func retain(m *command.Message) { m.Retain = true }

func ack(ref command.SessionRef, sentTo uint64, done ...uint64) []byte {
	a := &command.Ack{Ref: ref, SentTo: sentTo}
	for _, d := range done {
		a.Done = command.AppendSeq(a.Done, d)
	}
	return command.AppendAck(nil, a)
}

func recv(ref command.SessionRef, sentTo uint64, seqs ...uint64) []byte {
	a := &command.Ack{Ref: ref, SentTo: sentTo}
	for _, d := range seqs {
		a.Received = command.AppendSeq(a.Received, d)
	}
	return command.AppendAck(nil, a)
}

func disc(ref command.SessionRef, why command.DisconnectReason, sentTo uint64) []byte {
	return command.AppendDisconnect(nil, &command.Disconnect{Ref: ref, Reason: why, SentTo: sentTo})
}

var tick = command.AppendTick(nil)

// fetch reads a whole inbox, page by page.
func (r *rig) fetch(ref command.SessionRef) []state.Delivery {
	r.t.Helper()
	return fetchAll(r.t, r.s, ref, 3)
}

func fetchAll(t tester, s *state.Shard, ref command.SessionRef, perPage int) []state.Delivery {
	t.Helper()
	var out []state.Delivery
	cursor := uint64(0)
	for {
		p, err := s.Peek(ref, cursor, perPage, 1<<20)
		if err != nil {
			t.Fatalf("fetch %v: %v", ref, err)
		}
		out = append(out, p.Deliveries...)
		if !p.More {
			return out
		}
		if p.Next <= cursor {
			t.Fatalf("fetch does not advance: cursor %d, next %d", cursor, p.Next)
		}
		cursor = p.Next
	}
}

// show is a delivery in short: seq topic=payload qos and marks.
func show(d state.Delivery) string {
	if d.State == state.Received {
		return fmt.Sprintf("%d received", d.Seq)
	}
	s := fmt.Sprintf("%d %s=%s q%d", d.Seq, d.Msg.Topic, d.Msg.Payload, d.QoS)
	if d.Retain {
		s += " retain"
	}
	if d.Dup {
		s += " dup"
	}
	if len(d.SubIDs) > 0 {
		s += fmt.Sprint(" ", d.SubIDs)
	}
	return s
}

func shows(ds []state.Delivery) []string {
	out := []string{}
	for _, d := range ds {
		out = append(out, show(d))
	}
	return out
}
