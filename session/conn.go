package session

import (
	"context"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/session/qos"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// Conn is one client connection.
//
// The reader goroutine owns the fields of the first group. What completions,
// fan-out, writer and pump share stands below mu.
type Conn struct {
	srv  *Server
	nc   net.Conn
	vec  vectorWriter // nc, if it writes many buffers at once
	rd   *mqtt.Reader
	id   uint64
	meta Meta
	lim  *Limits // as they were when it began

	// Set by the handshake, constant once the connection is attached.
	version     mqtt.Version
	ident       Identity
	ref         command.SessionRef
	durable     bool // the session outlives the connection
	cleanStart  bool
	problemInfo bool // reason strings are welcome
	expiryS     uint32
	maxPacket   uint32 // the client's Maximum Packet Size, 0 = none
	keepAlive   time.Duration
	keepAliveS  uint16
	connectedAt time.Time
	authMethod  string
	aliases     bool // aliasOut is set
	mIn, mOut   prometheus.Counter

	// Owned by the reader.
	aliasIn *qos.AliasIn
	auth    AuthExchange
	msg     command.Message // scratch of the inbound publish
	filters map[string]struct{}
	// stored are the inbound QoS 2 ids that the cluster keeps for a session
	// that was durable until this connection.
	stored   map[uint16]struct{}
	pend     Ack        // acknowledgements of the client, not yet handed over
	relSlots []qos.Slot // the PUBRELs that wait for pend.Received
	progress bool       // the client has acknowledged something since the last flush
	accepted bool       // it has published with QoS 1 or 2 since then
	inBytes  int
	// What it may publish, see Config.ClientMessages.
	rateMessages, rateBytes bucket

	ctx    context.Context
	cancel context.CancelFunc
	// waitingSince is when the reader began to wait for the client, in ns of
	// Server.now; 0 while it is busy.
	waitingSince atomic.Int64
	closing      atomic.Bool // cause is set

	wheelSlot            int64 // guarded by wheel.mu, as the links
	wheelPrev, wheelNext *Conn
	localFilters         int // guarded by tenantTrie.mu: filters in the trie

	mu sync.Mutex
	// Guarded by mu from here on.
	cause      cause
	out        outbox
	opened     bool // counted as open
	greeted    bool // the CONNACK is in the outbox, or was
	held       bool // it waits there until the session is routable
	writing    bool
	dead       bool // the stream is broken: write nothing more
	linger     bool // last words were written: let the client read them
	helpers    int  // writer and pump, running
	joined     *sync.Cond
	writeUntil time.Time
	writeFn    func()
	room       chan struct{} // wakes the reader that waits for room
	needRoom   bool

	acks qos.AckRing[owed]
	in   *qos.Inbound
	win  *qos.Window
	rels qos.AckRing[release]
	// aliasOut is nil if the client wants no aliases.
	aliasOut *qos.AliasOut
	spread   bool // the connection-scoped packet ids start at their place
	spanned  bool // no packet id is free: the pump waits for an acknowledgement

	queue pending // messages of a session without inbox
	// counted is what this connection adds to inflight_messages.
	counted [dirs]int
	left    bool // it adds nothing any more

	pumping bool
	due     bool   // the inbox may have something at cursor
	cursor  uint64 // the first sequence that was not fetched
	pulls   bool   // there is an inbox: durable, or it was until this CONNECT, or a share
	replays []*replay
	// replaying is what the pump works on; quiet wakes who waits for its end.
	replaying *replay
	quiet     *sync.Cond
}

// owed is an acknowledgement that the client waits for.
type owed struct {
	qos.Ack
	at  int64  // when its packet came, ns of Server.now
	why string // Outcome.Reason
}

// release is a PUBREL that waits for the commit of its PUBREC.
type release struct {
	pid  uint16
	code mqtt.ReasonCode
}

// serve is the reader goroutine.
func (c *Conn) serve() {
	defer c.srv.wg.Done()
	defer func() { _ = c.nc.Close() }() // whatever happens before
	defer c.guard("teardown")
	defer c.teardown()
	defer c.guard("reader")
	defer c.srv.pendingDone(c)
	if !c.aside(c.handshake) {
		return
	}
	c.srv.pendingDone(c)
	c.readLoop()
}

// aside runs what goes deep on a stack of its own, and waits for it. A stack that has grown stays as it is while
// its goroutine waits in a read, and was half of what an idle connection costs.
func (c *Conn) aside(fn func() bool) (ok bool) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer c.guard("reader")
		ok = fn()
	}()
	<-done
	return ok
}

// guard turns a panic into the end of this connection alone.
func (c *Conn) guard(where string) {
	v := recover()
	if v == nil {
		return
	}
	c.srv.m.panics.Inc()
	c.srv.ev.log(zap.ErrorLevel, evPanic, "panic in a connection, it is closed",
		zap.String("where", where), zap.Any("op", v), zap.String("client", c.ident.ClientID), zap.ByteString("stack", debug.Stack()))
	c.close(causeOf(closePanic, "internal error"))
}

// close ends the connection. The first cause wins. It does not block: the
// writer sends what is left and the reader tears down.
func (c *Conn) close(why cause) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closeLocked(why)
}

func (c *Conn) closeLocked(why cause) {
	if c.cause.kind != 0 {
		return
	}
	c.cause = why
	c.closing.Store(true)
	if why.kind == closeTakeover {
		// The new connection gets it all again: nothing more to the old one.
		c.out.discard()
	}
	if why.code.Failed() && c.version == mqtt.V5 && c.greeted && !c.held && !c.dead && why.kind != closeNetwork {
		c.appendDisconnectLocked(why)
		c.linger = true
	}
	if c.version != 0 && (!c.greeted || c.held) {
		c.refusePendingLocked(why)
	}
	if why.kind == closeNetwork || c.held {
		c.dead = true // also: no CONNACK for a session that is lost again
	}
	c.held = false
	c.cancel()
	if c.quiet != nil {
		c.quiet.Broadcast()
	}
	// Neither call blocks. What is being written has to end soon, too.
	_ = c.nc.SetWriteDeadline(time.Now().Add(c.srv.cfg.CloseTimeout))
	c.flushLocked()
}

// startLocked accounts for a writer or pump that is about to run.
func (c *Conn) startLocked() { c.helpers++ }

// ended is deferred by writer and pump.
func (c *Conn) ended() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.helpers--; c.helpers == 0 && c.joined != nil {
		c.joined.Broadcast()
	}
}

// join waits for writer and pump. The connection is closing, so that none
// starts any more once both are gone.
func (c *Conn) join() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.joined == nil {
		c.joined = sync.NewCond(&c.mu)
	}
	for c.helpers > 0 {
		c.joined.Wait()
	}
}

// teardown ends the connection for good. It runs on the reader.
func (c *Conn) teardown() {
	c.close(causeOf(closeNetwork, "connection ended"))
	c.srv.wheel.remove(c)
	attached := c.ref.Epoch != 0
	if attached {
		c.srv.reg.detach(c.ref.SessionKey, c)
		c.srv.local.removeAll(c)
	}
	c.join()
	c.leave(attached)
	c.drainInput()
}

// leave tells the cluster how the connection ended and lets go of what it held.
func (c *Conn) leave(attached bool) {
	c.mu.Lock()
	why := c.cause
	c.acks, c.rels = qos.AckRing[owed]{}, qos.AckRing[release]{}
	sentTo := uint64(0)
	if c.win != nil {
		sentTo = c.win.SentTo()
	}
	c.queue.reset(c.srv.m)
	c.out.discard()
	c.left = true
	c.countInflightLocked()
	c.mu.Unlock()
	if !attached {
		return
	}
	c.flushAcks()
	if why.kind != closeTakeover {
		info := DisconnectInfo{Reason: why.reason(), HasExpiry: why.hasExpiry, ExpiryS: why.expiryS, SentTo: sentTo}
		c.srv.be.Sessions.Disconnect(c.ref, info)
	}
	if c.opened {
		c.srv.closed(c, why)
	}
}

// lingerTime is how long a client may take to read the last words before the
// socket is closed: closing one with unread input resets it, and the words are
// lost with it.
const lingerTime = 200 * time.Millisecond

// drainInput reads and forgets what the client still sends.
func (c *Conn) drainInput() {
	c.mu.Lock()
	linger := c.linger && !c.dead
	c.mu.Unlock()
	if !linger {
		return
	}
	if cw, ok := c.nc.(interface{ CloseWrite() error }); ok {
		_ = cw.CloseWrite()
	}
	_ = c.nc.SetReadDeadline(time.Now().Add(min(lingerTime, c.srv.cfg.CloseTimeout)))
	var buf [512]byte
	for {
		if _, err := c.nc.Read(buf[:]); err != nil {
			return
		}
	}
}

// info describes the connection for operators.
func (c *Conn) info() ClientInfo {
	c.mu.Lock()
	defer c.mu.Unlock()
	ci := ClientInfo{
		Tenant: c.ident.Tenant, ClientID: c.ident.ClientID, Username: c.ident.Username,
		Listener: c.meta.Listener, Transport: c.meta.Transport,
		Version: c.version, CleanStart: c.cleanStart, KeepAliveS: c.keepAliveS, ConnectedAt: c.connectedAt,
		Epoch: c.ref.Epoch, Durable: c.durable, ExpiryS: c.expiryS, OutboxBytes: c.out.bytes,
	}
	if c.meta.Peer != nil {
		ci.Peer = c.meta.Peer.String()
	}
	if c.win != nil {
		ci.Inflight = c.win.Len()
	}
	return ci
}
