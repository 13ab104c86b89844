package session

import (
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// eventsPerSecond is how many lines a second one event may have.
const eventsPerSecond = 20

// event is a stable name in the log.
type event string

// The log events of this room.
const (
	evConnected    event = "client.connected"
	evDisconnected event = "client.disconnected"
	evRejected     event = "client.rejected"
	evTakeover     event = "client.takeover"
	evKicked       event = "client.kicked"
	evCreated      event = "session.created"
	evResumed      event = "session.resumed"
	evDropped      event = "message.dropped"
	evPanic        event = "client.panic"
	evDrainBegin   event = "server.drain_begin"
	evDrainEnd     event = "server.drain_end"
)

// events writes log lines with a limit per event.
type events struct {
	lg  *zap.Logger
	tap func(name string, fields []zap.Field) // may be nil

	mu    sync.Mutex
	quota map[event]*eventQuota // guarded by mu
}

type eventQuota struct {
	second     int64
	lines      int
	suppressed int
}

func newEvents(lg *zap.Logger) *events {
	if lg == nil {
		lg = zap.NewNop()
	}
	return &events{lg: lg.Named("session"), quota: make(map[event]*eventQuota)}
}

// log writes a line, unless the event has had its lines of this second; the
// next line of a later second tells how many were left out.
func (e *events) log(level zapcore.Level, ev event, msg string, fields ...zap.Field) {
	if e.tap != nil {
		e.tap(string(ev), fields)
	}
	if !e.lg.Core().Enabled(level) {
		return
	}
	suppressed, ok := e.allow(ev, time.Now().Unix())
	if !ok {
		return
	}
	fields = append(fields, zap.String("event", string(ev)))
	if suppressed > 0 {
		fields = append(fields, zap.Int("suppressed", suppressed))
	}
	e.lg.Log(level, msg, fields...)
}

func (e *events) allow(ev event, second int64) (suppressed int, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	q := e.quota[ev]
	if q == nil {
		q = &eventQuota{}
		e.quota[ev] = q
	}
	if q.second != second {
		suppressed = q.suppressed
		*q = eventQuota{second: second}
	}
	if q.lines >= eventsPerSecond {
		q.suppressed++
		return 0, false
	}
	q.lines++
	return suppressed, true
}
