package session

import (
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// dropReason labels messages that were not delivered.
type dropReason byte

const (
	dropExpired   dropReason = iota + 1 // the message expired while it waited
	dropQoS0Slow                        // QoS 0, and the client's outbox is full
	dropTooLarge                        // above the client's Maximum Packet Size
	dropDenied                          // the client may not read the topic any more
	dropUncertain                       // QoS 0 from an inbox, and an earlier connection may have sent it
	dropReasons
)

// metrics are all metrics of the room. Labels are resolved once: the hot paths
// only add.
type metrics struct {
	connections   *prometheus.GaugeVec
	opened        *prometheus.CounterVec
	closed        *prometheus.CounterVec
	rejected      *prometheus.CounterVec
	takeovers     *prometheus.CounterVec
	auth          *prometheus.CounterVec
	throttled     prometheus.Counter
	panics        prometheus.Counter
	bytesIn       *prometheus.CounterVec
	bytesOut      *prometheus.CounterVec
	refused       *prometheus.CounterVec
	received      [16]prometheus.Counter // by packet type
	sent          [16]prometheus.Counter
	pubReceived   [3]prometheus.Counter // by QoS
	pubDelivered  [3]prometheus.Counter
	dropped       [dropReasons]prometheus.Counter
	pubAck        [3]prometheus.Observer
	subAck        prometheus.Observer
	connect       [2]prometheus.Observer // transient, durable
	delivery      prometheus.Observer
	droppedByName *prometheus.CounterVec

	// What gauges show of the moment.
	slow     atomic.Int64
	inflight [dirs]atomic.Int64
}

// The directions of inflight_messages.
const (
	dirIn = iota
	dirOut
	dirs
)

// countInflightLocked brings what this connection adds to inflight_messages up to
// date. It stands where both directions come by after each change.
func (c *Conn) countInflightLocked() {
	var n [dirs]int
	if c.in != nil && !c.left {
		n[dirIn] = c.in.InFlight()
	}
	if c.win != nil && !c.left {
		n[dirOut] = c.win.Len()
	}
	for i := range n {
		if d := n[i] - c.counted[i]; d != 0 {
			c.srv.m.inflight[i].Add(int64(d))
			c.counted[i] = n[i]
		}
	}
}

// buckets run from 100 µs to 10 s.
func buckets() []float64 {
	return []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
}

func newMetrics(reg prometheus.Registerer) *metrics {
	var all []prometheus.Collector
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "flotilla_" + name, Help: help}, labels)
		all = append(all, c)
		return c
	}
	hist := func(name, help string, labels ...string) *prometheus.HistogramVec {
		h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "flotilla_" + name, Help: help, Buckets: buckets()}, labels)
		all = append(all, h)
		return h
	}
	m := &metrics{
		connections: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "flotilla_connections",
			Help: "MQTT connections of which the CONNECT was accepted."}, []string{"listener", "transport"}),
		opened:    counter("connections_opened_total", "MQTT connections accepted.", "listener", "transport", "version"),
		closed:    counter("connections_closed_total", "MQTT connections ended, by reason.", "reason"),
		rejected:  counter("connect_rejected_total", "Handshakes that ended without a session, by reason.", "reason"),
		takeovers: counter("session_takeovers_total", "Connections closed because another one took the session, on this node (local) or elsewhere (remote).", "scope"),
		bytesIn:   counter("bytes_received_total", "MQTT bytes received.", "listener"),
		bytesOut:  counter("bytes_sent_total", "MQTT bytes sent.", "listener"),
		auth:      counter("auth_total", "Authentications, by what was presented and how it ended.", "backend", "result"),
		refused:   counter("publish_refused_total", "Publishes that were answered with a failure, by reason.", "reason"),
	}
	gauge := func(v *atomic.Int64, name, help string, labels prometheus.Labels) {
		all = append(all, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "flotilla_" + name, Help: help, ConstLabels: labels},
			func() float64 { return float64(v.Load()) }))
	}
	gauge(&m.slow, "slow_clients", "Clients whose queue in this node is above its limit.", nil)
	const inflight = "Messages of QoS 1 and 2 under way: from clients and not acknowledged (in), to clients and not acknowledged by them (out)."
	gauge(&m.inflight[dirIn], "inflight_messages", inflight, prometheus.Labels{"dir": "in"})
	gauge(&m.inflight[dirOut], "inflight_messages", inflight, prometheus.Labels{"dir": "out"})
	all = append(all, m.connections)
	m.throttled = counter("publish_throttled_total", "Publishes that waited because their client had used up its rate.").WithLabelValues()
	m.panics = counter("connection_panics_total", "Panics that closed one connection each: every one is a bug.").WithLabelValues()
	m.resolve(counter, hist)
	m.begin()
	if reg != nil {
		reg.MustRegister(all...)
	}
	return m
}

func (m *metrics) resolve(
	counter func(string, string, ...string) *prometheus.CounterVec,
	hist func(string, string, ...string) *prometheus.HistogramVec,
) {
	in := counter("packets_received_total", "Packets received, by type.", "type")
	out := counter("packets_sent_total", "Packets sent, by type.", "type")
	for t := mqtt.TypeConnect; t <= mqtt.TypeAuth; t++ {
		m.received[t] = in.WithLabelValues(typeLabel(t))
		m.sent[t] = out.WithLabelValues(typeLabel(t))
	}
	pin := counter("publish_received_total", "PUBLISH packets received, by QoS.", "qos")
	pout := counter("publish_delivered_total", "PUBLISH packets put into the outboxes of clients, by QoS.", "qos")
	ack := hist("publish_ack_duration_seconds", "From a PUBLISH to its PUBACK or PUBREC.", "qos")
	for q := range 3 {
		m.pubReceived[q] = pin.WithLabelValues(strconv.Itoa(q))
		m.pubDelivered[q] = pout.WithLabelValues(strconv.Itoa(q))
		m.pubAck[q] = ack.WithLabelValues(strconv.Itoa(q))
	}
	m.droppedByName = counter("messages_dropped_total", "Messages that were not delivered to one session, by reason.", "reason")
	m.dropped[dropExpired] = m.droppedByName.WithLabelValues("expired")
	m.dropped[dropQoS0Slow] = m.droppedByName.WithLabelValues("qos0_slow")
	m.dropped[dropTooLarge] = m.droppedByName.WithLabelValues("too_large")
	m.dropped[dropDenied] = m.droppedByName.WithLabelValues("denied")
	m.dropped[dropUncertain] = m.droppedByName.WithLabelValues("uncertain")
	m.subAck = hist("subscribe_ack_duration_seconds", "From a SUBSCRIBE to its SUBACK.").WithLabelValues()
	conn := hist("connect_duration_seconds", "From a CONNECT to its CONNACK.", "durable")
	m.connect = [2]prometheus.Observer{conn.WithLabelValues("false"), conn.WithLabelValues("true")}
	m.delivery = hist("delivery_duration_seconds", "From the publisher's gateway to the outbox of a client, by wall clocks, QoS 1 and 2.").WithLabelValues()
}

// begin makes the series of the rare events, so that whoever asks for an increase sees the first one.
func (m *metrics) begin() {
	for v, labels := range map[*prometheus.CounterVec][]string{
		m.takeovers: {"local", "remote"},
		m.rejected:  {"auth", "client_id", "limit", "malformed", "network", "pending", "refused", "timeout", "unavailable"},
		m.refused:   {"denied", "disk_low", "inbox_full", "no_leader", "rate_limited", "retained_full", "too_large"},
	} {
		for _, l := range labels {
			v.WithLabelValues(l)
		}
	}
	for k := closeClient; k <= closePanic; k++ {
		m.closed.WithLabelValues(k.String())
	}
}

// typeLabel is the packet type in lower case.
func typeLabel(t mqtt.Type) string {
	b := []byte(t.String())
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

func seconds(d time.Duration) float64 { return d.Seconds() }
