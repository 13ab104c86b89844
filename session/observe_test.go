package session_test

import (
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/flotilla-mqtt/flotilla/session"
	"github.com/flotilla-mqtt/flotilla/session/sessiontest"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// Metrics have their names and count right; the log has a line per connection
// and none per message.
func TestMetricsAndLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zapcore.InfoLevel)
		reg := prometheus.NewRegistry()
		r := &rig{T: t, cl: sessiontest.New()}
		n := r.cl.AddNode(session.DefaultConfig(), zap.New(core), reg)
		r.nodes = append(r.nodes, n)
		s := r.client(mqtt.V5, "s", true)
		s.Subscribe(t, 1, "t")
		p := r.open(mqtt.V311, "p")
		for i := range uint16(100) {
			p.MustSend(t, pub("t", "x", byte(i%2), i%2))
			m := expect[*mqtt.Publish](r, s)
			if m.QoS == 1 {
				s.MustSend(t, &mqtt.Puback{PacketID: m.PacketID})
				expect[*mqtt.Puback](r, p)
			}
		}
		bad := r.dial(mqtt.V5)
		bad.MustSend(t, &mqtt.Connect{Version: mqtt.V5, ClientID: "a+b", CleanStart: true})
		bad.Close()
		settle() // the last PUBACK is in
		r.client(mqtt.V5, "s", true)
		settle()
		for name, want := range map[string]float64{
			"flotilla_connections":                  2,
			"flotilla_connections_opened_total":     3,
			"flotilla_connections_closed_total":     1,
			"flotilla_connect_rejected_total":       1,
			"flotilla_session_takeovers_total":      1,
			"flotilla_slow_clients":                 0,
			"flotilla_publish_received_total":       100,
			"flotilla_publish_delivered_total":      100,
			"flotilla_messages_dropped_total":       0,
			"flotilla_connection_panics_total":      0,
			"flotilla_publish_ack_duration_seconds": 50,
			"flotilla_connect_duration_seconds":     3,
			"flotilla_delivery_duration_seconds":    50,
			"flotilla_packets_received_total":       3 + 1 + 1 + 100 + 50, // CONNECT, the bad one, SUBSCRIBE, PUBLISH, PUBACK
		} {
			if got := sum(t, reg, name); got != want {
				t.Errorf("%s is %v, want %v", name, got, want)
			}
		}
		for _, name := range []string{"flotilla_bytes_received_total", "flotilla_bytes_sent_total", "flotilla_packets_sent_total", "flotilla_subscribe_ack_duration_seconds"} {
			if sum(t, reg, name) == 0 {
				t.Errorf("%s is 0", name)
			}
		}
		r.stop()
		events := map[string]int{}
		for _, e := range logs.All() {
			events[e.ContextMap()["event"].(string)]++
		}
		want := map[string]int{"client.connected": 3, "client.disconnected": 3, "client.rejected": 1, "client.takeover": 1}
		for ev, k := range want {
			if events[ev] != k {
				t.Errorf("%d lines of %s, want %d", events[ev], ev, k)
			}
		}
		if len(events) != len(want) {
			t.Errorf("events %v", events)
		}
	})
}

// sum adds up a metric over its labels; of a histogram it is the count.
func sum(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	all, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if f.GetName() != name {
			continue
		}
		total := 0.0
		for _, m := range f.GetMetric() {
			total += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
		return total
	}
	t.Errorf("no metric %s", name)
	return 0
}

// labelled returns a metric by the value of its first label.
func labelled(t *testing.T, reg *prometheus.Registry, name string) map[string]float64 {
	t.Helper()
	all, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]float64)
	for _, f := range all {
		for _, m := range f.GetMetric() {
			if f.GetName() == name {
				out[m.GetLabel()[0].GetValue()] += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return out
}
