package session

import (
	"errors"
	"net"
	"os"
	"slices"
	"time"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// vectorWriter is a connection that sends many buffers with one system call.
type vectorWriter interface {
	WriteBuffers(b *net.Buffers) (int64, error)
}

// flushLocked starts the writer if there is something for it.
func (c *Conn) flushLocked() {
	c.countInflightLocked()
	if c.dead && c.cause.kind == 0 {
		c.out.discard() // the reader finishes what has come
		return
	}
	if c.held || c.writing || (!c.out.pending() && c.cause.kind == 0) {
		return
	}
	c.writing = true
	c.startLocked()
	if c.writeFn == nil {
		c.writeFn = c.writeLoop // bound once: a go statement with a receiver allocates each time
	}
	go c.writeFn()
}

// writeLoop is the writer goroutine. What is added while it writes leaves with
// its next write, so acknowledgements and deliveries share system calls.
func (c *Conn) writeLoop() {
	defer c.ended()
	defer c.guard("writer")
	for {
		b, ok := c.takeBatch()
		if !ok {
			return
		}
		err := c.write(&b)
		b.release(c.srv.chunks)
		c.afterWrite(err)
	}
}

// takeBatch returns what is to be written; false ends the writer.
func (c *Conn) takeBatch() (batch, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead || !c.out.pending() {
		c.writing = false
		if c.cause.kind != 0 {
			// The reader is waiting for the client: end that. It closes.
			_ = c.nc.SetReadDeadline(time.Unix(1, 0))
		}
		return batch{}, false
	}
	return c.out.take(), true
}

func (c *Conn) afterWrite(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.srv.countOut(c, c.out.taken)
	c.out.written()
	if err != nil {
		c.dead = true
		c.out.discard()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			c.closeLocked(cause{kind: closeSlow, msg: "client takes nothing", err: err})
			return
		}
		// The client is gone, but what it has sent is still to be read: there
		// may be a DISCONNECT, and then its will must not fire (I15).
		_ = c.nc.SetReadDeadline(time.Now().Add(c.srv.cfg.CloseTimeout))
		return
	}
	if c.out.bytes < c.srv.cfg.OutboxBytes/2 {
		c.roomLocked()
		c.sendQueueLocked()
		c.wantPumpLocked()
	}
}

// write sends a batch. As long as the client takes anything, it may take its
// time.
func (c *Conn) write(b *batch) error {
	for {
		c.armWrite()
		n, err := c.writeOnce(b)
		if err == nil {
			return nil
		}
		if n == 0 || !errors.Is(err, os.ErrDeadlineExceeded) || c.closing.Load() {
			return err
		}
	}
}

// writeOnce writes and removes from b what was written.
func (c *Conn) writeOnce(b *batch) (int64, error) {
	if b.one != nil {
		n, err := c.nc.Write(b.one.b)
		b.one.b = append(b.one.b[:0], b.one.b[n:]...)
		return int64(n), err
	}
	return c.writeMany(b)
}

// writeMany is apart because what it passes on escapes: the common write
// allocates nothing.
func (c *Conn) writeMany(b *batch) (n int64, err error) {
	segs := b.segs
	if c.vec != nil {
		n, err = c.vec.WriteBuffers(&segs)
	} else {
		n, err = segs.WriteTo(c.nc)
	}
	b.segs = segs
	return n, err
}

// armWrite sets the write deadline, between one and one and a half timeouts away,
// so that it does not have to be set for each write.
func (c *Conn) armWrite() {
	t := c.srv.cfg.WriteTimeout
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause.kind != 0 {
		return // close has set the last one
	}
	if c.writeUntil.Sub(now) < t {
		c.writeUntil = now.Add(t + t/2)
		_ = c.nc.SetWriteDeadline(c.writeUntil)
	}
}

// roomLocked wakes the reader that waits for room.
func (c *Conn) roomLocked() {
	if !c.needRoom {
		return
	}
	c.needRoom = false
	select {
	case c.room <- struct{}{}:
	default: // a token is there already: nothing is lost
	}
}

// waitRoom lets the reader wait while too much of its client's own making is
// under way: unacknowledged publishes of 3.x, or answers that it does not read.
// false means that the connection is closing.
func (c *Conn) waitRoom() bool {
	for {
		c.mu.Lock()
		if c.cause.kind != 0 {
			c.mu.Unlock()
			return false
		}
		if c.acks.Len() < c.srv.cfg.PublishWindow && c.out.bytes < c.srv.cfg.OutboxBytes {
			c.mu.Unlock()
			return true
		}
		if c.room == nil {
			c.room = make(chan struct{}, 1)
		}
		c.needRoom = true
		room := c.room
		c.mu.Unlock()
		select {
		case <-room:
		case <-c.ctx.Done():
			return false
		}
	}
}

// reply adds a packet and starts the writer; false means that the connection
// is closing.
func (c *Conn) reply(p mqtt.Packet) bool {
	c.mu.Lock()
	full := false
	if c.cause.kind == 0 {
		c.appendLocked(p)
		c.flushLocked()
		full = c.out.bytes >= c.srv.cfg.OutboxBytes
	}
	c.mu.Unlock()
	return !full || c.waitRoom()
}

// appendLocked encodes a packet into the outbox. What cannot be encoded is a
// bug or a reason string that is too long for the client; the latter is left out
// by the callers.
func (c *Conn) appendLocked(p mqtt.Packet) {
	b := c.out.grow(64)
	n := len(b)
	b, err := mqtt.Append(b, c.version, p)
	if err != nil {
		c.closeLocked(cause{kind: closeRefused, msg: err.Error()})
		return
	}
	if c.maxPacket != 0 && len(b)-n > int(c.maxPacket) {
		// v5:MQTT-3.1.2-24: nothing above the client's limit leaves.
		c.closeLocked(cause{kind: closeRefused, msg: "an answer is larger than the client accepts"})
		return
	}
	c.out.commit(b)
	c.srv.m.sent[p.Type()].Inc()
}

// reasonString returns s if the client wants reasons and it fits.
func (c *Conn) reasonString(s string) string {
	if !c.problemInfo || c.version != mqtt.V5 {
		return ""
	}
	if c.maxPacket != 0 && len(s)+64 > int(c.maxPacket) {
		return ""
	}
	return s
}

func (c *Conn) appendDisconnectLocked(why cause) {
	code := why.code
	if !code.ValidIn(mqtt.TypeDisconnect) {
		code = mqtt.UnspecifiedError
	}
	// A reason string is allowed in DISCONNECT whatever the client asked for.
	d := &mqtt.Disconnect{Code: code, ServerReference: why.server, ReasonString: why.msg}
	if !c.fits(d) { // v5:MQTT-3.14.2-3
		d.ReasonString = ""
	}
	if !c.fits(d) {
		d.ServerReference = ""
	}
	if c.fits(d) {
		c.appendLocked(d)
	}
}

// fits reports whether the client accepts a packet of this size.
func (c *Conn) fits(p mqtt.Packet) bool { // v5:MQTT-3.1.2-24
	if c.maxPacket == 0 {
		return true
	}
	b, err := mqtt.Append(nil, c.version, p)
	return err == nil && len(b) <= int(c.maxPacket)
}

// appendPublishLocked encodes p for this client, with an alias where the client
// takes them. It adds nothing and returns false if p is larger than the client
// accepts. It changes p.
func (c *Conn) appendPublishLocked(p *mqtt.Publish) bool {
	n := mqtt.PublishSize(c.version, p)
	if c.maxPacket != 0 && n > int(c.maxPacket) {
		return false // v5:MQTT-3.1.2-25
	}
	const aliasBytes = 5 // the property, and lengths that may grow by a byte each
	if c.aliasOut != nil && (c.maxPacket == 0 || n+aliasBytes <= int(c.maxPacket)) {
		alias, known := c.aliasOut.Use(p.Topic)
		p.TopicAlias = alias
		if known {
			p.Topic = nil
		}
	}
	b := slices.Grow(c.out.grow(n+aliasBytes), n+aliasBytes)
	c.out.commit(mqtt.AppendPublish(b, c.version, p))
	return true
}
