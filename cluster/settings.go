package cluster

import (
	"strconv"
	"time"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
)

// Keys of cluster settings in the control group: those of the configuration
// file below settings, with the unit where there is one.
const (
	keyInboxMessages  = "inbox.max_messages"
	keyInboxBytes     = "inbox.max_bytes"
	keyInboxOverflow  = "inbox.overflow"
	keyRetainedMax    = "retained.max_messages"
	keySessionExpiryS = "mqtt.max_session_expiry_s"

	keyInboxQoS0Offline = "inbox.qos0_offline"
	keyRetainedPayload  = "retained.max_payload"
	keyRetainedExpiryS  = "retained.expiry_s"
	keyShareStrategy    = "share.strategy"
	keyMaxSubscriptions = "mqtt.max_subscriptions"

	keyMaxPacket   = "mqtt.max_packet_size"
	keyMaxQoS      = "mqtt.max_qos"
	keyRetain      = "mqtt.retain_available"
	keyReceiveMax  = "mqtt.receive_maximum"
	keyAliases     = "mqtt.topic_alias_maximum"
	keyKeepAliveS  = "mqtt.max_keepalive_s"
	keyTopicBytes  = "mqtt.max_topic_bytes"
	keyTopicLevels = "mqtt.max_topic_levels"
	keyLeaseRenew  = "lease.renew_ms"
	keyLeaseLost   = "lease.lost_after_ms"
)

// formedPrefix begins the keys that keep the value which a setting had when the cluster
// was formed, once it was changed: the machines of the shards begin with that one, on
// every replica and for ever, because the log that they replay begins there, too.
const formedPrefix = "formed."

// formedAbsent stands for a setting that the cluster was formed without.
const formedAbsent = "-"

func (s *Settings) encode() []command.Setting {
	return []command.Setting{
		{Key: keyInboxMessages, Value: strconv.Itoa(s.InboxMaxMessages)},
		{Key: keyInboxBytes, Value: strconv.FormatInt(s.InboxMaxBytes, 10)},
		{Key: keyInboxOverflow, Value: s.InboxOverflow},
		{Key: keyRetainedMax, Value: strconv.Itoa(s.RetainedMaxMessages)},
		{Key: keySessionExpiryS, Value: strconv.FormatInt(int64(s.MaxSessionExpiry/time.Second), 10)},
		{Key: keyInboxQoS0Offline, Value: strconv.FormatBool(s.InboxQoS0Offline)},
		{Key: keyRetainedPayload, Value: strconv.FormatInt(s.RetainedMaxPayload, 10)},
		{Key: keyRetainedExpiryS, Value: strconv.FormatInt(int64((s.RetainedExpiry+time.Second-1)/time.Second), 10)},
		{Key: keyShareStrategy, Value: s.ShareStrategy},
		{Key: keyMaxSubscriptions, Value: strconv.Itoa(s.MaxSubscriptions)},
	}
}

// settings are all cluster settings as this node would form a cluster with them.
func (c *Config) settings() []command.Setting {
	m := &c.Session
	num := func(n int64) string { return strconv.FormatInt(n, 10) }
	return append(c.Settings.encode(),
		command.Setting{Key: keyMaxPacket, Value: num(int64(m.MaxPacketSize))},
		command.Setting{Key: keyMaxQoS, Value: num(int64(m.MaxQoS))},
		command.Setting{Key: keyRetain, Value: strconv.FormatBool(m.RetainAvailable)},
		command.Setting{Key: keyReceiveMax, Value: num(int64(m.ReceiveMaximum))},
		command.Setting{Key: keyAliases, Value: num(int64(m.TopicAliasMaximum))},
		command.Setting{Key: keyKeepAliveS, Value: num(int64(m.MaxKeepAlive / time.Second))},
		command.Setting{Key: keyTopicBytes, Value: num(int64(m.MaxTopicBytes))},
		command.Setting{Key: keyTopicLevels, Value: num(int64(m.MaxTopicLevels))},
		command.Setting{Key: keyLeaseRenew, Value: num(c.Lease.Renew.Milliseconds())},
		command.Setting{Key: keyLeaseLost, Value: num(c.Lease.LostAfter.Milliseconds())},
	)
}

// formedSettings are what a shard's machine starts with: the settings as they were when
// the cluster was formed. They are the same on every replica, whenever it is made.
func formedSettings(v *state.ControlView) command.ShardSettings {
	return shardSettings(func(key string) string {
		if formed, ok := v.Settings[formedPrefix+key]; ok {
			return formed
		}
		return v.Settings[key]
	})
}

// currentSettings are what a shard's machine should go by now.
func currentSettings(v *state.ControlView) command.ShardSettings {
	return shardSettings(func(key string) string { return v.Settings[key] })
}

func shardSettings(value func(key string) string) command.ShardSettings {
	num := func(key string) uint64 {
		u, _ := strconv.ParseUint(value(key), 10, 64) // absent means unlimited
		return u
	}
	s := command.ShardSettings{
		InboxMaxMessages:    num(keyInboxMessages),
		InboxMaxBytes:       num(keyInboxBytes),
		InboxOverflow:       command.OverflowRefuse,
		RetainedMaxMessages: num(keyRetainedMax),
		MaxSessionExpiryS:   uint32(min(num(keySessionExpiryS), command.NeverExpires)),
		MaxSubscriptions:    uint32(min(num(keyMaxSubscriptions), 1<<31)),
		RetainedMaxPayload:  uint32(min(num(keyRetainedPayload), 1<<31)),
		RetainedExpiryS:     uint32(min(num(keyRetainedExpiryS), command.NeverExpires)),
		InboxQoS0Offline:    value(keyInboxQoS0Offline) == "true",
		ShareStrategy:       command.ShareRoundRobin,
	}
	switch value(keyShareStrategy) {
	case command.ShareSticky.String():
		s.ShareStrategy = command.ShareSticky
	case command.ShareHashTopic.String():
		s.ShareStrategy = command.ShareHashTopic
	}
	switch value(keyInboxOverflow) {
	case command.OverflowDropOldest.String():
		s.InboxOverflow = command.OverflowDropOldest
	case command.OverflowEndSession.String():
		s.InboxOverflow = command.OverflowEndSession
	}
	return s
}

// millisOf is a setting in milliseconds, or what this node was started with if the
// cluster was formed without it.
func (n *Node) millisOf(key string, own time.Duration) time.Duration {
	ms, err := strconv.ParseInt(n.control.view().Settings[key], 10, 64)
	if err != nil || ms <= 0 {
		return own
	}
	return time.Duration(ms) * time.Millisecond
}

// leaseLength is how long a lease lasts without renewal: for the whole cluster the same,
// whatever stands in a node's file, because the control leader counts by it, too.
func (n *Node) leaseLength() time.Duration { return n.millisOf(keyLeaseLost, n.cfg.Lease.LostAfter) }
