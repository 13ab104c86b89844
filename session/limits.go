package session

import (
	"time"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// Limits are what clients are told and held to. They are settings of the cluster and may
// change while the server runs: a connection keeps those that it began with.
type Limits struct {
	MaxPacketSize                                   uint32
	MaxQoS                                          byte
	RetainAvailable                                 bool
	ReceiveMaximum, TopicAliasMaximum               uint16
	MaxKeepAlive, MaxSessionExpiry                  time.Duration
	MaxTopicBytes, MaxTopicLevels, MaxSubscriptions int

	packet mqtt.Limits // what the codec holds a client to
}

// limits are those of the configuration.
func (c *Config) limits() Limits {
	return Limits{
		MaxPacketSize: c.MaxPacketSize, MaxQoS: c.MaxQoS, RetainAvailable: c.RetainAvailable,
		ReceiveMaximum: c.ReceiveMaximum, TopicAliasMaximum: c.TopicAliasMaximum,
		MaxKeepAlive: c.MaxKeepAlive, MaxSessionExpiry: c.MaxSessionExpiry,
		MaxTopicBytes: c.MaxTopicBytes, MaxTopicLevels: c.MaxTopicLevels, MaxSubscriptions: c.MaxSubscriptions,
	}
}

// SetLimits sets the limits of connections that begin from now on.
func (s *Server) SetLimits(l Limits) {
	l.packet = mqtt.DefaultLimits()
	l.packet.MaxPacketSize = l.MaxPacketSize
	l.packet.MaxUserProperties, l.packet.MaxPropertyBytes = s.cfg.MaxUserProperties, s.cfg.MaxPropertyBytes
	l.packet.MaxTopicBytes, l.packet.MaxTopicLevels, l.packet.MaxFilters = l.MaxTopicBytes, l.MaxTopicLevels, s.cfg.MaxFilters
	s.limits.Store(&l)
}

// Limits are those of connections that begin now.
func (s *Server) Limits() Limits { return *s.limits.Load() }

// ListenerConnections counts the connections with a session by the name of their port.
func (s *Server) ListenerConnections() map[string]int {
	out := map[string]int{}
	for _, c := range s.reg.all() {
		out[c.meta.Listener]++
	}
	return out
}
