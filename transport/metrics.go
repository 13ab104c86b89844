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
	reasonEvicted       = "evicted"        // kept the node waiting while all pending places were taken
	reasonOverrun       = "too_many_bytes" // sent more than is read before CONNECT
	reasonProxyHeader   = "proxy_header"   // a proxy sent no PROXY header, or a malformed one
	reasonPaused        = "paused"         // the owner of the port lets nobody in
	reasonProxyStranger = "proxy_stranger" // a PROXY header from somebody who is no trusted proxy
	reasonNotTLS        = "not_tls"        // something in clear on a port with TLS
	reasonNoCertificate = "no_certificate" // a caller of the cluster port that shows none
	reasonCertificate   = "certificate"    // one whose certificate the cluster's CA did not sign for this use, or which has ended
)

// portMetrics are the metrics of one port.
type portMetrics struct {
	// pending is the number of connections in their handshake.
	pending prometheus.Gauge
	// accepted counts connections handed to their owner, by what they carry.
	accepted *prometheus.CounterVec
	// rejected counts connections turned away before they had an owner.
	rejected *prometheus.CounterVec
	// throttled counts accepts that the connect rate delayed.
	throttled prometheus.Counter
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
	throttled := register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "flotilla_listener_throttled_total", Help: "Accepts that the connect rate delayed, by listener.",
	}, []string{"listener"}))
	l := prometheus.Labels{"listener": listener}
	return &portMetrics{
		pending: pending.With(l), accepted: accepted.MustCurryWith(l), rejected: rejected.MustCurryWith(l), throttled: throttled.With(l),
	}
}

// tlsMetrics are the metrics of the certificates of one port.
type tlsMetrics struct {
	// notAfter is when the first certificate of the chain ends.
	notAfter prometheus.Gauge
	// reloads counts changed files by result: ok, failed.
	reloads *prometheus.CounterVec
}

func newTLSMetrics(reg prometheus.Registerer, listener string) *tlsMetrics {
	notAfter := register(reg, prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "flotilla_tls_certificate_not_after_timestamp_seconds", Help: "When the certificate ends, by listener.",
	}, []string{"listener"}))
	reloads := register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "flotilla_tls_reloads_total", Help: "Changes of the certificate files that were taken over or not, by listener and result.",
	}, []string{"listener", "result"}))
	l := prometheus.Labels{"listener": listener}
	return &tlsMetrics{notAfter: notAfter.With(l), reloads: reloads.MustCurryWith(l)}
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

// reasonOf is reason, unless it was the port that ended the connection.
func reasonOf(t *tracked, reason string) string {
	switch {
	case t.state.Load() == stateExpired:
		return reasonTimeout
	case t.state.Load() == stateEvicted:
		return reasonEvicted
	case t.overrun.Load():
		return reasonOverrun
	}
	return reason
}

// reasonIn returns the reason that an error names, else reason.
func reasonIn(err error, reason string) string {
	var r *rejection
	if errors.As(err, &r) {
		return r.reason
	}
	return reason
}
