package cluster

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
	"github.com/flotilla-mqtt/flotilla/session"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// LimitsConfig protects a node from running out of memory and disk.
type LimitsConfig struct {
	// MemoryHigh is the memory in bytes above which publishers are not read and
	// new clients refused. 0 (default): no limit.
	MemoryHigh int64
	// DiskFreeMin is the free space in bytes below which publishes that would
	// be stored are refused. 0 (default): no limit.
	DiskFreeMin int64
	// MemoryUsed and DiskFree measure; nil for those of this process and of the
	// file system of DataDir.
	MemoryUsed func(high int64) int64
	DiskFree   func() (int64, error)
}

// Reasons why a publish or a part of it is turned away, as labels of
// publish_refused_total and messages_dropped_total.
const (
	reasonInboxFull    = "inbox_full"
	reasonRetainedFull = "retained_full"
	reasonDiskLow      = "disk_low"
	reasonTooLarge     = "too_large"
	reasonExpired      = "expired"
	reasonSessionEnded = "session_ended"
)

// limits decides before anything is proposed whether this node may take a
// message or a client. What is asked for every message are atomic loads.
type limits struct {
	n   *Node
	met *limitMetrics

	memory   alarm
	disk     alarm
	peers    peerAlarms
	diskLow  atomic.Bool // here or on another node that stores
	retained retainedLimit
	drops    dropBook

	// qos0Offline: QoS 0 messages are queued for sessions that are offline.
	qos0Offline atomic.Bool

	mu   sync.Mutex
	open chan struct{} // guarded by mu: closed while publishers may go on
}

func newLimits(n *Node) *limits {
	l := &limits{n: n, met: newLimitMetrics(n.cfg.Registerer), open: make(chan struct{})}
	close(l.open)
	l.memory.name, l.disk.name = alarmMemory, alarmDisk
	l.drops.seen = map[uint32]dropMark{}
	return l
}

// start takes the settings of the cluster and begins to watch.
func (l *limits) start() {
	l.follow(l.n.control.view())
	l.look(time.Now())
	l.n.spawn(l.watch)
}

// follow takes over what the control group says.
func (l *limits) follow(v *state.ControlView) {
	l.retained.set(v)
	l.qos0Offline.Store(v.Settings[keyInboxQoS0Offline] == "true")
}

// admitClient refuses new clients while the memory is short.
func (l *limits) admitClient() error {
	if !l.memory.active.Load() {
		return nil
	}
	return session.ErrRefused(mqtt.QuotaExceeded, "the node is short of memory")
}

// verdict is what becomes of a publish.
type verdict struct {
	// code refuses a publish of QoS 1 or 2, with reason.
	code   mqtt.ReasonCode
	reason string
	// unstored: deliver the message, but do not retain it.
	unstored bool
	// err ends the wait for memory.
	err error
}

// refused answers a publish that goes no further.
func (v *verdict) refused(done func(session.Outcome)) bool {
	if v.code == 0 && v.err == nil {
		return false
	}
	if done != nil {
		done(session.Outcome{Code: v.code, Reason: v.reason, Err: v.err})
	}
	return true
}

// judge decides about a publish of a client. It waits while the memory is
// short, which keeps the reader of the connection from taking more in.
func (l *limits) judge(ctx context.Context, tenant string, m *command.Message) verdict {
	if l.memory.active.Load() {
		if err := l.wait(ctx); err != nil {
			return verdict{err: err}
		}
	}
	if m.QoS == 0 && !m.Retain {
		return verdict{}
	}
	if l.diskLow.Load() {
		return l.refuse(m, reasonDiskLow)
	}
	if m.Retain && len(m.Payload) > 0 {
		if reason := l.retained.lack(l.n, tenant, m); reason != "" {
			return l.refuse(m, reason)
		}
	}
	return verdict{}
}

// refuse turns QoS 1 and 2 away. QoS 0 has no answer: it is delivered to who is
// there, and what is lost, the retained copy, is counted.
func (l *limits) refuse(m *command.Message, reason string) verdict {
	if m.QoS > 0 {
		return verdict{code: mqtt.QuotaExceeded, reason: reason}
	}
	l.n.countDropped(reason, 1)
	return verdict{unstored: true}
}

// wait returns when the memory is no longer short.
func (l *limits) wait(ctx context.Context) error {
	l.met.paused.Inc()
	defer l.met.paused.Dec()
	l.mu.Lock()
	open := l.open
	l.mu.Unlock()
	select {
	case <-open:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-l.n.ctx.Done():
		return context.Cause(l.n.ctx)
	}
}

// pause opens or shuts the way of publishers.
func (l *limits) pause(on bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.open:
		if on {
			l.open = make(chan struct{})
		}
	default:
		if !on {
			close(l.open)
		}
	}
}

const (
	// memoryEvery and diskEvery are how often the two are looked at: memory can
	// be gone in seconds, a disk takes longer.
	memoryEvery = 250 * time.Millisecond
	diskEvery   = time.Second
	// diskTellEvery is how often other nodes are told of a disk that is still
	// full, diskTellFor how long they believe it.
	diskTellEvery = 5 * time.Second
	diskTellFor   = 3 * diskTellEvery
)

// watch looks at memory and disk until the node stops.
func (l *limits) watch() {
	tick := time.NewTicker(memoryEvery)
	defer tick.Stop()
	view := l.n.control.view()
	for {
		select {
		case <-l.n.ctx.Done():
			l.pause(false)
			return
		case <-tick.C:
		}
		if v := l.n.control.view(); v != view {
			view = v
			l.follow(v)
		}
		l.look(time.Now())
	}
}

func (l *limits) look(now time.Time) {
	l.lookAtMemory(now)
	if now.Sub(l.disk.looked) < diskEvery {
		return
	}
	l.disk.looked = now
	l.lookAtDisk(now)
	l.retained.refresh(l.n)
	l.n.countStateDrops()
	for _, led := range l.n.ledShards() {
		l.n.sys.met.behind(led)
	}
}

func (l *limits) lookAtMemory(now time.Time) {
	high := l.n.cfg.Limits.MemoryHigh
	if high <= 0 {
		return
	}
	measure := l.n.cfg.Limits.MemoryUsed
	if measure == nil {
		measure = l.memory.meter.used
	}
	used := measure(high)
	// The alarm ends a tenth below the mark, so that it does not flap.
	if l.memory.set(used > high, used < high-high/10, now) {
		l.pause(l.memory.active.Load())
		l.report(&l.memory, fmt.Sprintf("%s of memory are in use, the high watermark is %s: publishers are not read, new clients refused", mebibytes(used), mebibytes(high)))
	}
}

func (l *limits) lookAtDisk(now time.Time) {
	least := l.n.cfg.Limits.DiskFreeMin
	free, err := l.diskFree()
	if err == nil {
		l.disk.level.Store(free)
		if least > 0 && l.disk.set(free < least, free >= least+least/10, now) {
			l.report(&l.disk, fmt.Sprintf("%s are free on the disk, disk_free_min is %s: publishes that would be stored are refused", mebibytes(free), mebibytes(least)))
		}
	}
	if hasRole(l.n.cfg.Roles, RoleStore) {
		l.tell(now)
	}
	l.diskLow.Store(l.disk.active.Load() || l.peers.any(now))
}

func mebibytes(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

// report logs a change of an alarm and shows it in the metrics.
func (l *limits) report(a *alarm, detail string) {
	on := a.active.Load()
	l.met.alarm(a.name, on)
	if !on {
		a.detail.Store(nil)
		l.n.lg.Info("alarm is over: "+a.name, zap.String("event", "alarm.cleared"), zap.String("alarm", a.name))
		return
	}
	a.detail.Store(&detail)
	l.n.lg.Warn("alarm: "+detail, zap.String("event", "alarm.raised"), zap.String("alarm", a.name))
}

// countDropped counts messages that did not reach a session.
func (n *Node) countDropped(reason string, k int) { n.server.CountDropped(reason, k) }
