package peer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
)

// link is the outgoing link to one node. Its goroutine dials when there is
// something to send, writes, and fails what was under way when a connection ends.
type link struct {
	l      *Links
	node   string
	out    *outbox
	count  counters
	ctx    context.Context // ends when the link is dropped or Links closed
	cancel context.CancelFunc

	mu     sync.Mutex
	phase  phase
	calls  map[uint32]call
	nextID uint32
}

type call struct{ done func(resp []byte, err error) }

// phase of an outgoing link.
type phase int

const (
	phaseDown    phase = iota + 1 // frames queue up, the first one makes it dial
	phaseUp                       // frames go out
	phaseBackoff                  // the last attempt failed: frames are refused
	phaseDead                     // dropped or closed
)

func newLink(l *Links, node string) *link {
	k := &link{l: l, node: node, out: newOutbox(l.o.QueueBytes), phase: phaseDown, calls: map[uint32]call{}}
	k.ctx, k.cancel = context.WithCancel(l.ctx)
	return k
}

func (k *link) refusalLocked() error {
	switch k.phase {
	case phaseBackoff:
		return ErrLinkDown
	case phaseDead:
		return errClosedDown
	}
	return nil
}

// send queues a one-way frame.
func (k *link) send(kind Kind, payload []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.refusalLocked(); err != nil {
		return err
	}
	return k.out.add(kind, 0, 0, payload)
}

// call queues a call. If there is an error, done will not be called.
func (k *link) call(kind Kind, payload []byte, done func([]byte, error)) (uint32, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.refusalLocked(); err != nil {
		return 0, err
	}
	id := k.nextID + 1
	for _, used := k.calls[id]; used; _, used = k.calls[id] {
		id++
	}
	if err := k.out.add(kind, flagCall, id, payload); err != nil {
		return 0, err
	}
	k.nextID = id
	k.calls[id] = call{done: done}
	return id, nil
}

// forget gives up a call; its done will not be called any more, if true.
func (k *link) forget(id uint32) bool {
	_, ok := k.takeCall(id)
	return ok
}

func (k *link) takeCall(id uint32) (call, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	c, ok := k.calls[id]
	delete(k.calls, id)
	return c, ok
}

// enter changes the phase, unless the link is dead.
func (k *link) enter(p phase) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.phase != phaseDead {
		k.phase = p
	}
}

func (k *link) up() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.phase == phaseUp
}

// fail drops all that is queued or under way. Frames that are sent from now on
// belong to the next connection.
func (k *link) fail(next phase, err error) {
	k.mu.Lock()
	if k.phase != phaseDead {
		k.phase = next
	}
	calls := k.calls
	k.calls = map[uint32]call{}
	frames := k.out.reset()
	k.mu.Unlock()
	k.count.dropped.Add(uint64(frames))
	for _, id := range slices.Sorted(maps.Keys(calls)) { // in the order of the calls
		calls[id].done(nil, err)
	}
}

// run is the life of the link.
func (k *link) run() {
	defer k.fail(phaseDead, errClosedDown)
	var pause time.Duration
	for {
		select {
		case <-k.out.wake:
		case <-k.ctx.Done():
			return
		}
		if k.out.size() == 0 {
			continue // woken for what a broken connection took with it
		}
		lived := k.connect()
		if k.ctx.Err() != nil {
			return
		}
		if lived {
			pause = 0 // dial again as soon as there is something to send
			continue
		}
		pause = min(max(2*pause, k.l.o.BackoffMin), k.l.o.BackoffMax)
		if !k.rest(pause) {
			return
		}
		k.enter(phaseDown)
	}
}

// connect dials, and uses the connection until it breaks. What was queued or
// under way then is failed. It says whether the connection lived for long
// enough to be worth another one at once. That is asked once: a link that is
// left in phaseBackoff and not rested would refuse frames for ever.
func (k *link) connect() (lived bool) {
	k.count.dials.Add(1)
	began := time.Now()
	conn, err := k.dial()
	if err != nil {
		if k.ctx.Err() != nil {
			return false
		}
		k.l.lg.Debug("dial failed", zap.String("peer", k.node), zap.Error(err))
		k.fail(phaseBackoff, fmt.Errorf("%w: %w", ErrLinkDown, err))
		return false
	}
	err = k.serve(conn)
	k.count.breaks.Add(1)
	lived = time.Since(began) >= k.l.o.BackoffMax
	if k.ctx.Err() != nil {
		return lived
	}
	k.l.lg.Warn("link broke", zap.String("peer", k.node), zap.Error(err))
	next := phaseDown
	if !lived {
		next = phaseBackoff // do not hammer a node that takes connections and drops them
	}
	k.fail(next, fmt.Errorf("%w: %w", ErrLinkDown, err))
	if k.l.o.OnDown != nil {
		k.l.o.OnDown(k.node)
	}
	return lived
}

func (k *link) dial() (net.Conn, error) {
	ctx, cancel := context.WithTimeout(k.ctx, k.l.o.DialTimeout)
	defer cancel()
	if k.node == k.l.self {
		return k.l.dialSelf(), nil
	}
	return k.l.dial(ctx, k.node)
}

// rest waits out a backoff.
func (k *link) rest(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-k.ctx.Done():
		return false
	}
}

// serve uses a connection until it breaks, and says why it did.
func (k *link) serve(conn net.Conn) error {
	defer context.AfterFunc(k.ctx, func() { _ = conn.Close() })()
	w := &wire{conn: conn, out: k.out, limit: k.l.o.DeadAfter, beat: k.l.o.Heartbeat, count: &k.count}
	hello := appendFrame(nil, kindLink, 0, 0, binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, k.l.boot), k.l.dials.Add(1)))
	_ = conn.SetWriteDeadline(time.Now().Add(k.l.o.DeadAfter))
	if _, err := conn.Write(hello); err != nil {
		_ = conn.Close()
		return err
	}
	k.enter(phaseUp)
	k.l.lg.Info("link is up", zap.String("peer", k.node))
	if k.l.o.OnUp != nil {
		k.l.o.OnUp(k.node)
	}
	stop := make(chan struct{})
	var readErr error
	go func() {
		defer close(stop)
		readErr = k.read(w)
		_ = conn.Close() // ends a write that is under way
	}()
	err := w.pump(stop, func() {
		_ = k.out.add(kindPing, 0, 0, binary.BigEndian.AppendUint64(nil, uint64(time.Since(k.l.born))))
	})
	_ = conn.Close()
	<-stop
	if readErr != nil && (err == nil || errors.Is(err, net.ErrClosed)) {
		err = readErr // it came first
	}
	return err
}

// read takes replies until the connection ends.
func (k *link) read(w *wire) error {
	r := newFrameReader(w)
	for {
		h, p, err := r.next()
		if err != nil {
			return err
		}
		k.count.framesReceived.Add(1)
		switch {
		case h.kind == kindPong:
			if len(p) == 8 {
				k.count.rtt.Store(int64(time.Since(k.l.born)) - int64(binary.BigEndian.Uint64(p)))
			}
		case h.flags&flagReply != 0:
			c, ok := k.takeCall(h.id)
			if !ok {
				continue // given up, or replied twice
			}
			if h.flags&flagError != 0 {
				c.done(nil, decodeError(p))
			} else {
				c.done(p, nil)
			}
		default:
			return fmt.Errorf("%w: request of kind %d on an outgoing link", ErrProtocol, h.kind)
		}
	}
}

// decodeError makes an error of the payload of an error reply.
func decodeError(p []byte) error {
	if len(p) == 0 {
		return &RemoteError{}
	}
	switch p[0] {
	case errCodeUnknownKind:
		return ErrUnknownKind
	case errCodeTooLarge:
		return ErrTooLarge
	}
	return &RemoteError{Message: string(p[1:])}
}
