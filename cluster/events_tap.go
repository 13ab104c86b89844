package cluster

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// eventTap reads along in the log of this node: what has a stable event name there and
// is no decision of the control group becomes an event.
type eventTap struct {
	ev     *events
	fields []zapcore.Field // of With
}

var _ zapcore.Core = (*eventTap)(nil)

// tapLog lets the events see what a logger gets, whatever its level.
func (ev *events) tapLog(lg *zap.Logger) *zap.Logger {
	return lg.WithOptions(zap.WrapCore(func(c zapcore.Core) zapcore.Core { return zapcore.NewTee(c, &eventTap{ev: ev}) }))
}

// Enabled implements zapcore.Core. Details are no events: they would make every room
// write down what nobody reads.
func (t *eventTap) Enabled(l zapcore.Level) bool { return l >= zapcore.InfoLevel }

// With implements zapcore.Core.
func (t *eventTap) With(fields []zapcore.Field) zapcore.Core {
	return &eventTap{ev: t.ev, fields: append(slices.Clone(t.fields), fields...)}
}

// Check implements zapcore.Core.
func (t *eventTap) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if t.Enabled(e.Level) {
		return ce.AddCore(e, t)
	}
	return ce
}

// Sync implements zapcore.Core.
func (t *eventTap) Sync() error { return nil }

// Write implements zapcore.Core.
func (t *eventTap) Write(e zapcore.Entry, fields []zapcore.Field) error {
	name := ""
	for i := range fields {
		if fields[i].Key == "event" {
			name = fields[i].String
		}
	}
	if !tapped(name) {
		return nil
	}
	out := Event{Type: name, At: e.Time, Message: e.Message}
	out.take(t.fields, true)
	out.take(fields, true)
	t.ev.add(&out)
	return nil
}

// tapped tells whether a name of the log becomes an event here. Clients and sessions
// come by Config.Events of the session server, before the limits of the log; what the
// control group decided comes from its own log, once on every node.
func tapped(name string) bool {
	switch kind, _, _ := strings.Cut(name, "."); kind {
	case "lease", "alarm", "guard", "listener", "server", "storage", "tls", "config":
	case "raft":
		if name == "raft.replica_added" {
			return false
		}
	case "node":
		return name == "node.joined"
	default:
		return false
	}
	_, known := eventTypes()[name]
	return known
}

// sessionEvent takes an event of a client or its session. It allocates nothing.
func (ev *events) sessionEvent(name string, fields []zap.Field) {
	switch name {
	case "client.connected", "client.disconnected", "client.rejected", "client.takeover", "client.kicked", "session.created", "session.resumed":
	default:
		return
	}
	e := Event{Type: name}
	e.take(fields, false)
	ev.add(&e)
}

// take fills an event from the fields of a line of the log; all keeps those too that
// have no place of their own.
func (e *Event) take(fields []zap.Field, all bool) {
	for i := range fields {
		f := &fields[i]
		switch f.Key {
		case "event", "node", "data_dir":
		case "client":
			e.Client = f.String
		case "user":
			e.User = shortUser(f.String)
		case "listener":
			e.Listener = f.String
		case "reason":
			e.Reason = f.String
		case "op":
			if all {
				e.Operation = f.String
			} else {
				e.Reason = f.String // where a takeover came from
			}
		case "term":
			e.Term = uint64(f.Integer)
		case "group":
			group := uint32(f.Integer)
			if all {
				e.Group = &group
			}
		case "peer":
			if s, ok := f.Interface.(fmt.Stringer); ok {
				e.peer = s
			} else {
				e.Peer = f.String
			}
		default:
			if all {
				e.put(f)
			}
		}
	}
}

// maxEventUser bounds a user name in an event. Where anybody may come in, a client may name itself with 64 KiB: a ring
// of those would hold hundreds of megabytes, and a page of them would be more than a frame between nodes may carry.
const maxEventUser = 256

// shortUser is a user name as an event keeps it, cut between two characters.
func shortUser(name string) string {
	if len(name) <= maxEventUser {
		return name
	}
	n := maxEventUser - len("…")
	for n > 0 && !utf8.RuneStart(name[n]) {
		n--
	}
	return name[:n] + "…"
}

func (e *Event) put(f *zap.Field) {
	enc := zapcore.NewMapObjectEncoder()
	f.AddTo(enc)
	for k, v := range enc.Fields {
		if e.Data == nil {
			e.Data = map[string]any{}
		}
		if k == "error" {
			k = "err"
		}
		e.Data[k] = v
	}
}
