package api

import "github.com/prometheus/client_golang/prometheus"

// metrics are those of the admin API.
type metrics struct {
	auth *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		auth: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "flotilla_api_auth_total", Help: "Authentications at the admin API, by what was presented and how it ended.",
		}, []string{"backend", "result"}),
	}
	if reg != nil {
		reg.MustRegister(m.auth)
	}
	return m
}
