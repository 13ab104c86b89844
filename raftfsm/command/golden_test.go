package command

import (
	"encoding/hex"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew: only for new kinds, never to change old bytes")

// sample is one value of each command, with all fields set.
type sample struct {
	name   string
	kind   Kind
	bytes  []byte
	want   any
	decode func([]byte) (any, error)
}

func decoded[T any, P interface {
	*T
	Decode([]byte) error
}](b []byte) (any, error) {
	var v T
	err := P(&v).Decode(b)
	return v, err
}

func fullMessage() Message {
	return Message{
		Topic: []byte("plant/7/temperature"), Payload: []byte("21.5"), Props: []byte{1, 1}, QoS: 2, Retain: true,
		HasExpiry: true, Expiry: 3600, PublishedAt: 1_700_000_000_123, Publisher: "sensor-7",
	}
}

func samples() []sample {
	m := fullMessage()
	body := m.Append(nil)
	ref := SessionRef{SessionKey: SessionKey{Tenant: "acme", ClientID: "meter-1"}, Epoch: 42}
	node := Node{
		ID: "n1", ClusterAddr: "10.0.0.1:7400", MQTTAddr: ":1883", MQTTSAddr: ":8883", AdminAddr: "127.0.0.1:8080",
		Roles: []string{"gateway", "store"}, Zone: "z1", Version: "0.1.0", FeatureLevel: 3,
	}
	publish := Publish{Tenant: "acme", Message: body, Flags: ToInboxes | ToRetained, Origin: OriginKey{Shard: 3, Seq: 300, Low: 299}}
	connect := Connect{
		Key: ref.SessionKey, Node: "n1", Incarnation: 7, Token: 1 << 63, CleanStart: true, ExpiryS: NeverExpires, ReceiveMax: 65535,
		Version: 5, Username: "u", HasWill: true, Will: Will{Message: body, DelayS: 30}, ConnectedAt: 1_700_000_000_123,
	}
	disconnect := Disconnect{Ref: ref, Reason: DisconnectWithWill, HasExpiry: true, ExpiryS: 60, SentTo: 500}
	subscribe := Subscribe{Ref: ref, Subs: []Subscription{
		{Filter: "a/#", QoS: 2, NoLocal: true, RetainAsPublished: true, RetainHandling: 2, ID: 268435455}, {Filter: "b"},
	}}
	unsubscribe := Unsubscribe{Ref: ref, Filters: []string{"a/#", "b"}}
	ack := Ack{Ref: ref, SentTo: 600, Done: []Range{{1, 1}, {3, 200}, {202, 202}}, Received: []Range{{201, 201}}}
	receive := Receive{Ref: ref, PacketID: 65535, Message: body}
	release := Release{Ref: ref, PacketID: 1}
	originDone := OriginDone{Seqs: []Range{{5, 5}, {300, 400}}}
	nodeLost := NodeLost{Node: "n2", Incarnation: 9}
	end := EndSession{Key: ref.SessionKey, Epoch: 42}
	point := Checkpoint{Index: 10000, Digest: [16]byte{1, 2, 3, 15: 16}}
	configure := Configure{Settings: ShardSettings{
		InboxMaxMessages: 100000, InboxMaxBytes: 256 << 20, InboxOverflow: OverflowDropOldest, RetainedMaxMessages: 125000,
		MaxSessionExpiryS: 2592000, MaxSubscriptions: 10000,
	}}
	share := "$share/workers/a/#"
	member := ShareMember{
		Filter: share, Member: ref.SessionKey, Event: ShareJoin, Epoch: 42, Node: "n1", Incarnation: 7, Room: 128,
		Sub: Subscription{QoS: 2, RetainAsPublished: true, ID: 9}, Share: 17, Held: []Range{{2, 2}, {9, 12}},
		Origin: OriginKey{Shard: 3, Seq: 300, Low: 299},
	}
	deliver := ShareDeliver{
		Key: ref.SessionKey, Filter: share, Share: 17, Seq: 1 << 33, Message: body, ExpiryMS: 3_599_500, Fence: 299, Origin: OriginKey{Shard: 8, Seq: 1, Low: 1},
	}
	settle := ShareSettle{
		Filter: share, Member: ref.SessionKey, Share: 17, Done: []Range{{1, 3}, {5, 5}}, Origin: OriginKey{Shard: 3, Seq: 301, Low: 300},
	}
	replay := Replay{Ref: ref, Filter: "a/#", After: "a/1", Next: "a/3", Last: true, Messages: [][]byte{body, body}}
	form := Form{ClusterID: "c-1", Nodes: []Node{node, {ID: "n2"}}, Shards: 8, Replicas: 3, Settings: []Setting{{"inbox.overflow", "refuse"}, {"k", ""}}}
	up := NodeUp{Node: node}
	down := NodeDown{Node: "n1", Incarnation: 12}
	st := SetNodeState{Node: "n1", State: NodeDraining}
	place := Place{Shard: 2, Replicas: []string{"n1", "n3"}}
	set := Set{Setting: Setting{"mqtt.max_qos", "2"}}
	return append([]sample{
		{"publish", KindPublish, AppendPublish(nil, &publish), publish, decoded[Publish]},
		{"connect", KindConnect, AppendConnect(nil, &connect), connect, decoded[Connect]},
		{"disconnect", KindDisconnect, AppendDisconnect(nil, &disconnect), disconnect, decoded[Disconnect]},
		{"subscribe", KindSubscribe, AppendSubscribe(nil, &subscribe), subscribe, decoded[Subscribe]},
		{"unsubscribe", KindUnsubscribe, AppendUnsubscribe(nil, &unsubscribe), unsubscribe, decoded[Unsubscribe]},
		{"ack", KindAck, AppendAck(nil, &ack), ack, decoded[Ack]},
		{"receive", KindReceive, AppendReceive(nil, &receive), receive, decoded[Receive]},
		{"release", KindRelease, AppendRelease(nil, &release), release, decoded[Release]},
		{"origin-done", KindOriginDone, AppendOriginDone(nil, &originDone), originDone, decoded[OriginDone]},
		{"node-lost", KindNodeLost, AppendNodeLost(nil, &nodeLost), nodeLost, decoded[NodeLost]},
		{"tick", KindTick, []byte{byte(KindTick) << 1, 0}, Tick{}, decoded[Tick]},
		{"end-session", KindEndSession, AppendEndSession(nil, &end), end, decoded[EndSession]},
		{"checkpoint", KindCheckpoint, AppendCheckpoint(nil, &point), point, decoded[Checkpoint]},
		{"configure", KindConfigure, AppendConfigure(nil, &configure), configure, decoded[Configure]},
		{"share-member", KindShareMember, AppendShareMember(nil, &member), member, decoded[ShareMember]},
		{"share-deliver", KindShareDeliver, AppendShareDeliver(nil, &deliver), deliver, decoded[ShareDeliver]},
		{"share-settle", KindShareSettle, AppendShareSettle(nil, &settle), settle, decoded[ShareSettle]},
		{"replay", KindReplay, AppendReplay(nil, &replay), replay, decoded[Replay]},
		{"form", KindForm, AppendForm(nil, &form), form, decoded[Form]},
		{"node-up", KindNodeUp, AppendNodeUp(nil, &up), up, decoded[NodeUp]},
		{"node-down", KindNodeDown, AppendNodeDown(nil, &down), down, decoded[NodeDown]},
		{"node-state", KindNodeState, AppendSetNodeState(nil, &st), st, decoded[SetNodeState]},
		{"place", KindPlace, AppendPlace(nil, &place), place, decoded[Place]},
		{"set", KindSet, AppendSet(nil, &set), set, decoded[Set]},
	}, append(membershipSamples(), append(keySamples(), append(restoreSamples(), recoverSamples()...)...)...)...)
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", "golden", "v1-"+name+".hex")
	text := hex.EncodeToString(got) + "\n"
	if *rewrite {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != text {
		t.Errorf("%s: the bytes changed: logs of older programs would be misread\n got %swant %s", name, text, want)
	}
}

// TestGolden holds the bytes of every command, and reads them back.
func TestGolden(t *testing.T) {
	for _, s := range samples() {
		golden(t, s.name, s.bytes)
		it := Iter{b: s.bytes}
		var c Command
		if ok, err := it.Next(&c); !ok || err != nil || c.Kind != s.kind || c.Ignorable || len(it.b) != 0 {
			t.Fatalf("%s: framing: %+v, %v", s.name, c, err)
		}
		if c.Kind.String() != s.name {
			t.Errorf("%s is called %s", s.name, c.Kind)
		}
		got, err := s.decode(c.Payload)
		if err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		if d := cmp.Diff(s.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", s.name, d)
		}
		// A field of a later version is skipped.
		got, err = s.decode(append(append([]byte(nil), c.Payload...), 0xfa, 1, 2, 'h', 'i'))
		if err != nil || !cmp.Equal(s.want, got) {
			t.Errorf("%s: an unknown field: %v", s.name, err)
		}
	}
}

// TestEveryKindHasASample fails when a kind is added without golden bytes.
func TestEveryKindHasASample(t *testing.T) {
	have := map[Kind]bool{}
	for _, s := range samples() {
		have[s.kind] = true
	}
	for k := Kind(1); k < 256; k++ {
		if named := !strings.HasPrefix(k.String(), "kind("); named != have[k] {
			t.Errorf("%s: named %v, golden %v", k, named, have[k])
		}
	}
}

func sampleResults() []Result {
	return []Result{
		{Code: OK}, {Code: OK}, {Code: OK}, {Code: NoMatch}, {Code: OK},
		{
			Code: OK, Epoch: 300, Present: true, ExpiryS: 3600, Prev: Owner{Node: "n2", Incarnation: 4, Epoch: 299},
			Subs: []Subscription{{Filter: "a/#", QoS: 1, ID: 3}}, AwaitingRelease: []uint16{1, 65535}, Index: 1 << 40,
		},
		{Code: OK, Codes: []byte{0, 1, 0x97}, Existed: []bool{true, false, false}, Index: 9},
		{Code: OK, Incarnation: 77}, {Code: StaleEpoch},
	}
}

func TestResults(t *testing.T) {
	want := sampleResults()
	b := EncodeResults(nil, want)
	golden(t, "results", b)
	got, err := DecodeResults(b, len(want))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Fatal(d)
	}
	if _, err := DecodeResults(b, len(want)-1); err == nil {
		t.Fatal("more results than commands were accepted")
	}
	many := make([]Result, 1000)
	for i := range many {
		many[i].Code = OK
	}
	if n := len(EncodeResults(nil, many)); n > 4 {
		t.Fatalf("a thousand times OK is %d bytes", n)
	}
	br := BatchResult{Node: "n1", Incarnation: 3, Seq: 9, Code: OK, Results: b}
	golden(t, "batch-result", br.Append(nil))
	var back BatchResult
	if err := back.Decode(br.Append(nil)); err != nil || !cmp.Equal(br, back) {
		t.Fatalf("batch result: %+v, %v", back, err)
	}
}

// TestGoldenOfLaterFields holds bytes of fields that came after the samples were
// frozen: the samples of older fields stay as they are.
func TestGoldenOfLaterFields(t *testing.T) {
	configure := Configure{Settings: ShardSettings{
		InboxMaxMessages: 1, ShareStrategy: ShareHashTopic, RetainedMaxPayload: 1 << 20, RetainedExpiryS: 86400, InboxQoS0Offline: true,
	}}
	b := AppendConfigure(nil, &configure)
	golden(t, "configure-2", b)
	it := Iter{b: b}
	var c Command
	var back Configure
	if ok, err := it.Next(&c); !ok || err != nil || back.Decode(c.Payload) != nil || !cmp.Equal(configure, back) {
		t.Fatalf("configure: %+v, %v", back, err)
	}
	b = AppendTick(nil)
	golden(t, "tick-2", b)
	it = Iter{b: b}
	var tick Tick
	if ok, err := it.Next(&c); !ok || err != nil || tick.Decode(c.Payload) != nil || tick.Rules != TickRules {
		t.Fatalf("tick: %+v, %v", tick, err)
	}
	connect := Connect{Key: SessionKey{ClientID: "c"}, Node: "n1", SameUser: true}
	b = AppendConnect(nil, &connect)
	golden(t, "connect-2", b)
	it = Iter{b: b}
	var conn Connect
	if ok, err := it.Next(&c); !ok || err != nil || conn.Decode(c.Payload) != nil || !cmp.Equal(connect, conn) {
		t.Fatalf("connect: %+v, %v", conn, err)
	}
	subscribe := Subscribe{Ref: SessionRef{Epoch: 1}, Subs: []Subscription{{Filter: "a", QoS: 1}}, Replay: true}
	b = AppendSubscribe(nil, &subscribe)
	golden(t, "subscribe-2", b)
	it = Iter{b: b}
	var sub Subscribe
	if ok, err := it.Next(&c); !ok || err != nil || sub.Decode(c.Payload) != nil || !cmp.Equal(subscribe, sub) {
		t.Fatalf("subscribe: %+v, %v", sub, err)
	}
	want := []Result{
		{Code: OK, Index: 9, Codes: []byte{1}, Existed: []bool{false}, Gate: 1 << 40},
		{Code: OK, Epoch: 3, Replays: []PendingReplay{{Filter: "a/#", After: "a/b"}, {Filter: "b"}}},
		{Code: Duplicate, Index: 12},
	}
	b = EncodeResults(nil, want)
	golden(t, "results-2", b)
	got, err := DecodeResults(b, len(want))
	if err != nil || !cmp.Equal(want, got) {
		t.Fatalf("results: %+v, %v", got, err)
	}
}

func TestEntryGolden(t *testing.T) {
	var cmds []byte
	count := 0
	for _, s := range samples() {
		if s.kind > KindConfigure && s.kind < KindForm || s.kind > KindSet {
			continue // younger than the golden entry
		}
		cmds = append(cmds, s.bytes...)
		count++
	}
	h := BatchHeader{Node: "n1", Incarnation: 3, Seq: 17, AckedSeq: 15}
	first := AppendBatch(nil, &h, cmds)
	tick := AppendBatch(nil, &BatchHeader{}, []byte{byte(KindTick) << 1, 0})
	head := Header{Time: 1_700_000_000_000, Proposal: 99, Leader: "n2"}
	e := BuildEntry(nil, &head, first, tick)
	golden(t, "entry", e)
	if limit := EntrySize(&head, 2, len(first)+len(tick)); len(e) > limit {
		t.Fatalf("entry of %d bytes, bound %d", len(e), limit)
	}

	got, err := DecodeEntry(e)
	if err != nil || got.Header != head {
		t.Fatalf("header %+v, %v", got.Header, err)
	}
	var b Batch
	if ok, err := got.Next(&b); !ok || err != nil || b.BatchHeader != h {
		t.Fatalf("batch %+v, %v", b.BatchHeader, err)
	}
	if n, err := CountCommands(b.commands); n != count || err != nil {
		t.Fatalf("%d commands, %v", n, err)
	}
	if ok, err := got.Next(&b); !ok || err != nil || b.BatchHeader != (BatchHeader{}) {
		t.Fatalf("second batch %+v, %v", b.BatchHeader, err)
	}
	if ok, err := got.Next(&b); ok || err != nil {
		t.Fatalf("a third batch: %v", err)
	}
	alone, err := DecodeBatch(first)
	if err != nil || alone.BatchHeader != h {
		t.Fatalf("batch alone: %+v, %v", alone, err)
	}
}
