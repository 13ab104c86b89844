package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/flotilla-mqtt/flotilla/integration/harness"
)

// TestMosquittoClients drives the broker with the unmodified mosquitto clients. In the cluster of three, publisher and
// subscriber are on different nodes.
func TestMosquittoClients(t *testing.T) {
	long(t)
	needMosquitto(t)
	for _, nodes := range []int{1, 3} {
		t.Run(fmt.Sprintf("%d nodes", nodes), func(t *testing.T) {
			c := harness.Start(t, harness.Options{Nodes: nodes})
			pub, sub := c.Nodes[0].MQTTAddr(), c.Nodes[nodes-1].MQTTAddr()
			for _, v := range mosquittoVersions() {
				t.Run(string(v), func(t *testing.T) {
					for qos := range 3 {
						t.Run(fmt.Sprintf("QoS %d", qos), func(t *testing.T) { plainMessages(t, pub, sub, v, qos) })
					}
					t.Run("large", func(t *testing.T) { largePayload(t, pub, sub, v) })
					t.Run("retained", func(t *testing.T) { retained(t, pub, sub, v) })
					t.Run("will", func(t *testing.T) { will(t, pub, sub, v) })
					t.Run("session", func(t *testing.T) { offline(t, pub, sub, v) })
				})
			}
			t.Run("properties", func(t *testing.T) { properties(t, pub, sub) })
			t.Run("between versions", func(t *testing.T) { betweenVersions(t, pub, sub) })
		})
	}
}

// topicFor is a topic of this test's own.
func topicFor(t *testing.T) string {
	return strings.NewReplacer(" ", "-", "#", "-", "+", "-").Replace(t.Name())
}

func plainMessages(t *testing.T, pub, sub string, v mosquittoVersion, qos int) {
	topic := topicFor(t)
	s := startSub(t, sub, v, "-q", fmt.Sprint(qos), "-t", topic+"/#", "-t", topic+"/+/x")
	var lines, want []string
	for i := range 50 {
		lines = append(lines, fmt.Sprintf("message %d", i))
	}
	mosquittoPub(t, pub, v, strings.Join(lines, "\n")+"\n", "-q", fmt.Sprint(qos), "-t", topic+"/a", "-l")
	var got []string
	for _, m := range s.wait(len(lines)) {
		got = append(got, fmt.Sprintf("%s %s %s %s", m.Topic, m.QoS, m.Retain, m.Payload))
	}
	for _, l := range lines {
		want = append(want, fmt.Sprintf("%s/a %d 0 %s", topic, qos, l))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("messages (-want +got):\n%s", diff)
	}
	mosquittoPub(t, pub, v, "", "-q", fmt.Sprint(qos), "-t", topic+"/b/x", "-n")
	if m := s.wait(len(lines) + 1)[len(lines)]; m.Payload != "" || m.Topic != topic+"/b/x" {
		t.Errorf("empty payload: got %+v", m)
	}
}

func largePayload(t *testing.T, pub, sub string, v mosquittoVersion) {
	topic := topicFor(t)
	s := startSub(t, sub, v, "-q", "1", "-t", topic)
	text := strings.Repeat("0123456789abcdef", 700<<10/16)
	file := filepath.Join(t.TempDir(), "payload")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	mosquittoPub(t, pub, v, "", "-q", "1", "-t", topic, "-f", file)
	if got := s.wait(1)[0].Payload; got != text {
		t.Errorf("payload of %d bytes arrived with %d", len(text), len(got))
	}
}

func retained(t *testing.T, pub, sub string, v mosquittoVersion) {
	topic := topicFor(t)
	live := startSub(t, sub, v, "-q", "1", "-t", topic+"/#")
	for i := range 3 {
		mosquittoPub(t, pub, v, "", "-q", "1", "-r", "-t", fmt.Sprintf("%s/%d", topic, i), "-m", "old")
		mosquittoPub(t, pub, v, "", "-q", "1", "-r", "-t", fmt.Sprintf("%s/%d", topic, i), "-m", fmt.Sprintf("kept %d", i))
	}
	for _, m := range live.wait(6) {
		if m.Retain != "0" {
			t.Errorf("live message has the retain flag: %+v", m)
		}
	}
	late := map[string]string{}
	for _, m := range startSub(t, sub, v, "-q", "1", "-t", topic+"/#").wait(3) {
		late[m.Topic] = m.Retain + " " + m.Payload
	}
	want := map[string]string{}
	for i := range 3 {
		want[fmt.Sprintf("%s/%d", topic, i)] = fmt.Sprintf("1 kept %d", i)
	}
	if diff := cmp.Diff(want, late); diff != "" {
		t.Errorf("retained messages (-want +got):\n%s", diff)
	}
	mosquittoPub(t, pub, v, "", "-q", "1", "-r", "-t", topic+"/1", "-n")
	after := startSub(t, sub, v, "-q", "1", "-t", topic+"/#")
	mosquittoPub(t, pub, v, "", "-q", "1", "-t", topic+"/end", "-m", "end")
	for _, m := range after.wait(3) {
		if m.Topic == topic+"/1" {
			t.Errorf("a deleted retained message arrived: %+v", m)
		}
	}
}

func will(t *testing.T, pub, sub string, v mosquittoVersion) {
	topic := topicFor(t)
	watcher := startSub(t, pub, v, "-q", "1", "-t", topic+"/#")
	with := func(name string) *mosquittoSub {
		return startSub(t, sub, v, "-C", "1", "-t", name+topic, "--will-topic", topic+"/"+name, "--will-payload", "gone", "--will-qos", "1")
	}
	polite, crashed := with("polite"), with("crashed")
	// With its one message it disconnects; after SIGTERM it would, with MQTT 5, ask for its will.
	mosquittoPub(t, pub, v, "", "-q", "1", "-t", "polite"+topic, "-m", "last")
	<-polite.done
	crashed.kill()
	if m := watcher.wait(1)[0]; m.Topic != topic+"/crashed" || m.Payload != "gone" || m.QoS != "1" {
		t.Errorf("will: got %+v", m)
	}
	mosquittoPub(t, pub, v, "", "-q", "1", "-t", topic+"/end", "-m", "end")
	if m := watcher.wait(2)[1]; m.Topic != topic+"/end" {
		t.Errorf("a client that disconnected left a will: %+v", m)
	}
}

func offline(t *testing.T, pub, sub string, v mosquittoVersion) {
	topic := topicFor(t)
	args := []string{"-c", "-i", fmt.Sprintf("c%x", hash(topic)), "-q", "1", "-t", topic}
	if v == v5 {
		args = append(args, "-x", "3600")
	}
	startSub(t, sub, v, args...).stop()
	for i := range 20 {
		mosquittoPub(t, pub, v, "", "-q", "1", "-t", topic, "-m", fmt.Sprint(i))
	}
	// It comes back on the other node.
	var got, want []string
	for i, m := range startSub(t, pub, v, args...).wait(20) {
		got, want = append(got, m.Payload), append(want, fmt.Sprint(i))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("messages that waited (-want +got):\n%s", diff)
	}
}

// hash makes a client id that MQTT 3.1 accepts: at most 23 characters.
func hash(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}

func properties(t *testing.T, pub, sub string) {
	topic := topicFor(t)
	s := startSub(t, sub, v5, "-q", "1", "-t", topic)
	mosquittoPub(t, pub, v5, "", "-q", "1", "-t", topic, "-m", "x", "-D", "publish", "content-type", "text/plain",
		"-D", "publish", "user-property", "b", "1", "-D", "publish", "user-property", "a", "2", "-D", "publish", "response-topic", "answers")
	if m := s.wait(1)[0]; m.Extra != "text/plain;b:1 a:2" {
		t.Errorf("properties: got %q", m.Extra)
	}
}

func betweenVersions(t *testing.T, pub, sub string) {
	topic := topicFor(t)
	var subs []*mosquittoSub
	for _, v := range mosquittoVersions() {
		subs = append(subs, startSub(t, sub, v, "-q", "2", "-t", topic))
	}
	for _, v := range mosquittoVersions() {
		mosquittoPub(t, pub, v, "", "-q", "2", "-t", topic, "-m", string(v))
	}
	for i, s := range subs {
		var got []string
		for _, m := range s.wait(3) {
			got = append(got, m.Payload)
		}
		if diff := cmp.Diff([]string{"mqttv31", "mqttv311", "mqttv5"}, got); diff != "" {
			t.Errorf("%s subscriber (-want +got):\n%s", mosquittoVersions()[i], diff)
		}
	}
}
