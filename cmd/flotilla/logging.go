package main

import (
	"io"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// maxPerSecond is how many lines an event may have in a second.
const maxPerSecond = 20

// newLogger writes a JSON object per line (ts level event msg node ...), or
// lines for people.
func newLogger(w io.Writer, level, format string) (*zap.Logger, *logLevels, error) {
	l, err := zapcore.ParseLevel(level)
	if err != nil {
		return nil, nil, usagef("log level %q: use debug, info, warn or error", level)
	}
	levels := newLogLevels(l)
	enc := zap.NewProductionEncoderConfig()
	enc.TimeKey, enc.CallerKey, enc.StacktraceKey = "ts", "", "stack"
	enc.EncodeTime = zapcore.TimeEncoderOfLayout("2006-01-02T15:04:05.000Z07:00")
	enc.EncodeDuration = zapcore.StringDurationEncoder
	encoder := zapcore.NewJSONEncoder(enc)
	if format == "console" {
		enc.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
		enc.EncodeLevel = zapcore.CapitalLevelEncoder
		enc.ConsoleSeparator = " "
		encoder = zapcore.NewConsoleEncoder(enc)
	}
	sink := zapcore.Lock(zapcore.AddSync(w))
	core := &limitedCore{Core: zapcore.NewCore(encoder, sink, levels), levels: levels, limit: &limiter{seen: map[string]*window{}, now: time.Now}}
	return zap.New(core, zap.AddStacktrace(zapcore.DPanicLevel)), levels, nil
}

// logFormat decides what auto means.
func logFormat(format string, w io.Writer) string {
	if format != "auto" {
		return format
	}
	if terminal(w) {
		return "console"
	}
	return "json"
}

// limitedCore lets an event through a limited number of times a second, and
// gives the error field the name that log readers know.
type limitedCore struct {
	zapcore.Core
	levels *logLevels
	limit  *limiter
	event  string // set by With
}

var _ zapcore.Core = (*limitedCore)(nil)

// With keeps the event that all lines of a logger have in common.
func (c *limitedCore) With(fields []zapcore.Field) zapcore.Core {
	event := c.event
	if e := eventOf(fields); e != "" {
		event = e
	}
	return &limitedCore{Core: c.Core.With(renamed(fields)), levels: c.levels, limit: c.limit, event: event}
}

// Check adds this core instead of the wrapped one.
func (c *limitedCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	c.levels.saw(e.LoggerName)
	if c.levels.enabled(e.LoggerName, e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

// Write drops a line above the limit; the next line that passes says how many.
func (c *limitedCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	key := eventOf(fields)
	if key == "" {
		key = c.event
	}
	if key == "" {
		key = e.Message
	}
	pass, suppressed := c.limit.allow(key)
	if !pass {
		return nil
	}
	fields = renamed(fields)
	if suppressed > 0 {
		fields = append(fields[:len(fields):len(fields)], zap.Int("suppressed", suppressed))
	}
	return c.Core.Write(e, fields)
}

func eventOf(fields []zapcore.Field) string {
	for _, f := range fields {
		if f.Key == "event" && f.Type == zapcore.StringType {
			return f.String
		}
	}
	return ""
}

// renamed calls zap's "error" field "err".
func renamed(fields []zapcore.Field) []zapcore.Field {
	for i := range fields {
		if fields[i].Key == "error" {
			out := append([]zapcore.Field(nil), fields...)
			for j := i; j < len(out); j++ {
				if out[j].Key == "error" {
					out[j].Key = "err"
				}
			}
			return out
		}
	}
	return fields
}

// limiter counts lines per event and second.
type limiter struct {
	mu sync.Mutex
	// Under mu:
	seen map[string]*window
	now  func() time.Time
}

type window struct {
	began             time.Time
	lines, suppressed int
}

// maxEvents bounds the table: events are few, messages without one may not be.
const maxEvents = 1000

func (l *limiter) allow(key string) (pass bool, suppressed int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	w := l.seen[key]
	if w == nil {
		if len(l.seen) >= maxEvents {
			clear(l.seen)
		}
		w = &window{began: now}
		l.seen[key] = w
	}
	if now.Sub(w.began) >= time.Second {
		suppressed = w.suppressed
		*w = window{began: now}
	}
	if w.lines >= maxPerSecond {
		w.suppressed++
		return false, 0
	}
	w.lines++
	return true, suppressed
}
