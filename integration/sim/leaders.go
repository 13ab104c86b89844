package sim

import (
	"sync"

	"go.uber.org/zap/zapcore"
)

// leaders holds I21's first rule, one leader per term and group, by what nodes log when their leadership begins: that is
// before a leader does anything for others.
type leaders struct {
	w *World

	mu   sync.Mutex
	seen map[term]string // guarded by mu
	last map[int64]term  // guarded by mu: highest term by group
}

type term struct{ group, term int64 }

func newLeaders(w *World) *leaders {
	return &leaders{w: w, seen: map[term]string{}, last: map[int64]term{}}
}

// latest is the node that began to lead a group last, nil if none did.
func (l *leaders) latest(group int64) *machine {
	l.mu.Lock()
	node := l.seen[l.last[group]]
	l.mu.Unlock()
	for _, m := range l.w.nodes {
		if m.id == node {
			return m
		}
	}
	return nil
}

// core taps a logger.
func (l *leaders) core(next zapcore.Core) zapcore.Core { return leaderCore{Core: next, l: l} }

func (l *leaders) leads(node string, at term) {
	l.mu.Lock()
	first, seen := l.seen[at]
	if !seen {
		l.seen[at] = node
	}
	if at.term > l.last[at.group].term {
		l.last[at.group] = at
	}
	l.mu.Unlock()
	if seen && first != node {
		l.w.Failf("I21: group %d has two leaders in term %d: %s and %s", at.group, at.term, first, node)
	}
}

// leaderCore sees the entries of one node.
type leaderCore struct {
	zapcore.Core
	l    *leaders
	node string
}

// Enabled implements zapcore.Core: leadership is logged at Debug.
func (c leaderCore) Enabled(zapcore.Level) bool { return true }

// With implements zapcore.Core.
func (c leaderCore) With(fields []zapcore.Field) zapcore.Core {
	node := c.node
	for _, f := range fields {
		if f.Key == "node" {
			node = f.String
		}
	}
	return leaderCore{Core: c.Core.With(fields), l: c.l, node: node}
}

// Check implements zapcore.Core.
func (c leaderCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if leadership(e.Message) || c.Core.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

// Write implements zapcore.Core.
func (c leaderCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	if leadership(e.Message) {
		var at term
		for _, f := range fields {
			switch f.Key {
			case "group":
				at.group = f.Integer
			case "term":
				at.term = f.Integer
			}
		}
		c.l.leads(c.node, at)
	}
	if c.Core.Enabled(e.Level) {
		return c.Core.Write(e, fields)
	}
	return nil
}

func leadership(message string) bool {
	return message == "leads a shard" || message == "leads the control group"
}
