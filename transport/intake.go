package transport

import (
	"errors"
	"net"
	"sync"
	"time"

	"go.uber.org/zap"
)

// Pauses after an accept that failed for want of something (file descriptors).
const (
	acceptPauseMin = 5 * time.Millisecond
	acceptPauseMax = time.Second
)

// intake is a port's root listener as cmux sees it: its Accept returns
// connections that are tracked, have a deadline running, and are past
// everything that must come before the first byte is looked at.
type intake struct {
	root    net.Listener
	timeout time.Duration
	prepare func(*tracked) error // on its own goroutine; nil: nothing to prepare
	adm     *Admission
	// preConnect bounds the bytes that are read before tracked.release. 0: no limit.
	preConnect int64
	// turnedAway is told of every connection that is refused here; nil: nobody is.
	turnedAway func(t *tracked, reason string, cause error)
	conns      *connSet
	ready      chan *tracked
	closed     chan struct{}
	once       sync.Once
	wg         sync.WaitGroup
	metrics    *portMetrics
	lg         *zap.Logger
}

var _ net.Listener = (*intake)(nil)

func newIntake(root net.Listener, timeout time.Duration, adm *Admission, m *portMetrics, lg *zap.Logger) *intake {
	return &intake{
		root: root, timeout: timeout, adm: adm, conns: &connSet{},
		ready: make(chan *tracked), closed: make(chan struct{}),
		metrics: m, lg: lg,
	}
}

// start starts the accept loop.
func (in *intake) start() {
	in.wg.Add(1)
	go func() {
		defer in.wg.Done()
		in.loop()
	}()
}

func (in *intake) loop() {
	pause := acceptPauseMin
	for {
		if d := in.adm.pace(); d > 0 {
			in.metrics.throttled.Inc()
			if !in.wait(d) {
				return
			}
		}
		raw, err := in.root.Accept()
		if err == nil {
			pause = acceptPauseMin
			in.take(raw)
			continue
		}
		if errors.Is(err, net.ErrClosed) || !in.wait(pause) {
			return
		}
		in.lg.Warn("accept failed", zap.Error(err), zap.Duration("pause", pause))
		pause = min(2*pause, acceptPauseMax)
	}
}

// wait pauses; false when the port was closed meanwhile.
func (in *intake) wait(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-in.closed:
		return false
	}
}

// take owns a connection that was just accepted. It waits for a pending place:
// meanwhile the accept queue of the kernel holds the rest.
func (in *intake) take(raw net.Conn) {
	t := newTracked(raw, time.Now().Add(in.timeout), in)
	t.patience.Store(int64(evictPlain))
	if in.prepare != nil {
		t.patience.Store(int64(evictSlow))
	}
	if t.entered = in.adm.enter(); !t.entered {
		in.reject(t, reasonTooMany, nil)
		t.kill()
		return
	}
	t.arm()
	if !in.conns.add(t) || !in.adm.acquire(t, in.closed) {
		t.kill()
		return
	}
	in.metrics.pending.Inc()
	if t.isClosed() { // while it waited for its place
		in.leave(t)
		in.reject(t, reasonOf(t, reasonGone), nil)
		return
	}
	if in.prepare == nil {
		in.pass(t)
		return
	}
	in.wg.Go(func() {
		if err := in.prepare(t); err != nil {
			in.reject(t, reasonOf(t, reasonIn(err, reasonTLS)), err)
			in.lg.Debug("connection not prepared", zap.Stringer("peer", raw.RemoteAddr()), zap.Error(err))
			t.kill()
			return
		}
		in.pass(t)
	})
}

// reject counts a connection that is refused, and tells who wants to know.
func (in *intake) reject(t *tracked, reason string, cause error) {
	in.metrics.reject(reason)
	if in.turnedAway != nil {
		in.turnedAway(t, reason, cause)
	}
}

// leave gives the pending place of a connection back, if it has one.
func (in *intake) leave(t *tracked) {
	if in.adm.leave(t) {
		in.metrics.pending.Dec()
	}
}

// pass gives a connection to cmux.
func (in *intake) pass(t *tracked) {
	select {
	case in.ready <- t:
	case <-in.closed:
		t.kill()
	}
}

// Accept implements net.Listener for cmux.
func (in *intake) Accept() (net.Conn, error) {
	select {
	case t := <-in.ready:
		return t, nil
	case <-in.closed:
		return nil, net.ErrClosed // not temporary: cmux stops
	}
}

// Addr implements net.Listener.
func (in *intake) Addr() net.Addr { return in.root.Addr() }

// Close stops accepting and kills all connections. It does not wait; join does.
func (in *intake) Close() error {
	var err error
	in.once.Do(func() {
		close(in.closed)
		err = in.root.Close()
		in.conns.close()
	})
	return err
}

func (in *intake) join() { in.wg.Wait() }
