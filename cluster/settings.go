package cluster

import (
	"strconv"
	"time"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
)

// Keys of cluster settings in the control group: those of the configuration
// file below settings.
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
)

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

// shardSettings are what a shard's machine starts with. They come from the
// control group, which every replica reads as it was when the cluster was
// formed: they are the same everywhere.
func shardSettings(v *state.ControlView) command.ShardSettings {
	num := func(key string) uint64 {
		u, _ := strconv.ParseUint(v.Settings[key], 10, 64) // absent means unlimited
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
		InboxQoS0Offline:    v.Settings[keyInboxQoS0Offline] == "true",
		ShareStrategy:       command.ShareRoundRobin,
	}
	switch v.Settings[keyShareStrategy] {
	case command.ShareSticky.String():
		s.ShareStrategy = command.ShareSticky
	case command.ShareHashTopic.String():
		s.ShareStrategy = command.ShareHashTopic
	}
	switch v.Settings[keyInboxOverflow] {
	case command.OverflowDropOldest.String():
		s.InboxOverflow = command.OverflowDropOldest
	case command.OverflowEndSession.String():
		s.InboxOverflow = command.OverflowEndSession
	}
	return s
}

// formedPrefix begins the keys that keep the value which a setting had when the cluster
// was formed, once it was changed: the machines of the shards begin with that one, on
// every replica and for ever, because the log that they replay begins there, too.
const formedPrefix = "formed."
