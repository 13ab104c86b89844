package cluster_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/cluster"
	"github.com/flotilla-mqtt/flotilla/cmd/flotilla/mqttc"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// crew is the members of a share: what each of them got.
type crew struct {
	t  *testing.T
	mu sync.Mutex
	// got maps a payload to the members that got it, in order; "!" marks a
	// repeated delivery.
	got map[string][]string
}

func newCrew(t *testing.T) *crew { return &crew{t: t, got: map[string][]string{}} }

// note is the OnMessage of a member.
func (c *crew) note(name string) func(*mqttc.Client, *mqtt.Publish) {
	return func(_ *mqttc.Client, p *mqtt.Publish) {
		c.mu.Lock()
		defer c.mu.Unlock()
		who := name
		if p.Dup {
			who += "!"
		}
		c.got[string(p.Payload)] = append(c.got[string(p.Payload)], who)
	}
}

// by counts the messages that each member got.
func (c *crew) by() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string]int{}
	for _, who := range c.got {
		for _, w := range who {
			out[strings.TrimSuffix(w, "!")]++
		}
	}
	return out
}

// await waits until every payload of prefix was received.
func (c *crew) await(prefix string, n int) {
	c.t.Helper()
	waitFor(c.t, 15*time.Second, fmt.Sprint(n, " messages ", prefix), func() string {
		c.mu.Lock()
		defer c.mu.Unlock()
		have := 0
		for k := range c.got {
			if strings.HasPrefix(k, prefix) {
				have++
			}
		}
		if have == n {
			return ""
		}
		return fmt.Sprint("have ", have)
	})
}

func (c *crew) once(prefix string) {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, who := range c.got {
		if strings.HasPrefix(k, prefix) && len(who) != 1 {
			c.t.Errorf("message %s came to %v", k, who)
		}
	}
}

func (c *crew) member(n *cluster.Node, name string, clean bool, filter string, qos byte) *mqttc.Client {
	c.t.Helper()
	m := dial(c.t, n, name, clean, c.note(name))
	c.t.Cleanup(m.Abort)
	if filter != "" {
		subscribe(c.t, m, filter, qos)
	}
	return m
}

// deaf is a member that acknowledges nothing.
func (c *crew) deaf(n *cluster.Node, name string, clean bool, filter string, qos byte) *mqttc.Client {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 10*time.Second)
	defer cancel()
	opt := mqttc.Options{URL: "mqtt://" + n.Addrs().MQTT, ClientID: name, Clean: clean, ManualAck: true, OnMessage: c.note(name)}
	if !clean {
		opt.SessionExpiry = 3600
	}
	m, err := mqttc.Dial(ctx, opt)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(m.Abort)
	subscribe(c.t, m, filter, qos)
	return m
}

// TestShareOnOneNode: every message goes to one member, in turn, whatever its QoS.
func TestShareOnOneNode(t *testing.T) {
	n := startNode(t, testConfig(t, t.TempDir()))
	defer stopNode(t, n)
	waitReady(t, n)
	shareInTurn(t, []*cluster.Node{n})
}

// TestShareAcrossNodes: the same with members on all nodes.
func TestShareAcrossNodes(t *testing.T) {
	nodes, _ := formCluster(t, 3, nil)
	shareInTurn(t, nodes)
	shareSubackIsEffective(t, nodes)
	shareLosesMembers(t, nodes)
}

func shareInTurn(t *testing.T, nodes []*cluster.Node) {
	const each = 20
	for qos := byte(0); qos <= 2; qos++ {
		c := newCrew(t)
		topic := fmt.Sprintf("turn/%d", qos)
		var names []string
		var members []*mqttc.Client
		for i := range 6 {
			name := fmt.Sprintf("m%d-%d", qos, i)
			names = append(names, name)
			members = append(members, c.member(nodes[i%len(nodes)], name, i%2 == 0, "$share/g/turn/#", qos))
		}
		pub := dial(t, nodes[len(nodes)-1], fmt.Sprint("pub", qos), true, nil)
		for i := range each * len(names) {
			publish(t, pub, topic, fmt.Sprint("t", i), qos)
		}
		pub.Abort()
		c.await("t", each*len(names))
		c.once("t")
		by := c.by()
		for _, name := range names {
			if n := by[name]; n < each/2 || n > each*2 {
				t.Errorf("QoS %d: %s got %d messages, in turn are %d: %v", qos, name, n, each, by)
			}
		}
		for _, m := range members {
			if _, err := m.Unsubscribe(t.Context(), "$share/g/turn/#"); err != nil {
				t.Fatal(err)
			}
			m.Abort()
		}
		waitFor(t, 10*time.Second, "the share to end", func() string {
			for _, n := range nodes {
				if all, _, err := n.Shares(t.Context(), "", 100); err != nil || len(all) != 0 {
					return fmt.Sprint(n.ID(), " lists ", all, err)
				}
			}
			return ""
		})
	}
}

// shareSubackIsEffective_I5: what is published on another node after SUBACK comes.
func shareSubackIsEffective(t *testing.T, nodes []*cluster.Node) {
	c := newCrew(t)
	pub := dial(t, nodes[1], "suback-pub", true, nil)
	defer pub.Abort()
	for i := range 10 {
		for qos := byte(0); qos <= 1; qos++ {
			filter := fmt.Sprintf("suback/%d/%d", i, qos)
			m := c.member(nodes[0], fmt.Sprintf("suback%d%d", i, qos), qos == 0, "$share/g/"+filter, qos)
			publish(t, pub, filter, fmt.Sprint("s", filter), qos)
			c.await("s"+filter, 1)
			m.Abort()
		}
	}
}

// shareLosesMembers: what a member has not acknowledged goes to another one when it
// ends, and waits for it while it is durable and only away.
func shareLosesMembers(t *testing.T, nodes []*cluster.Node) {
	c := newCrew(t)
	pub := dial(t, nodes[0], "lose-pub", true, nil)
	defer pub.Abort()
	first := c.deaf(nodes[0], "gone", true, "$share/l/lose/#", 1)
	second := c.deaf(nodes[1], "away", false, "$share/l/lose/#", 1)
	c.member(nodes[2], "stays", true, "$share/l/lose/#", 1)
	for i := range 30 {
		publish(t, pub, "lose/x", fmt.Sprint("l", i), 1)
	}
	c.await("l", 30)
	first.Abort()
	second.Abort()
	for i := range 30 { // a group with a live member never stalls
		publish(t, pub, "lose/x", fmt.Sprint("m", i), 1)
	}
	c.await("m", 30)
	waitFor(t, 15*time.Second, "what the first member had to go to the one that stays", func() string {
		c.mu.Lock()
		defer c.mu.Unlock()
		for k, who := range c.got {
			if slices.Contains(who, "gone") && !slices.Contains(who, "stays") {
				return k + " went to " + fmt.Sprint(who)
			}
		}
		return ""
	})
	c.member(nodes[0], "away", false, "", 0)
	waitFor(t, 15*time.Second, "the queue to be empty", func() string {
		all, _, err := nodes[0].Shares(t.Context(), "", 100)
		for _, s := range all {
			if s.Name == "l" && s.Queue > 0 {
				return fmt.Sprintf("%d messages, members %+v", s.Queue, s.Members)
			}
		}
		if err != nil {
			return err.Error()
		}
		return ""
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, who := range c.got {
		if slices.Contains(who, "away") && slices.Contains(who, "stays") {
			t.Errorf("%s was with a durable member that was away, and went to %v", k, who)
		}
	}
}

// TestWillOfALostNodeGoesOnce_I15: the node of a session is killed; its will is
// published by the session's shard, to plain subscribers and to one of a share.
func TestWillOfALostNodeGoesOnce_I15(t *testing.T) {
	nodes, cfgs := formCluster(t, 3, nil)
	c := newCrew(t)
	plain := dial(t, nodes[0], "plain", true, c.note("plain"))
	defer plain.Abort()
	subscribe(t, plain, "wills/#", 2)
	for i, n := range nodes[:2] {
		c.member(n, fmt.Sprint("share", i), i == 0, "$share/w/wills/#", 2)
	}
	const wills = 20
	for i := range wills {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		opt := mqttc.Options{URL: "mqtt://" + nodes[2].Addrs().MQTT, ClientID: fmt.Sprint("will", i), Clean: true}
		opt.Will = &mqtt.Will{Topic: fmt.Sprint("wills/", i), Payload: []byte(fmt.Sprint("w", i)), QoS: byte(i % 3)}
		m, err := mqttc.Dial(ctx, opt)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(m.Abort)
	}
	nodes[2].Kill()
	defer func() { nodes[2] = startNode(t, cfgs[2]); waitReady(t, nodes...) }() // for the cleanup
	waitFor(t, 30*time.Second, "all wills", func() string {
		if by := c.by(); by["plain"] < wills || by["share0"]+by["share1"] < wills {
			return fmt.Sprint("got ", by)
		}
		return ""
	})
	publish(t, plain, "wills/end", "end", 2) // a fence
	waitFor(t, 10*time.Second, "the fence", func() string {
		c.mu.Lock()
		defer c.mu.Unlock()
		if len(c.got["end"]) == 2 {
			return ""
		}
		return fmt.Sprint(c.got["end"])
	})
	if by := c.by(); by["plain"] != wills+1 || by["share0"]+by["share1"] != wills+1 {
		t.Errorf("%d wills and a fence came as %v", wills, by)
	}
}

// TestReplayGoesOnOnAnotherNode: a durable session gets every retained message
// once acknowledged, though it moves to another node while it gets them.
func TestReplayGoesOnOnAnotherNode(t *testing.T) {
	nodes, _ := formCluster(t, 3, nil)
	pub := dial(t, nodes[0], "pub", true, nil)
	defer pub.Abort()
	const topics = 300
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for i := range topics {
		p := &mqtt.Publish{Topic: []byte(fmt.Sprintf("kept/%03d", i)), Payload: []byte(fmt.Sprint("k", i)), QoS: 1, Retain: true}
		if _, err := pub.Publish(ctx, p); err != nil {
			t.Fatal(err)
		}
	}
	var mu sync.Mutex
	acked := map[string]bool{}
	session := func(n *cluster.Node, stopAt int) *mqttc.Client {
		opt := mqttc.Options{URL: "mqtt://" + n.Addrs().MQTT, ClientID: "dev", SessionExpiry: 3600, ReceiveMaximum: 20}
		opt.OnMessage = func(c *mqttc.Client, p *mqtt.Publish) {
			mu.Lock()
			defer mu.Unlock()
			if !p.Retain {
				t.Errorf("%s came without RETAIN", p.Topic)
			}
			if acked[string(p.Topic)] && !p.Dup {
				t.Errorf("%s came again", p.Topic)
			}
			acked[string(p.Topic)] = true
			if stopAt > 0 && len(acked) >= stopAt {
				c.Abort()
			}
		}
		m, err := mqttc.Dial(ctx, opt)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	first := session(nodes[1], 50)
	if _, err := first.Subscribe(ctx, mqtt.SubscribeFilter{Filter: "kept/#", QoS: 1}); err != nil {
		t.Fatal(err)
	}
	<-first.Done()
	second := session(nodes[2], 150)
	<-second.Done()
	third := session(nodes[0], 0)
	defer third.Abort()
	waitFor(t, 20*time.Second, "all retained messages", func() string {
		mu.Lock()
		defer mu.Unlock()
		if len(acked) == topics {
			return ""
		}
		return fmt.Sprint("have ", len(acked))
	})
}
