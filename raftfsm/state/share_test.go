package state_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
	"github.com/flotilla-mqtt/flotilla/router"
)

const work = "$share/g/w/#"

// shareRig is one shard that holds a share and, as its own target, the members.
type shareRig struct {
	*rig
	sent uint64
}

func newShareRig(t tester, o state.Options) *shareRig { return &shareRig{rig: newRig(t, o)} }

// carry brings originated commands to the shard itself until there are no more.
func (r *shareRig) carry() {
	r.t.Helper()
	for {
		list := r.s.Origins(r.sent, 100)
		if len(list) == 0 {
			return
		}
		var cmds [][]byte
		for _, o := range list {
			r.sent = o.Seq
			cmds = append(cmds, o.Command(nil, command.OriginKey{Shard: 7, Seq: o.Seq, Low: r.s.OriginLow()}))
		}
		for i, res := range r.do(cmds...) {
			if res.Code != command.OK {
				r.t.Fatalf("originated command %d: %v", list[i].Seq, res.Code)
			}
		}
		r.one(command.OK, command.AppendOriginDone(nil, &command.OriginDone{Seqs: []command.Range{{From: 1, To: r.sent}}}))
	}
}

// member connects a client and makes it a member.
func (r *shareRig) member(client string, qos byte, edit ...func(*command.Connect)) command.SessionRef {
	r.t.Helper()
	ref := r.connect(client, edit...)
	r.one(command.OK, sub(ref, command.Subscription{Filter: work, QoS: qos, ID: 5}))
	r.carry()
	return ref
}

func (r *shareRig) publish(qos byte, payloads ...string) {
	r.t.Helper()
	for _, p := range payloads {
		topic, payload, ok := strings.Cut(p, "=")
		if !ok {
			topic, payload = "w/x", p
		}
		r.one(command.OK, command.AppendPublish(nil, &command.Publish{Message: msg(topic, payload, qos), Flags: command.ToShares}))
	}
	r.carry()
}

// has is what a client's inbox holds, in short.
func (r *shareRig) has(ref command.SessionRef) string {
	r.t.Helper()
	var out []string
	for _, d := range r.fetch(ref) {
		if d.State == state.Received {
			out = append(out, "received")
			continue
		}
		out = append(out, fmt.Sprintf("%s:%d", d.Msg.Payload, d.QoS))
	}
	return strings.Join(out, " ")
}

func (r *shareRig) want(ref command.SessionRef, want string) {
	r.t.Helper()
	if got := r.has(ref); got != want {
		r.t.Fatalf("%s has %q, want %q", ref.ClientID, got, want)
	}
}

func (r *shareRig) view() string {
	var out []string
	for _, v := range r.s.Shares("", 10) {
		s := fmt.Sprintf("%s %d/%d", v.Filter, v.Assigned, v.Queue)
		for _, m := range v.Members {
			s += fmt.Sprintf(" %s:%d/%d", m.Key.ClientID, m.Assigned, m.Room)
			if !m.Online {
				s += "-"
			}
			if m.Left {
				s += "!"
			}
		}
		out = append(out, s)
	}
	return strings.Join(out, "; ")
}

func (r *shareRig) wantView(want string) {
	r.t.Helper()
	if got := r.view(); got != want {
		r.t.Fatalf("shares %q, want %q", got, want)
	}
}

func room(n uint16) func(*command.Connect) { return func(c *command.Connect) { c.ReceiveMax = n } }

// I16: members take turns, an acknowledgement makes room for the next message, and
// PUBREC is enough of one.
func TestShareRoundRobin_I16(t *testing.T) {
	r := newShareRig(t, state.Options{})
	a, b := r.member("a", 1, room(2)), r.member("b", 2, room(1), transient)
	r.publish(2, "1", "2", "3", "4", "5")
	r.want(a, "1:1 3:1")
	r.want(b, "2:2")
	r.wantView(work + " 3/5 a:2/2 b:1/1")
	if p, err := r.s.Fetch(b, 0, 1, 1); err != nil || !slices.Equal(p.Deliveries[0].SubIDs, []uint32{5}) {
		t.Fatalf("%+v, %v", p, err)
	}
	r.one(command.OK, recv(b, 1, 1))
	r.carry()
	r.want(b, "received 4:2")
	r.wantView(work + " 3/4 a:2/2 b:1/1")
	r.one(command.OK, ack(a, 1, 1))
	r.carry()
	r.want(a, "3:1 5:1")
	r.one(command.OK, ack(a, 3, 2, 3))
	r.one(command.OK, ack(b, 2, 1, 2))
	r.carry()
	r.wantView(work + " 0/0 a:0/2 b:0/1")
}

// v5:MQTT-4.8.2-5, I16: what a member that ends or leaves did not send goes to
// another, in front; at QoS 2, what it perhaps sent goes to nobody else.
func TestShareMemberEnds_I16_v5_MQTT_4_8_2_5(t *testing.T) {
	r := newShareRig(t, state.Options{HotBytes: 1, HotOffline: 1})
	a := r.member("a", 2, room(3), transient)
	b := r.member("b", 2, room(1))
	r.publish(2, "1", "2", "3", "4", "5")
	r.want(a, "1:2 3:2 4:2")
	r.want(b, "2:2")
	r.writeBack()
	r.restart()
	r.one(command.OK, disc(a, command.DisconnectLost, 1)) // 1 was sent
	r.carry()
	r.wantView(work + " 1/4 b:1/1")
	for _, next := range []string{"3:2", "4:2", "5:2"} {
		in, _ := r.s.Session(b.SessionKey)
		r.one(command.OK, ack(b, in.SentTo+1, in.SentTo+1))
		r.carry()
		r.want(b, next)
	}
	if d := r.s.Stats().Dropped; d != (state.Dropped{}) {
		t.Fatalf("dropped %+v", d)
	}
	r.one(command.OK, command.AppendUnsubscribe(nil, &command.Unsubscribe{Ref: b, Filters: []string{work}}))
	r.carry()
	r.wantView("")   // without members there is no share
	r.want(b, "5:2") // perhaps sent: b finishes it
	if r.s.Stats().Shares != 0 {
		t.Fatal("the share is still counted")
	}
	r.publishNobody()
	r.writeBack()
	r.writeBack()
	if n := r.st.Count("H"); n != 0 {
		t.Fatalf("%d records of shares", n)
	}
	if err := state.Audit(r.st); err != nil {
		t.Fatal(err)
	}
}

func (r *shareRig) publishNobody() {
	r.t.Helper()
	r.one(command.NoMatch, command.AppendPublish(nil, &command.Publish{Message: msg("w/x", "p", 1), Flags: command.ToShares}))
}

// I16: a durable member's absence blocks nobody; what it perhaps got waits for it.
func TestShareMemberAway_I16(t *testing.T) {
	r := newShareRig(t, state.Options{})
	a, b := r.member("a", 1, room(3)), r.member("b", 0, room(9))
	r.publish(1, "1", "2", "3")
	r.want(a, "1:1 3:1")
	r.want(b, "2:0")
	r.one(command.OK, disc(a, command.DisconnectLost, 1))
	r.carry()
	r.want(b, "2:0 3:0")
	r.wantView(work + " 3/3 a:1/3- b:2/9")
	r.one(command.OK, disc(b, command.DisconnectLost, 1)) // QoS 0 is not kept for b
	r.carry()
	r.publish(1, "4")
	r.wantView(work + " 1/4 a:1/3- b:0/9-")
	a = r.connect("a", room(3))
	r.carry()
	r.want(a, "1:1 2:1 3:1")
	if p, err := r.s.Fetch(a, 0, 9, 1<<20); err != nil || !p.Deliveries[0].Dup || p.Deliveries[1].Dup {
		t.Fatalf("%+v, %v", p.Deliveries, err)
	}
	r.wantView(work + " 3/4 a:3/3 b:0/9-")
}

// I16: the share's shard alone, told of a lost node, gives its members nothing more.
func TestShareNodeLost_I16(t *testing.T) {
	r := newRig(t, state.Options{})
	member := func(client, node string, seq uint64) []byte {
		return command.AppendShareMember(nil, &command.ShareMember{
			Filter: work, Member: key(client), Event: command.ShareJoin, Epoch: 1, Node: node, Incarnation: 3, Room: 10,
			Sub: command.Subscription{QoS: 1}, Origin: command.OriginKey{Shard: 2, Seq: seq, Low: 1},
		})
	}
	if res := r.do(member("a", "n1", 1), member("b", "n2", 2)); res[0].Index != r.index {
		t.Fatalf("results %+v", res)
	}
	want := []router.RouteChange{{Filter: "w/#", Groups: []router.ShareGroup{{Name: "g", Nodes: []router.ShareNode{
		{Node: "n1", Incarnation: 3, Members: 1}, {Node: "n2", Incarnation: 3, Members: 1},
	}}}}}
	if d := cmp.Diff(want, r.fx.Routes); d != "" {
		t.Fatal(d)
	}
	if res := r.do(member("a", "n1", 1)); res[0].Code != command.Duplicate || res[0].Index != r.index {
		t.Fatalf("a repeated join: %+v", res)
	}
	r.one(command.OK, command.AppendNodeLost(nil, &command.NodeLost{Node: "n1", Incarnation: 3}))
	want[0].Groups[0].Nodes = want[0].Groups[0].Nodes[1:]
	if d := cmp.Diff(want, r.fx.Routes); d != "" {
		t.Fatal(d)
	}
	r.one(command.OK, member("c", "n1", 3)) // late news of the lost process
	for range 4 {
		r.one(command.OK, command.AppendPublish(nil, &command.Publish{Message: msg("w/x", "p", 1), Flags: command.ToShares}))
	}
	for _, o := range r.s.Origins(0, 10) {
		if o.TargetKey != "b" {
			t.Fatalf("%s got a message", o.TargetKey)
		}
	}
	if _, all := r.s.Routes(); cmp.Diff(want, all) != "" {
		t.Fatal(cmp.Diff(want, all))
	}
	r.writeBack()
	r.restart()
	if _, all := r.s.Routes(); cmp.Diff(want, all) != "" {
		t.Fatal(cmp.Diff(want, all))
	}
}

// The strategies: sticky stays with a member while it can, hash_topic keeps a
// topic with one member, in order, and holds up no other topic for it.
func TestShareStrategies(t *testing.T) {
	r := newShareRig(t, state.Options{Settings: command.ShardSettings{ShareStrategy: command.ShareSticky}})
	a, b := r.member("a", 1, room(3)), r.member("b", 1, room(3))
	r.publish(1, "1", "2", "3", "4")
	r.want(a, "1:1 2:1 3:1")
	r.want(b, "4:1")
	r.one(command.OK, ack(a, 3, 1, 2, 3))
	r.carry()
	r.publish(1, "5")
	r.want(b, "4:1 5:1")

	r = newShareRig(t, state.Options{Settings: command.ShardSettings{ShareStrategy: command.ShareHashTopic}})
	a, b = r.member("a", 1, room(2)), r.member("b", 1, room(20))
	topics := map[string]command.SessionRef{}
	for i := 0; len(topics) < 2; i++ {
		topic := fmt.Sprintf("w/%d", i)
		r.publish(1, topic+"=probe")
		for _, ref := range []command.SessionRef{a, b} {
			if r.has(ref) != "" {
				topics[ref.ClientID+topic] = ref
				in, _ := r.s.Session(ref.SessionKey)
				n := uint64(len(r.fetch(ref)))
				r.one(command.OK, ack(ref, in.SentTo+n, in.SentTo+n))
				r.carry()
			}
		}
		clientTopics := map[string]bool{}
		for k := range topics {
			clientTopics[k[:1]] = true
		}
		if len(topics) == 2 && len(clientTopics) == 1 {
			topics = map[string]command.SessionRef{}
		}
	}
	var ta, tb string
	for k := range topics {
		if k[0] == 'a' {
			ta = k[1:]
		} else {
			tb = k[1:]
		}
	}
	r.publish(1, ta+"=1", ta+"=2", ta+"=3", tb+"=4", ta+"=5", tb+"=6")
	r.want(a, "1:1 2:1")
	r.want(b, "4:1 6:1")
	in, _ := r.s.Session(a.SessionKey)
	first := r.fetch(a)[0].Seq
	r.one(command.OK, ack(a, max(in.SentTo, first), first))
	r.carry()
	r.want(a, "2:1 3:1")
	r.one(command.OK, disc(a, command.DisconnectNormal, first)) // the rest of a's topic goes to b, in order
	r.carry()
	r.want(b, "4:1 6:1 2:1 3:1 5:1")
}
