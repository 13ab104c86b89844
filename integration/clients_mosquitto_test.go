package integration

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flotilla-mqtt/flotilla/integration/harness"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// mosquittoChecks is what TestMosquittoClients leaves out: mosquitto_rr, TLS, the other QoS of retained messages, wills and
// sessions, and what MQTT 5 has for the command line.
func mosquittoChecks(t *testing.T, s *clientSite) {
	needMosquitto(t)
	if _, err := exec.LookPath("mosquitto_rr"); err != nil {
		needClient(t, fmt.Errorf("mosquitto_rr is not installed (package mosquitto-clients): %w", err))
	}
	var checks []clientCheck
	run := func(name string, fn func(*testing.T)) { checks = append(checks, clientCheck{name, fn}) }
	for _, v := range mosquittoVersions() {
		for _, qos := range []string{"0", "2"} {
			run(fmt.Sprintf("%s will and retained QoS %s", v, qos), func(t *testing.T) { mosquittoWill(t, s, v, qos) })
		}
		run(string(v)+" session QoS 2", func(t *testing.T) { mosquittoSession(t, s, v) })
		run(string(v)+" TLS", func(t *testing.T) { mosquittoTLS(t, s, v) })
	}
	run("mosquitto_rr mqttv5", func(t *testing.T) { mosquittoRR(t, s, v5) })
	run("mosquitto_rr mqttv311", func(t *testing.T) { mosquittoRR(t, s, v311) })
	run("options", func(t *testing.T) { mosquittoOptions(t, s) })
	run("will delay", func(t *testing.T) { mosquittoWillDelay(t, s) })
	atOnce(t, checks)
}

func mosquittoWill(t *testing.T, s *clientSite, v mosquittoVersion, qos string) {
	topic := clientName(t, "w")
	watcher := startSub(t, s.pub.MQTTAddr(), v, "-q", "2", "-t", topic)
	startSub(t, s.sub.MQTTAddr(), v, "-t", "nothing/"+topic, "--will-topic", topic, "--will-payload", "gone", "--will-qos", qos, "--will-retain").kill()
	want := received{Topic: topic, QoS: qos, Retain: "0", Payload: "gone", Extra: watcher.wait(1)[0].Extra}
	if diff := cmp.Diff(want, watcher.wait(1)[0]); diff != "" {
		t.Errorf("will (-want +got):\n%s", diff)
	}
	late := startSub(t, s.sub.MQTTAddr(), v, "-q", "2", "-t", topic)
	want.Retain = "1"
	if diff := cmp.Diff(want, late.wait(1)[0]); diff != "" {
		t.Errorf("retained will (-want +got):\n%s", diff)
	}
	mosquittoPub(t, s.pub.MQTTAddr(), v, "", "-q", qos, "-t", topic, "-r", "-n")
}

func mosquittoSession(t *testing.T, s *clientSite, v mosquittoVersion) {
	topic := clientName(t, "s")
	args := []string{"-c", "-i", clientName(t, "sess"), "-q", "2", "-t", topic}
	if v == v5 {
		args = append(args, "-x", "3600")
	}
	startSub(t, s.sub.MQTTAddr(), v, args...).kill()
	var lines, got []string
	for i := range 20 {
		lines = append(lines, fmt.Sprint(i))
	}
	mosquittoPub(t, s.pub.MQTTAddr(), v, strings.Join(lines, "\n")+"\n", "-q", "2", "-t", topic, "-l")
	for _, m := range startSub(t, s.pub.MQTTAddr(), v, args...).wait(len(lines)) {
		got = append(got, m.Payload)
		if m.QoS != "2" {
			t.Errorf("QoS %s, want 2", m.QoS)
		}
	}
	if diff := cmp.Diff(lines, got); diff != "" {
		t.Errorf("messages that waited (-want +got):\n%s", diff)
	}
}

func mosquittoTLS(t *testing.T, s *clientSite, v mosquittoVersion) {
	topic := clientName(t, "t")
	sub := startSub(t, s.subTLS, v, "--cafile", s.caFile, "--tls-version", "tlsv1.3", "-q", "2", "-t", topic)
	mosquittoPub(t, s.pubTLS, v, "", "--cafile", s.caFile, "--tls-version", "tlsv1.2", "--tls-alpn", "mqtt", "-q", "2", "-t", topic, "-m", "secret")
	if m := sub.wait(1)[0]; m.Payload != "secret" || m.QoS != "2" {
		t.Errorf("got %+v", m)
	}
}

// mosquittoRR asks on one node and is answered on the other.
func mosquittoRR(t *testing.T, s *clientSite, v mosquittoVersion) {
	ask, answers := clientName(t, "ask"), clientName(t, "answers")
	answerer := connect(t, s.sub, clientName(t, "a"), transient)
	answerer.subscribe(t, mqtt.SubscribeFilter{Filter: ask, QoS: 1})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	args := append(hostPort(t, s.pub.MQTTAddr()), "-V", string(v), "-q", "1", "-t", ask, "-e", answers, "-m", "ping", "-W", "20")
	rr := exec.CommandContext(ctx, "mosquitto_rr", args...)
	var out strings.Builder
	rr.Stdout, rr.Stderr = &out, &out
	if err := rr.Start(); err != nil {
		t.Fatal(err)
	}
	answerer.wait(t, 1)
	props, err := mqtt.ParseMessageProps(answerer.all()[0].Props)
	if err != nil {
		t.Fatal(err)
	}
	if v == v5 && string(props.ResponseTopic) != answers {
		t.Errorf("response topic %q, want %q", props.ResponseTopic, answers)
	}
	answerer.publish(t, answers, "pong", 1)
	if err := rr.Wait(); err != nil || strings.TrimSpace(out.String()) != "pong" {
		t.Errorf("mosquitto_rr: %v, printed %q", err, out.String())
	}
}

// mosquittoOptions: subscription identifier, topic alias, Retain As Published, message expiry and the removal of retained
// messages.
func mosquittoOptions(t *testing.T, s *clientSite) {
	topic := clientName(t, "o")
	sub := startSub(t, s.sub.MQTTAddr(), v5, "-q", "1", "-t", topic, "--retain-as-published", "-D", "subscribe", "subscription-identifier", "42",
		"-D", "connect", "receive-maximum", "1", "-F", "MSG|%t|%q|%r|%S %E|%p")
	mosquittoPub(t, s.pub.MQTTAddr(), v5, "one\ntwo\nthree\n", "-q", "1", "-t", topic, "-r", "-l", "-D", "publish", "topic-alias", "1",
		"-D", "publish", "message-expiry-interval", "3600")
	var got []string
	for _, m := range sub.wait(3) {
		var id, expiry int
		if _, err := fmt.Sscan(m.Extra, &id, &expiry); err != nil || id != 42 || expiry > 3600 || expiry < 3500 {
			t.Errorf("subscription identifier and expiry %q (%v), want 42 and what remains of 3600", m.Extra, err)
		}
		got = append(got, m.Topic+" "+m.Retain+" "+m.Payload)
	}
	if want := []string{topic + " 1 one", topic + " 1 two", topic + " 1 three"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	startSub(t, s.sub.MQTTAddr(), v5, "-q", "1", "-t", topic, "--remove-retained").wait(1)
	harness.Wait(t, libWait, "the retained message to be removed", func(context.Context) error {
		late := startSub(t, s.pub.MQTTAddr(), v5, "-q", "1", "-t", topic, "-t", topic+"/end")
		mosquittoPub(t, s.pub.MQTTAddr(), v5, "", "-q", "1", "-t", topic+"/end", "-m", "end")
		if m := late.wait(1)[0]; m.Payload != "end" {
			return fmt.Errorf("got %+v", m)
		}
		return nil
	})
}

func mosquittoWillDelay(t *testing.T, s *clientSite) {
	topic := clientName(t, "w")
	watcher := startSub(t, s.pub.MQTTAddr(), v5, "-q", "1", "-t", topic)
	dying := startSub(t, s.sub.MQTTAddr(), v5, "-c", "-x", "3600", "-i", clientName(t, "will"), "-t", "nothing/"+topic, "--will-topic", topic,
		"--will-payload", "gone", "--will-qos", "1", "-D", "will", "will-delay-interval", "1", "-D", "will", "content-type", "text/will")
	start := time.Now()
	dying.kill()
	m := watcher.wait(1)[0]
	if after := time.Since(start); after < 800*time.Millisecond {
		t.Errorf("the will came after %v, before its delay of 1 s", after)
	}
	if !strings.HasPrefix(m.Extra, "text/will;") || m.Payload != "gone" {
		t.Errorf("will: got %+v", m)
	}
}
