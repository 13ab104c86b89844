package cluster_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/cmd/flotilla/mqttc"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// sysValues keeps the last value of each topic.
type sysValues struct {
	inbox
	last    map[string]string
	retains map[string]bool
	times   map[string]int
}

func newSysValues() *sysValues {
	return &sysValues{last: map[string]string{}, retains: map[string]bool{}, times: map[string]int{}}
}

func (s *sysValues) onMessage(_ *mqttc.Client, p *mqtt.Publish) {
	s.mu.Lock()
	defer s.mu.Unlock()
	topic := string(p.Topic)
	if s.times[topic] == 0 {
		s.retains[topic] = p.Retain
	}
	s.times[topic]++
	s.last[topic] = string(p.Payload)
}

func (s *sysValues) get(topic string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last[topic]
}

// TestSysTopics: a new subscriber gets every value at once, as retained, and no
// wildcard at the first level matches them.
func TestSysTopics(t *testing.T) {
	t.Parallel()
	n := startNode(t, testConfig(t, t.TempDir()))
	defer stopNode(t, n)
	waitReady(t, n)
	values, all := newSysValues(), newSysValues()
	wild := dial(t, n, "wild", true, all.onMessage)
	subscribe(t, wild, "#", 0)
	subscribe(t, wild, "+/broker/uptime", 0)
	c := dial(t, n, "sys", true, values.onMessage)
	subscribe(t, c, "$SYS/#", 1)
	topics := []string{
		"version", "uptime", "clients/connected", "clients/disconnected", "clients/total", "clients/maximum", "clients/expired",
		"messages/received", "messages/sent", "messages/inflight", "publish/messages/received", "publish/messages/sent", "publish/messages/dropped",
		"bytes/received", "bytes/sent", "subscriptions/count", "retained messages/count", "store/messages/count", "store/messages/bytes",
	}
	for _, what := range []string{
		"messages/received", "messages/sent", "publish/received", "publish/sent", "publish/dropped", "bytes/received", "bytes/sent", "connections", "sockets",
	} {
		for _, span := range []string{"1min", "5min", "15min"} {
			topics = append(topics, "load/"+what+"/"+span)
		}
	}
	waitFor(t, 5*time.Second, "all values", func() string {
		for _, topic := range topics {
			if values.get("$SYS/broker/"+topic) == "" {
				return topic + " is missing"
			}
		}
		return ""
	})
	number := regexp.MustCompile(`^[0-9]+(\.[0-9]+)?$`)
	for _, topic := range topics {
		v := values.get("$SYS/broker/" + topic)
		switch topic {
		case "version":
			if v != "flotilla version dev" {
				t.Errorf("version %q", v)
			}
		case "uptime":
			if !regexp.MustCompile(`^[0-9]+ seconds$`).MatchString(v) {
				t.Errorf("uptime %q", v)
			}
		default:
			if !number.MatchString(v) {
				t.Errorf("%s is %q, which is no plain number", topic, v)
			}
		}
		if !values.retains["$SYS/broker/"+topic] {
			t.Errorf("%s did not come as retained", topic)
		}
	}
	for topic, want := range map[string]any{
		"$SYS/brokers": []any{n.ID()}, "$SYS/brokers/" + n.ID() + "/state": "ready", "$SYS/brokers/" + n.ID() + "/version": "", "$SYS/cluster/leader": n.ID(),
		"$SYS/cluster/members": []any{n.ID()},
	} {
		var got any
		if err := json.Unmarshal([]byte(values.get(topic)), &got); err != nil || fmt.Sprint(got) != fmt.Sprint(want) && want != "" {
			t.Errorf("%s is %s (%v), want %v", topic, values.get(topic), err, want)
		}
	}
	if h := values.get("$SYS/cluster/health"); !strings.HasPrefix(h, `{"healthy":`) {
		t.Errorf("health %s", h)
	}
	waitFor(t, 25*time.Second, "values to be published again, with both clients", func() string {
		values.mu.Lock()
		defer values.mu.Unlock()
		if k := values.times["$SYS/broker/uptime"]; k < 2 {
			return fmt.Sprint("times ", k)
		}
		if got := values.last["$SYS/broker/clients/connected"]; got != "2" {
			return "connected " + got
		}
		if got := values.last["$SYS/broker/subscriptions/count"]; got != "3" {
			return "subscriptions " + got
		}
		return ""
	})
	all.mu.Lock()
	defer all.mu.Unlock()
	if len(all.last) > 0 {
		t.Errorf("a wildcard at the first level matched %v", all.last)
	}
}

// TestSysSumsOverTheCluster: each node tells the same figures.
func TestSysSumsOverTheCluster(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("three nodes, ten seconds")
	}
	nodes, _ := formCluster(t, 3, nil)
	values := make([]*sysValues, len(nodes))
	for i, n := range nodes {
		values[i] = newSysValues()
		c := dial(t, n, fmt.Sprint("c", i), true, values[i].onMessage)
		subscribe(t, c, "$SYS/broker/#", 0)
		subscribe(t, c, "$SYS/brokers/#", 0)
	}
	waitFor(t, 30*time.Second, "sums", func() string {
		for i := range values {
			if got := values[i].get("$SYS/broker/clients/connected"); got != "3" {
				return fmt.Sprintf("node %d says connected %s", i, got)
			}
			if got := values[i].get("$SYS/broker/subscriptions/count"); got != "6" {
				return fmt.Sprintf("node %d says subscriptions %s", i, got)
			}
			for _, n := range nodes {
				if got := values[i].get("$SYS/brokers/" + n.ID() + "/uptime"); got == "" {
					return "no uptime of " + n.ID()
				}
			}
		}
		return ""
	})
}
