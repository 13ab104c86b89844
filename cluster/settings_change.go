package cluster

import (
	"context"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
	"github.com/flotilla-mqtt/flotilla/session"
)

// SettingStatus is a cluster setting as operators see it.
type SettingStatus struct {
	Key     string   `json:"key"`
	Value   string   `json:"value"`
	Kind    string   `json:"kind"`
	Words   []string `json:"words,omitempty"`
	Changes string   `json:"changes"`
	Help    string   `json:"help"`
}

// ClusterSettings are the settings that this node knows.
func (n *Node) ClusterSettings() []SettingStatus {
	v := n.control.view()
	var out []SettingStatus
	for _, d := range settingDefs() {
		out = append(out, d.status(n.storedSetting(v, &d)))
	}
	return out
}

func (d *settingDef) status(stored string) SettingStatus {
	return SettingStatus{Key: d.name, Value: d.format(stored), Kind: d.kind.String(), Words: d.words, Changes: d.changes, Help: d.help}
}

// storedSetting is the value in force. What the cluster was formed without is what each
// node was started with.
func (n *Node) storedSetting(v *state.ControlView, d *settingDef) string {
	switch d.name {
	case "shards":
		return strconv.FormatUint(uint64(v.Shards), 10)
	case "replicas":
		return strconv.FormatUint(uint64(v.Replicas), 10)
	}
	if s, ok := v.Settings[d.key]; ok {
		return s
	}
	for _, s := range n.cfg.settings() {
		if s.Key == d.key {
			return s.Value
		}
	}
	return ""
}

// settingsRequest asks the control leader to change settings.
type settingsRequest struct {
	Values map[string]string `json:"values"`
	DryRun bool              `json:"dry_run,omitempty"`
}

type settingsReply struct {
	Changed []SettingStatus `json:"changed"`
	ruling
}

// ChangeSettings sets cluster settings, all or none, and returns those that change.
// Errors: *GuardError, ErrNoLeader.
func (n *Node) ChangeSettings(ctx context.Context, values map[string]string, dryRun bool) ([]SettingStatus, error) {
	reply, err := decide(ctx, n, querySettings, settingsRequest{Values: values, DryRun: dryRun}, n.control.changeSettings)
	return reply.Changed, err
}

// changeSettings judges and commits on the control leader.
func (c *control) changeSettings(ctx context.Context, req settingsRequest) (settingsReply, error) {
	l, err := c.judging(ctx)
	if err != nil {
		return settingsReply{}, err
	}
	v := c.view()
	changed := []SettingStatus{}
	var cmd []byte
	for _, name := range sortedKeys(req.Values) {
		d, stored, err := checkSetting(name, req.Values[name])
		if err != nil {
			return settingsReply{}, err
		}
		before, existed := v.Settings[d.key]
		if existed && before == stored || !existed && c.n.storedSetting(v, &d) == stored {
			continue
		}
		cmd = d.keepFormed(cmd, v)
		cmd = command.AppendSet(cmd, &command.Set{Setting: command.Setting{Key: d.key, Value: stored}})
		changed = append(changed, d.status(stored))
	}
	if req.DryRun || len(changed) == 0 {
		return settingsReply{Changed: changed}, nil
	}
	// One entry holds them all: half of a change is not what anybody asked for.
	if _, err := l.commit(ctx, cmd); err != nil {
		return settingsReply{}, err
	}
	for i := range changed {
		c.n.lg.Info("setting changes", zap.String("event", "settings.changed"), zap.String("key", changed[i].Key), zap.String("value", changed[i].Value))
	}
	return settingsReply{Changed: changed}, nil
}

// keepFormed appends what keeps the value with which the cluster was formed, if this is the first change of a setting
// that the machines of the shards decide by.
func (d *settingDef) keepFormed(dst []byte, v *state.ControlView) []byte {
	if _, kept := v.Settings[formedPrefix+d.key]; kept || !d.shard {
		return dst
	}
	formed, existed := v.Settings[d.key]
	if !existed {
		formed = formedAbsent
	}
	return command.AppendSet(dst, &command.Set{Setting: command.Setting{Key: formedPrefix + d.key, Value: formed}})
}

func checkSetting(name, value string) (d settingDef, stored string, err error) {
	d, ok := settingNamed(strings.TrimPrefix(name, "settings."))
	switch {
	case !ok:
		return d, "", refuse(GuardInvalid, "there is no setting %q: GET /api/v1/settings lists them (flotilla settings ls)", name)
	case d.changes == ChangesNever:
		return d, "", refuse(GuardConflict, "%s was decided when the cluster was formed and cannot be changed: back the cluster up and restore it into a new one", d.name)
	}
	if stored, err = d.parse(value); err != nil {
		return d, "", refuse(GuardInvalid, "%s: %v", d.name, err)
	}
	return d, stored, nil
}

const (
	// settingsEvery is how often a node looks whether it goes by the settings.
	settingsEvery = 250 * time.Millisecond
	// configureAgain is how long a leader waits before it proposes settings again.
	configureAgain = 2 * time.Second
)

// followSettings brings this node, and the shards that it leads, in line with what the
// control group says.
func (n *Node) followSettings() {
	var viewed *state.ControlView
	asked := map[uint32]time.Time{}
	for sleep(n.ctx, settingsEvery) == nil {
		v := n.control.view()
		if v != viewed {
			viewed = v
			n.server.SetLimits(n.limitsOf(v))
		}
		want := currentSettings(v)
		for _, l := range n.ledShards() {
			if l.mach.Settings() == want || time.Since(asked[l.shard]) < configureAgain {
				continue
			}
			asked[l.shard] = time.Now()
			l.propose(command.AppendConfigure(nil, &command.Configure{Settings: want}))
		}
	}
}

// limitsOf is what clients that connect now are told and held to.
func (n *Node) limitsOf(v *state.ControlView) session.Limits {
	num := func(key string) int64 {
		i, _ := strconv.ParseInt(n.storedSetting(v, &settingDef{key: key}), 10, 64) // the control leader has checked it
		return i
	}
	return session.Limits{
		MaxPacketSize: uint32(num(keyMaxPacket)), MaxQoS: byte(num(keyMaxQoS)), RetainAvailable: n.storedSetting(v, &settingDef{key: keyRetain}) == "true",
		ReceiveMaximum: uint16(num(keyReceiveMax)), TopicAliasMaximum: uint16(num(keyAliases)), MaxKeepAlive: time.Duration(num(keyKeepAliveS)) * time.Second,
		MaxTopicBytes: int(num(keyTopicBytes)), MaxTopicLevels: int(num(keyTopicLevels)), MaxSubscriptions: int(num(keyMaxSubscriptions)),
		MaxSessionExpiry: time.Duration(num(keySessionExpiryS)) * time.Second,
	}
}

// Limits are what clients that connect now are held to.
func (n *Node) Limits() session.Limits { return n.server.Limits() }
