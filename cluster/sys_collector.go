package cluster

import (
	"runtime"
	"runtime/debug"
)

// nodeStates are all values of the label of node_state.
func nodeStates() []string {
	return []string{"joining", "ready", "draining", "drained", "down", "removing"}
}

// node reports what concerns this process rather than its shards.
func (c *stateCollector) node(gauge func(name string, v float64, labels ...string)) {
	n := c.n
	state := "joining"
	if rec := n.control.view().Nodes[n.id]; rec != nil && n.serving.Load() {
		state = rec.Status()
	}
	for _, s := range nodeStates() {
		v := 0.0
		if s == state {
			v = 1
		}
		gauge("node_state", v, s)
	}
	if free := n.limits.disk.level.Load(); free > 0 {
		gauge("disk_free_bytes", float64(free))
	}
	gauge("build_info", 1, n.cfg.Version, buildCommit(), runtime.Version())
}

// buildCommit is the revision that the program was built from, "" if unknown.
func buildCommit() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return ""
}
