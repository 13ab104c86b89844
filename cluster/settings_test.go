package cluster

import (
	"testing"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
)

// TestSettingsAreWhatTheFileHas: every key that a cluster is formed with is in the table,
// and its value round-trips in the units that people write.
func TestSettingsAreWhatTheFileHas(t *testing.T) {
	cfg := DefaultConfig()
	byKey := map[string]settingDef{}
	for _, d := range settingDefs() {
		byKey[d.key] = d
	}
	for _, s := range cfg.settings() {
		d, ok := byKey[s.Key]
		if !ok {
			t.Errorf("%s is not in the table", s.Key)
			continue
		}
		if d.changes == ChangesNever {
			continue
		}
		if back, err := d.parse(d.format(s.Value)); err != nil || back != s.Value {
			t.Errorf("%s: %s reads %s, then %s, %v", d.name, s.Value, d.format(s.Value), back, err)
		}
	}
	for name, want := range map[string]string{"mqtt.max_packet_size": "1MiB", "mqtt.max_session_expiry": "30d", "mqtt.max_keepalive": "1h", "retained.expiry": "0"} {
		d, _ := settingNamed(name)
		for _, s := range cfg.settings() {
			if s.Key == d.key && d.format(s.Value) != want {
				t.Errorf("%s is %s, want %s", name, d.format(s.Value), want)
			}
		}
	}
}

func TestSettingsRefuse(t *testing.T) {
	for name, values := range map[string][]string{
		"mqtt.max_qos":            {"3", "-1", "x", "", "1.5"},
		"mqtt.max_packet_size":    {"1", "512", "257MiB", "1MB", "18446744073709551615GiB"},
		"mqtt.max_keepalive":      {"1d", "1500ms", "-1s", "soon", "65536s"},
		"mqtt.retain_available":   {"yes", "1", ""},
		"inbox.overflow":          {"drop", ""},
		"mqtt.receive_maximum":    {"0", "65536"},
		"mqtt.max_session_expiry": {"200000d"},
		"nothing":                 {"1"},
		"shards":                  {"9"},
		"lease.lost_after":        {"10s"},
	} {
		for _, v := range values {
			if _, _, err := checkSetting(name, v); err == nil {
				t.Errorf("%s=%s was taken", name, v)
			}
		}
	}
	if _, stored, err := checkSetting("settings.mqtt.max_keepalive", "2m"); err != nil || stored != "120" {
		t.Errorf("with its section: %s, %v", stored, err)
	}
}

// TestShardsBeginWithWhatTheClusterWasFormedWith: a replica that is made after a change
// replays the log from its beginning, and must decide as the others did then.
func TestShardsBeginWithWhatTheClusterWasFormedWith(t *testing.T) {
	v := &state.ControlView{Settings: map[string]string{keyInboxMessages: "100", keyInboxOverflow: "refuse", keyShareStrategy: "sticky"}}
	formed := formedSettings(v)
	if formed != currentSettings(v) || formed.InboxMaxMessages != 100 || formed.ShareStrategy != command.ShareSticky {
		t.Fatalf("unchanged: %+v", formed)
	}
	changed := &state.ControlView{Settings: map[string]string{
		keyInboxMessages: "7", formedPrefix + keyInboxMessages: "100", keyInboxOverflow: "drop_oldest", formedPrefix + keyInboxOverflow: "refuse", keyShareStrategy: "sticky",
		keyMaxSubscriptions: "5", formedPrefix + keyMaxSubscriptions: formedAbsent,
	}}
	if got := formedSettings(changed); got != formed {
		t.Errorf("a shard would begin with %+v instead of %+v", got, formed)
	}
	if got := currentSettings(changed); got.InboxMaxMessages != 7 || got.InboxOverflow != command.OverflowDropOldest || got.MaxSubscriptions != 5 {
		t.Errorf("now: %+v", got)
	}
}

// TestRestoredSettingsKeepWhatWasFormed: a backup brings the settings of another cluster. What this one was formed with
// stays: the machines of the shards have begun with it, and leases are counted by it.
func TestRestoredSettingsKeepWhatWasFormed(t *testing.T) {
	set := func(key, value string) []byte {
		return command.AppendSet(nil, &command.Set{Setting: command.Setting{Key: key, Value: value}})
	}
	v := &state.ControlView{Settings: map[string]string{
		keyInboxMessages: "100", keyInboxOverflow: "drop_oldest", formedPrefix + keyInboxOverflow: "refuse", keyMaxQoS: "2", keyLeaseLost: "5000", keyShareStrategy: "sticky",
	}}
	formed := formedSettings(v)
	key := command.AppendPutAPIKey(nil, &command.PutAPIKey{Key: command.APIKey{ID: "k"}})
	keys := 0
	for _, cmd := range settingsHere(v, [][]byte{
		set(formedPrefix+keyInboxMessages, "1"), set(formedPrefix+keyInboxOverflow, "end_session"), set(keyInboxMessages, "7"), set(keyInboxOverflow, "end_session"),
		set(keyMaxSubscriptions, "9"), set(keyMaxQoS, "1"), set(keyLeaseLost, "60000"), set(keyLeaseRenew, "10000"), set(keyShareStrategy, "sticky"), set("of.a.newer.release", "x"), key,
	}) {
		if s, ok := asSetting(cmd); ok {
			v.Settings[s.Key] = s.Value
		} else {
			keys++
		}
	}
	if got := formedSettings(v); got != formed {
		t.Errorf("a replica that is made now would begin with %+v, the others began with %+v", got, formed)
	}
	if got := currentSettings(v); got.InboxMaxMessages != 7 || got.InboxOverflow != command.OverflowEndSession || got.MaxSubscriptions != 9 {
		t.Errorf("the shards' settings did not come back: %+v", got)
	}
	for key, want := range map[string]string{keyLeaseLost: "5000", keyLeaseRenew: "", keyMaxQoS: "1", "of.a.newer.release": "x", formedPrefix + keyShareStrategy: ""} {
		if v.Settings[key] != want {
			t.Errorf("%s is %q, want %q", key, v.Settings[key], want)
		}
	}
	if keys != 1 {
		t.Errorf("%d API keys came back, want 1", keys)
	}
}
