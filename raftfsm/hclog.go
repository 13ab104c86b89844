package raftfsm

import (
	"fmt"
	"io"
	"log"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

const (
	// raft repeats some lines at each heartbeat while a peer is away: per second and message, this
	// many pass, and then one in logEvery.
	logBurst = 5
	logEvery = 100
)

// hcLogger gives raft's log lines to zap. Everything that raft calls Info is routine here.
type hcLogger struct {
	lg   *zap.Logger
	name string
	args []any
}

var _ hclog.Logger = (*hcLogger)(nil)

func newHCLogger(lg *zap.Logger) *hcLogger {
	lg = lg.WithOptions(zap.WrapCore(func(c zapcore.Core) zapcore.Core {
		return zapcore.NewSamplerWithOptions(c, time.Second, logBurst, logEvery)
	}))
	return &hcLogger{lg: lg, name: "raft"}
}

// Log implements hclog.Logger, as do the methods below.
func (l *hcLogger) Log(level hclog.Level, msg string, args ...any) {
	var to zapcore.Level
	switch level {
	case hclog.Error:
		to = zapcore.WarnLevel // raft reports unreachable peers as errors
	case hclog.Warn:
		to = zapcore.InfoLevel
	default:
		to = zapcore.DebugLevel
	}
	if ce := l.lg.Check(to, msg); ce != nil {
		ce.Write(zapFields(args)...)
	}
}

func zapFields(args []any) []zap.Field {
	fields := make([]zap.Field, 0, len(args)/2+1)
	for i := 0; i < len(args); i += 2 {
		key := fmt.Sprint(args[i])
		if i+1 == len(args) {
			return append(fields, zap.Any("extra", args[i]))
		}
		switch v := args[i+1].(type) {
		case hclog.Format:
			fields = append(fields, zap.String(key, fmt.Sprintf(fmt.Sprint(v[0]), v[1:]...)))
		case error:
			fields = append(fields, zap.NamedError(key, v))
		case fmt.Stringer:
			fields = append(fields, zap.String(key, v.String()))
		default:
			fields = append(fields, zap.Any(key, v))
		}
	}
	return fields
}

func (l *hcLogger) Trace(string, ...any)           {}
func (l *hcLogger) Debug(msg string, args ...any)  { l.Log(hclog.Debug, msg, args...) }
func (l *hcLogger) Info(msg string, args ...any)   { l.Log(hclog.Info, msg, args...) }
func (l *hcLogger) Warn(msg string, args ...any)   { l.Log(hclog.Warn, msg, args...) }
func (l *hcLogger) Error(msg string, args ...any)  { l.Log(hclog.Error, msg, args...) }
func (l *hcLogger) IsTrace() bool                  { return false }
func (l *hcLogger) IsDebug() bool                  { return l.lg.Core().Enabled(zapcore.DebugLevel) }
func (l *hcLogger) IsInfo() bool                   { return l.IsDebug() }
func (l *hcLogger) IsWarn() bool                   { return l.lg.Core().Enabled(zapcore.InfoLevel) }
func (l *hcLogger) IsError() bool                  { return l.lg.Core().Enabled(zapcore.WarnLevel) }
func (l *hcLogger) ImpliedArgs() []any             { return l.args }
func (l *hcLogger) Name() string                   { return l.name }
func (l *hcLogger) ResetNamed(string) hclog.Logger { return l }
func (l *hcLogger) SetLevel(hclog.Level)           {}
func (l *hcLogger) GetLevel() hclog.Level          { return hclog.Debug }

func (l *hcLogger) With(args ...any) hclog.Logger {
	return &hcLogger{lg: l.lg.With(zapFields(args)...), name: l.name, args: append(l.args[:len(l.args):len(l.args)], args...)}
}

func (l *hcLogger) Named(name string) hclog.Logger {
	return &hcLogger{lg: l.lg.Named(name), name: l.name + "." + name, args: l.args}
}

func (l *hcLogger) StandardLogger(*hclog.StandardLoggerOptions) *log.Logger {
	return zap.NewStdLog(l.lg)
}

func (l *hcLogger) StandardWriter(o *hclog.StandardLoggerOptions) io.Writer {
	return l.StandardLogger(o).Writer()
}

func event(name string) zap.Field    { return zap.String("event", name) }
func index(i uint64) zap.Field       { return zap.Uint64("index", i) }
func term(t uint64) zap.Field        { return zap.Uint64("term", t) }
func errField(err error) zap.Field   { return zap.NamedError("err", err) }
func groupField(id uint32) zap.Field { return zap.Uint32("group", id) }
