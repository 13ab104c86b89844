package cluster

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
)

// How a change of a setting takes effect.
const (
	// ChangesLive: everywhere, at once.
	ChangesLive = "live"
	// ChangesConnections: for clients that connect from now on.
	ChangesConnections = "new_connections"
	// ChangesNever: it was decided when the cluster was formed.
	ChangesNever = "never"
)

// settingKind says what a value looks like.
type settingKind byte

const (
	kindNumber  settingKind = iota + 1
	kindBytes               // 1MiB
	kindSeconds             // 30d, stored in seconds
	kindMillis              // 500ms, stored in milliseconds
	kindBool
	kindWord // one of Words
)

func (k settingKind) String() string {
	switch k {
	case kindBytes:
		return "size"
	case kindSeconds, kindMillis:
		return "time"
	case kindBool:
		return "bool"
	case kindWord:
		return "word"
	default:
		return "number"
	}
}

// settingDef is a cluster setting. Name is its key below settings in the configuration
// file, Key the one in the control group.
type settingDef struct {
	name, key string
	kind      settingKind
	min, max  uint64
	words     []string
	changes   string
	shard     bool // the machines of the shards decide by it
	help      string
}

// settingDefs are all cluster settings in the order in which they are listed.
func settingDefs() []settingDef {
	return []settingDef{
		{name: "shards", kind: kindNumber, changes: ChangesNever, help: "number of shards"},
		{name: "replicas", kind: kindNumber, changes: ChangesNever, help: "replicas of each shard"},
		{name: "lease.renew", key: keyLeaseRenew, kind: kindMillis, changes: ChangesNever, help: "interval of lease renewals"},
		{name: "lease.lost_after", key: keyLeaseLost, kind: kindMillis, changes: ChangesNever, help: "how long a lease lasts without renewal"},
		{name: "mqtt.max_packet_size", key: keyMaxPacket, kind: kindBytes, min: 1024, max: 256 << 20, changes: ChangesConnections, help: "larger packets close the connection"},
		{name: "mqtt.max_qos", key: keyMaxQoS, kind: kindNumber, max: 2, changes: ChangesConnections, help: "highest QoS of a publish"},
		{name: "mqtt.retain_available", key: keyRetain, kind: kindBool, changes: ChangesConnections, help: "retained messages are accepted"},
		{name: "mqtt.receive_maximum", key: keyReceiveMax, kind: kindNumber, min: 1, max: 65535, changes: ChangesConnections, help: "QoS 1 and 2 publishes that a client may have under way"},
		{name: "mqtt.topic_alias_maximum", key: keyAliases, kind: kindNumber, max: 65535, changes: ChangesConnections, help: "topic aliases of a client"},
		{name: "mqtt.max_keepalive", key: keyKeepAliveS, kind: kindSeconds, max: 65535, changes: ChangesConnections, help: "told to MQTT 5 clients as Server Keep Alive; 0 is no limit"},
		{name: "mqtt.max_topic_bytes", key: keyTopicBytes, kind: kindNumber, min: 1, max: 65535, changes: ChangesConnections, help: "longest topic"},
		{name: "mqtt.max_topic_levels", key: keyTopicLevels, kind: kindNumber, min: 1, max: 65535, changes: ChangesConnections, help: "deepest topic"},
		{name: "mqtt.max_subscriptions", key: keyMaxSubscriptions, kind: kindNumber, min: 1, max: 1 << 30, changes: ChangesLive, shard: true, help: "filters of one session"},
		{name: "mqtt.max_session_expiry", key: keySessionExpiryS, kind: kindSeconds, max: command.NeverExpires, changes: ChangesConnections, shard: true, help: "cap of the session expiry"},
		{name: "inbox.max_messages", key: keyInboxMessages, kind: kindNumber, min: 1, max: math.MaxInt32, changes: ChangesLive, shard: true, help: "messages in one inbox"},
		{name: "inbox.max_bytes", key: keyInboxBytes, kind: kindBytes, min: 1024, max: 1 << 40, changes: ChangesLive, shard: true, help: "bytes in one inbox"},
		{name: "inbox.overflow", key: keyInboxOverflow, kind: kindWord, words: []string{"refuse", "drop_oldest", "end_session"}, changes: ChangesLive, shard: true, help: "what a full inbox does"},
		{name: "inbox.qos0_offline", key: keyInboxQoS0Offline, kind: kindBool, changes: ChangesLive, shard: true, help: "QoS 0 messages are queued for sessions that are offline"},
		{name: "retained.max_messages", key: keyRetainedMax, kind: kindNumber, max: 1 << 40, changes: ChangesLive, shard: true, help: "retained messages of a tenant; 0 is no limit"},
		{name: "retained.max_payload", key: keyRetainedPayload, kind: kindBytes, max: 256 << 20, changes: ChangesLive, shard: true, help: "largest retained payload; 0 is no limit"},
		{name: "retained.expiry", key: keyRetainedExpiryS, kind: kindSeconds, max: command.NeverExpires, changes: ChangesLive, shard: true, help: "lifetime of retained messages that are stored from now on; 0 is for ever"},
		{name: "share.strategy", key: keyShareStrategy, kind: kindWord, words: []string{"round_robin", "sticky", "hash_topic"}, changes: ChangesLive, shard: true, help: "how the members of a share are chosen"},
	}
}

func settingNamed(name string) (settingDef, bool) {
	for _, d := range settingDefs() {
		if d.name == name {
			return d, true
		}
	}
	return settingDef{}, false
}

// settingOf is the setting that has a key in the control group, an empty one if this program does not know it.
func settingOf(key string) settingDef {
	for _, d := range settingDefs() {
		if d.key == key && key != "" {
			return d
		}
	}
	return settingDef{}
}

// parse turns what a user wrote into what is stored.
func (d *settingDef) parse(s string) (string, error) {
	var n uint64
	var err error
	switch d.kind {
	case kindBool:
		if s != "true" && s != "false" {
			return "", fmt.Errorf("%q is not true or false", s)
		}
		return s, nil
	case kindWord:
		if !slices.Contains(d.words, s) {
			return "", fmt.Errorf("%q is not one of %s", s, strings.Join(d.words, ", "))
		}
		return s, nil
	case kindBytes:
		n, err = parseBytes(s)
	case kindSeconds:
		var t time.Duration
		if t, err = parseTime(s); err == nil && t%time.Second != 0 {
			err = fmt.Errorf("%q is not a whole number of seconds", s)
		}
		n = uint64(t / time.Second)
	default:
		if n, err = strconv.ParseUint(s, 10, 63); err != nil {
			err = fmt.Errorf("%q is not a number", s)
		}
	}
	if err != nil {
		return "", err
	}
	if n < d.min || n > d.max {
		return "", fmt.Errorf("%s is out of range: use %s to %s", s, d.format(strconv.FormatUint(d.min, 10)), d.format(strconv.FormatUint(d.max, 10)))
	}
	return strconv.FormatUint(n, 10), nil
}

// format is the inverse of parse, in the largest unit that fits.
func (d *settingDef) format(stored string) string {
	n, err := strconv.ParseUint(stored, 10, 63)
	if err != nil {
		return stored
	}
	units := []settingUnit{{"", 1}}
	switch d.kind {
	case kindBytes:
		units = byteUnits()
	case kindSeconds:
		units = timeUnits()[:4]
	case kindMillis:
		units = timeUnits()
	}
	for _, u := range units {
		size := u.size
		if d.kind == kindSeconds {
			size /= uint64(time.Second)
		} else if d.kind == kindMillis {
			size /= uint64(time.Millisecond)
		}
		if n > 0 && n%size == 0 {
			return strconv.FormatUint(n/size, 10) + u.name
		}
	}
	return stored
}

type settingUnit struct {
	name string
	size uint64
}

func byteUnits() []settingUnit {
	return []settingUnit{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"", 1}}
}

func timeUnits() []settingUnit {
	return []settingUnit{{"d", uint64(24 * time.Hour)}, {"h", uint64(time.Hour)}, {"m", uint64(time.Minute)}, {"s", uint64(time.Second)}, {"ms", uint64(time.Millisecond)}}
}

func parseBytes(s string) (uint64, error) {
	for _, u := range byteUnits() {
		if num, ok := strings.CutSuffix(s, u.name); ok {
			n, err := strconv.ParseUint(num, 10, 50)
			if err != nil || u.size > 1 && n > math.MaxInt64/u.size {
				break
			}
			return n * u.size, nil
		}
	}
	return 0, fmt.Errorf("%q is not a size: write a number of bytes, or one with KiB, MiB or GiB", s)
}

func parseTime(s string) (time.Duration, error) {
	if s == "0" {
		return 0, nil
	}
	if num, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.ParseUint(num, 10, 32); err == nil && n < 100*365 {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	}
	t, err := time.ParseDuration(s)
	if err != nil || t < 0 || strings.ContainsAny(s, "+-nµ") {
		return 0, fmt.Errorf("%q is not a time: write a number with ms, s, m, h or d, for example 30d", s)
	}
	return t, nil
}
