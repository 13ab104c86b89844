package session

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// Config configures the broker core of a node. Begin with DefaultConfig.
type Config struct {
	// ConnectTimeout bounds the time from accept to CONNECT, TLS included.
	// Default 10 s.
	ConnectTimeout time.Duration
	// BackendTimeout bounds what CONNECT asks of the cluster and of the
	// authentication hooks; past it the client gets 0x88 or 3. Default 5 s.
	BackendTimeout time.Duration
	// SubscribeTimeout bounds SUBSCRIBE and UNSUBSCRIBE, which wait for every
	// gateway or the end of its lease. Past it the connection closes. Default 15 s.
	SubscribeTimeout time.Duration
	// WriteTimeout closes a connection whose peer takes no byte for so long.
	// Default 20 s.
	WriteTimeout time.Duration
	// CloseTimeout bounds the last words to a client. Default 1 s.
	CloseTimeout time.Duration

	// MaxConnections refuses clients above it with 0x97 or 3. 0 = no limit (default).
	MaxConnections int
	// PendingConnects is the number of handshakes under way. The ports hold to
	// it; here further connections are closed at twice the number. Default 1,000.
	PendingConnects int

	// MaxPacketSize in bytes, announced to v5 clients. Default 1 MiB.
	MaxPacketSize uint32
	// MaxQoS is the highest QoS of a publish. Default 2.
	MaxQoS byte
	// RetainAvailable allows retained messages. Default true.
	RetainAvailable bool
	// SharedAvailable allows shared subscriptions. Default true.
	SharedAvailable bool
	// WildcardAvailable and SubscriptionIDsAvailable allow those of SUBSCRIBE.
	// Without them it is refused with 0xA2 or 0xA1. Default true.
	WildcardAvailable, SubscriptionIDsAvailable bool
	// ResponsePrefix, the client id and a slash are the Response Information of
	// a v5 client that asks for it; empty for none. Default "response/".
	ResponsePrefix string
	// ReceiveMaximum is how many QoS 1 and 2 publishes a v5 client may have
	// unacknowledged; one more is answered with 0x93. Default 64.
	ReceiveMaximum uint16
	// PublishWindow is how many publishes of a 3.x client may wait for the
	// cluster before its reader waits, too. Default 1,024.
	PublishWindow int
	// MaxAwaitingRelease is how many inbound QoS 2 packet ids a 3.x client may
	// hold open; one more closes the connection. Default 1,024.
	MaxAwaitingRelease int
	// TopicAliasMaximum is the number of aliases in each direction. Default 32.
	TopicAliasMaximum uint16
	// MaxKeepAlive is told to v5 clients that ask for more or for none.
	// 0 = no limit. Default 1 h.
	MaxKeepAlive time.Duration
	// MaxTopicBytes, MaxTopicLevels, MaxFilters, MaxUserProperties and
	// MaxPropertyBytes bound one packet. Defaults 1,024, 128, 64, 64, 8 KiB.
	MaxTopicBytes, MaxTopicLevels, MaxFilters, MaxUserProperties, MaxPropertyBytes int
	// MaxSubscriptions of one session. Default 10,000.
	MaxSubscriptions int
	// MaxSessionExpiry caps the session expiry of every version; sessions of
	// 3.x clients without Clean Session get it. Default 30 days.
	MaxSessionExpiry time.Duration
	// MaxClientIDBytes of a client id. Default 256.
	MaxClientIDBytes int

	// ClientMessages and ClientBytes are how many PUBLISH packets and bytes of
	// them one client may send per second; above it is not read. Default 0 = no limit.
	ClientMessages, ClientBytes float64

	// OutboxBytes is how many bytes may wait for one client before QoS 0
	// messages are dropped, pulls stop and its own requests wait. As much again
	// may be on its way. Default 1 MiB.
	OutboxBytes int
	// QueueMessages and QueueBytes bound the QoS 1 and 2 messages that wait
	// for a session without an inbox. Above them the client is slow; above
	// them for SlowTimeout, or above twice of them, it is disconnected.
	// Defaults 10,000, 16 MiB, 5 s.
	QueueMessages, QueueBytes int
	SlowTimeout               time.Duration

	// Authenticator decides who a client is. Default AllowAll.
	Authenticator Authenticator
	// Authorizer decides what a client may do. Default AllowAll.
	Authorizer Authorizer
	// EnhancedAuth serves the authentication methods of MQTT 5. Default nil:
	// all are refused with 0x8C.
	EnhancedAuth EnhancedAuth
	// Events gets every event of a client or its session, with the fields of its line in
	// the log, whatever the log leaves out. It must not block, nor keep fields. Default nil.
	Events func(name string, fields []zap.Field)
	// Redirect names another server for v5 clients that are sent away by a
	// drain: they get 0x9C and the name, in CONNACK and DISCONNECT. It must not
	// block. Default nil, and an empty name, is none: 0x88 and 0x98.
	Redirect func() string
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{
		ConnectTimeout: 10 * time.Second, BackendTimeout: 5 * time.Second, SubscribeTimeout: 15 * time.Second,
		WriteTimeout: 20 * time.Second, CloseTimeout: time.Second,
		PendingConnects: 1000,
		MaxPacketSize:   1 << 20, MaxQoS: 2, RetainAvailable: true, SharedAvailable: true,
		WildcardAvailable: true, SubscriptionIDsAvailable: true, ResponsePrefix: "response/",
		ReceiveMaximum: 64, PublishWindow: 1024,
		MaxAwaitingRelease: 1024, TopicAliasMaximum: 32, MaxKeepAlive: time.Hour,
		MaxTopicBytes: 1024, MaxTopicLevels: 128, MaxFilters: 64, MaxUserProperties: 64, MaxPropertyBytes: 8 << 10,
		MaxSubscriptions: 10000, MaxSessionExpiry: 30 * 24 * time.Hour, MaxClientIDBytes: 256,
		OutboxBytes: 1 << 20, QueueMessages: 10000, QueueBytes: 16 << 20, SlowTimeout: 5 * time.Second,
		Authenticator: AllowAll{}, Authorizer: AllowAll{},
	}
}

// Validate checks every field. Its errors wrap ErrConfig.
func (c *Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: "+format, append([]any{ErrConfig}, args...)...))
	}
	for _, d := range []struct {
		name string
		v    time.Duration
	}{
		{"connect_timeout", c.ConnectTimeout}, {"backend_timeout", c.BackendTimeout},
		{"subscribe_timeout", c.SubscribeTimeout}, {"write_timeout", c.WriteTimeout},
		{"close_timeout", c.CloseTimeout}, {"slow_timeout", c.SlowTimeout},
	} {
		if d.v <= 0 {
			bad("%s is %v: it must be positive", d.name, d.v)
		}
	}
	for _, n := range []struct {
		name string
		v    int
	}{
		{"pending_connects", c.PendingConnects}, {"publish_window", c.PublishWindow},
		{"max_awaiting_release", c.MaxAwaitingRelease}, {"max_topic_bytes", c.MaxTopicBytes},
		{"max_topic_levels", c.MaxTopicLevels}, {"max_filters", c.MaxFilters},
		{"max_user_properties", c.MaxUserProperties}, {"max_property_bytes", c.MaxPropertyBytes},
		{"max_subscriptions", c.MaxSubscriptions}, {"max_client_id_bytes", c.MaxClientIDBytes},
		{"outbox_bytes", c.OutboxBytes}, {"queue_messages", c.QueueMessages}, {"queue_bytes", c.QueueBytes},
		{"receive_maximum", int(c.ReceiveMaximum)},
	} {
		if n.v < 1 {
			bad("%s is %d: it must be at least 1", n.name, n.v)
		}
	}
	if c.MaxQoS > 2 {
		bad("max_qos is %d: it must be 0, 1 or 2", c.MaxQoS)
	}
	if c.MaxPacketSize < 1024 || c.MaxPacketSize > mqtt.MaxRemaining {
		bad("max_packet_size is %d: it must be 1 KiB to 256 MiB", c.MaxPacketSize)
	}
	if c.MaxKeepAlive < 0 || c.MaxKeepAlive > 65535*time.Second {
		bad("max_keepalive is %v: it must be 0 to 65535s", c.MaxKeepAlive)
	}
	if c.MaxSessionExpiry < 0 || c.MaxSessionExpiry > 0xFFFFFFFF*time.Second {
		bad("max_session_expiry is %v: it must be 0 to 136 years", c.MaxSessionExpiry)
	}
	if strings.ContainsAny(c.ResponsePrefix, "+#\x00$") || len(c.ResponsePrefix) > c.MaxTopicBytes/2 {
		bad("response_prefix is %q: it must be the beginning of a topic", c.ResponsePrefix)
	}
	if !(c.ClientMessages >= 0) || !(c.ClientBytes >= 0) {
		bad("client rates are %v messages and %v bytes: they must not be negative", c.ClientMessages, c.ClientBytes)
	}
	if c.MaxConnections < 0 {
		bad("connections is %d: it must not be negative", c.MaxConnections)
	}
	return errors.Join(errs...)
}
