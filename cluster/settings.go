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
)

func (s *Settings) encode() []command.Setting {
	return []command.Setting{
		{Key: keyInboxMessages, Value: strconv.Itoa(s.InboxMaxMessages)},
		{Key: keyInboxBytes, Value: strconv.FormatInt(s.InboxMaxBytes, 10)},
		{Key: keyInboxOverflow, Value: s.InboxOverflow},
		{Key: keyRetainedMax, Value: strconv.Itoa(s.RetainedMaxMessages)},
		{Key: keySessionExpiryS, Value: strconv.FormatInt(int64(s.MaxSessionExpiry/time.Second), 10)},
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
	}
	switch v.Settings[keyInboxOverflow] {
	case command.OverflowDropOldest.String():
		s.InboxOverflow = command.OverflowDropOldest
	case command.OverflowEndSession.String():
		s.InboxOverflow = command.OverflowEndSession
	}
	return s
}
