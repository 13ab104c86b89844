package cluster

import (
	"fmt"
	"strconv"
)

// describe adds to a node's status what only the node itself knows.
func (n *Node) describe(s *localStatus) {
	began := n.sys.began.UTC()
	s.StartedAt = &began
	if free := n.limits.disk.level.Load(); free > 0 {
		s.DiskFreeBytes = &free
	}
	var lag, sessions int64
	if g := n.control.group.Load(); g != nil {
		lag += lagOf(g.Status().Commit, g.Status().Applied)
	}
	for _, r := range n.allReplicas() {
		st := r.group.Status()
		lag += lagOf(st.Commit, st.Applied)
	}
	for _, l := range n.ledShards() { // its leader's word counts, so that sums over nodes are right
		st := l.mach.Stats()
		sessions += int64(st.Durable)
	}
	s.LagEntries, s.Sessions = &lag, &sessions
	counters := n.sys.counters()
	s.MessagesReceived, s.MessagesSent = &counters.PublishIn, &counters.PublishOut
	s.Alarms = n.limits.alarms()
	for _, a := range s.Alarms {
		s.Reasons = append(s.Reasons, fmt.Sprintf("node %s: alarm %s: %s", n.id, a.Name, a.Detail))
	}
}

func lagOf(commit, applied uint64) int64 { return int64(commit - min(applied, commit)) }

// alarmChecks show alarms beside the checks of readiness. They are no failures:
// sending subscribers away would keep their inboxes from emptying.
func (n *Node) alarmChecks() []Check {
	var out []Check
	for _, a := range n.limits.alarms() {
		out = append(out, Check{Name: "alarm_" + a.Name, OK: true, Detail: a.Detail})
	}
	return out
}

// SettingsDiffer are the keys of cluster settings, as they stand below settings
// in a file, of which the cluster has another value than this node was started
// with. They have no effect here.
func (n *Node) SettingsDiffer() []string {
	v := n.control.view()
	own := n.cfg.settings()
	var out []string
	for _, d := range settingDefs() {
		for _, s := range own {
			if is, ok := v.Settings[s.Key]; ok && s.Key == d.key && is != s.Value {
				out = append(out, d.name)
			}
		}
	}
	if v.Formed() && strconv.Itoa(n.cfg.Settings.Shards) != strconv.FormatUint(uint64(v.Shards), 10) {
		out = append(out, "shards")
	}
	return out
}
