package transport

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// Reasons for which a port turns a connection away before anybody owns it.
const (
	reasonTimeout       = "timeout"        // the handshake deadline came first
	reasonGone          = "gone"           // closed by the other side before its first bytes
	reasonTLS           = "tls"            // the TLS handshake failed
	reasonUnexpectedTLS = "unexpected_tls" // TLS on a port without it
	reasonFirstByte     = "first_byte"     // neither of the protocols of the port
	reasonPreamble      = "preamble"       // malformed preamble
	reasonTooMany       = "too_many"       // connection limit
	reasonHTTP          = "http"           // an HTTP request that is no WebSocket upgrade to MQTT
	reasonOwner         = "not_accepted"   // nobody accepted it
)

// portMetrics are the metrics of one port.
type portMetrics struct {
	// pending is the number of connections in their handshake.
	pending prometheus.Gauge
	// accepted counts connections handed to their owner, by what they carry.
	accepted *prometheus.CounterVec
	// rejected counts connections turned away before they had an owner.
	rejected *prometheus.CounterVec
}

// newPortMetrics makes the metrics of the port with this name. Several ports
// may share a registerer.
func newPortMetrics(reg prometheus.Registerer, listener string) *portMetrics {
	pending := register(reg, prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "flotilla_listener_pending", Help: "Connections in their handshake, by listener.",
	}, []string{"listener"}))
	accepted := register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "flotilla_listener_accepted_total", Help: "Connections handed over after their handshake, by listener and transport.",
	}, []string{"listener", "transport"}))
	rejected := register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "flotilla_listener_rejected_total", Help: "Connections turned away in their handshake, by listener and reason.",
	}, []string{"listener", "reason"}))
	l := prometheus.Labels{"listener": listener}
	return &portMetrics{pending: pending.With(l), accepted: accepted.MustCurryWith(l), rejected: rejected.MustCurryWith(l)}
}

// register registers c, or returns the collector that another port registered.
func register[C prometheus.Collector](reg prometheus.Registerer, c C) C {
	if reg == nil {
		return c
	}
	if err := reg.Register(c); err != nil {
		var are prometheus.AlreadyRegisteredError
		if errors.As(err, &are) {
			if old, ok := are.ExistingCollector.(C); ok {
				return old
			}
		}
	}
	return c
}

func (m *portMetrics) reject(reason string)    { m.rejected.WithLabelValues(reason).Inc() }
func (m *portMetrics) accept(transport string) { m.accepted.WithLabelValues(transport).Inc() }

// reasonOf is reason, unless the deadline was what ended the connection.
func reasonOf(t *tracked, reason string) string {
	if t.expired() {
		return reasonTimeout
	}
	return reason
}
