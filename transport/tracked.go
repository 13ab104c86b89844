package transport

import (
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// The life of a tracked connection before its owner has it.
const (
	statePending int32 = iota + 1 // in its handshake: the deadline closes it
	stateHanded                   // its owner has it
	stateExpired                  // the deadline came first
	stateEvicted                  // its place went to another client
)

// tracked is a connection that its port can close at any time, whoever has it.
type tracked struct {
	net.Conn // the accepted connection, or the TLS connection on it

	raw      net.Conn // what the network gave us; closing it never blocks
	deadline time.Time
	state    atomic.Int32
	once     sync.Once
	secure   bool     // Conn is TLS
	proxied  net.Addr // the client behind a proxy; nil: raw's

	// Until release, reads are watched: what they cost is limited, and how long
	// they wait is known.
	in       *intake // nil: not accepted, but dialled
	slot     int     // place in Admission.pending plus one; under its lock
	entered  bool    // counted by Admission.enter
	proven   atomic.Bool
	patience atomic.Int64 // ns that the client may keep us waiting once it has sent something
	received atomic.Int64 // bytes
	since    atomic.Int64 // Admission.clock at the begin of the read under way; 0: none
	waited   atomic.Int64 // ns in reads that ended
	overrun  atomic.Bool  // more bytes came than are read before CONNECT

	mu     sync.Mutex
	timer  *time.Timer // closes the connection at the deadline
	closed bool
	undo   []func() // what Close does besides: leave the sets it is in
}

// newTracked begins to track raw. in is nil for a connection that was dialled.
func newTracked(raw net.Conn, deadline time.Time, in *intake) *tracked {
	t := &tracked{Conn: raw, raw: raw, deadline: deadline, in: in}
	t.proven.Store(in == nil)
	t.state.Store(statePending)
	return t
}

// Read implements net.Conn.
func (t *tracked) Read(p []byte) (int, error) {
	if t.secure {
		return t.Conn.Read(p) // TLS, which reads through a watched
	}
	return t.readRaw(p)
}

// readRaw reads from the network.
func (t *tracked) readRaw(p []byte) (int, error) {
	if t.proven.Load() {
		return t.raw.Read(p)
	}
	if most := t.in.preConnect; most > 0 {
		left := most - t.received.Load()
		if left <= 0 && len(p) > 0 {
			t.overrun.Store(true)
			return 0, errOverrun
		}
		p = p[:min(int64(len(p)), left)]
	}
	begin := t.in.adm.clock()
	t.since.Store(begin)
	n, err := t.raw.Read(p)
	t.received.Add(int64(n))
	t.waited.Add(t.in.adm.clock() - begin)
	t.since.Store(0)
	return n, err
}

// watched is the network connection below TLS.
type watched struct {
	net.Conn
	t *tracked
}

func (w watched) Read(p []byte) (int, error) { return w.t.readRaw(p) }

// keptWaiting returns how long the client has kept the node waiting, and
// whether it does right now.
func (t *tracked) keptWaiting(now int64) (time.Duration, bool) {
	since := t.since.Load()
	return time.Duration(t.waited.Load() + now - since), since != 0
}

// release ends the handshake: reads are free, and the pending place is given
// back. It may be called several times.
func (t *tracked) release() {
	t.proven.Store(true)
	if t.in != nil {
		t.in.leave(t)
	}
}

// evict closes the connection for the benefit of another one. Who holds it in
// its handshake counts it; once it has an owner, nobody else would.
func (t *tracked) evict() {
	if !t.state.CompareAndSwap(statePending, stateEvicted) {
		t.in.reject(t, reasonEvicted, nil)
	}
	t.kill()
}

// arm starts the deadline. Whatever the layers above do with read deadlines,
// a connection that nobody took over by then is closed.
func (t *tracked) arm() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.timer = time.AfterFunc(time.Until(t.deadline), func() {
		if t.state.CompareAndSwap(statePending, stateExpired) {
			t.kill()
		}
	})
}

// handOver says that an owner takes the connection. False means that the
// deadline came first: the connection is closed and counted.
func (t *tracked) handOver() bool {
	if !t.state.CompareAndSwap(statePending, stateHanded) {
		return false
	}
	t.disarm()
	return true
}

func (t *tracked) disarm() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.timer != nil {
		t.timer.Stop()
	}
}

// onClose registers what to do when the connection is closed. False means
// that it is closed already; fn was not registered.
func (t *tracked) onClose(fn func()) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	t.undo = append(t.undo, fn)
	return true
}

// finish leaves the sets, gives the slot back, and stops the deadline.
func (t *tracked) finish() {
	t.once.Do(func() {
		t.mu.Lock()
		t.closed = true
		undo := t.undo
		t.undo = nil
		t.mu.Unlock()
		for _, fn := range undo {
			fn()
		}
		t.release()
		t.disarm()
		if t.entered {
			t.in.adm.exit()
		}
	})
}

func (t *tracked) isClosed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.closed
}

// peer is the address of the client, behind a proxy or not.
func (t *tracked) peer() net.Addr {
	if t.proxied != nil {
		return t.proxied
	}
	return t.raw.RemoteAddr()
}

// Close closes the connection. On TLS it says goodbye first, which takes up to
// 5 s if the other side does not read (crypto/tls).
func (t *tracked) Close() error {
	err := t.Conn.Close()
	t.finish()
	return err
}

// kill closes at once and says nothing.
func (t *tracked) kill() {
	_ = t.raw.Close()
	t.finish()
}

// tlsState returns the state of a TLS connection whose handshake is over, else nil.
func (t *tracked) tlsState() *tls.ConnectionState {
	tc, ok := t.Conn.(*tls.Conn)
	if !ok {
		return nil
	}
	s := tc.ConnectionState()
	return &s
}

// connSet is a set of connections that are closed together.
type connSet struct {
	mu     sync.Mutex
	conns  map[*tracked]struct{} // nil once closed
	closed bool
}

// add puts a connection in, and sees to it that it leaves when it is closed.
// False means that the set is closed, or the connection is.
func (s *connSet) add(t *tracked) bool {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return false
	}
	if s.conns == nil {
		s.conns = map[*tracked]struct{}{}
	}
	s.conns[t] = struct{}{}
	s.mu.Unlock()
	if !t.onClose(func() { s.remove(t) }) {
		s.remove(t)
		return false
	}
	return true
}

func (s *connSet) remove(t *tracked) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, t)
}

func (s *connSet) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// close kills all connections, and those that come later are not let in.
func (s *connSet) close() {
	s.mu.Lock()
	all := s.conns
	s.conns, s.closed = nil, true
	s.mu.Unlock()
	for t := range all {
		t.kill()
	}
}
