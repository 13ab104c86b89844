package session

import (
	"io"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// flushEvery is after how many packets the acknowledgements of a client that
// never pauses are handed over.
const flushEvery = 128

// readLoop handles packets until the connection closes.
func (c *Conn) readLoop() {
	n := 0
	for {
		if n++; !c.rd.Ready() || n >= flushEvery {
			n = 0
			c.beforeWait()
		}
		p, err := c.next()
		if c.closing.Load() {
			return
		}
		if err != nil {
			c.readFailed(err)
			return
		}
		c.inBytes += c.rd.Size()
		c.srv.m.received[p.Type()&15].Inc()
		if !c.handle(p) {
			return
		}
	}
}

// next returns the next packet. The wheel sees how long that takes.
func (c *Conn) next() (mqtt.Packet, error) {
	if c.rd.Ready() {
		return c.rd.Next()
	}
	c.waitingSince.Store(c.srv.now() + 1)
	p, err := c.rd.Next()
	c.waitingSince.Store(0)
	return p, err
}

// beforeWait hands over what the packets so far have gathered, because the next
// one may be long in coming.
func (c *Conn) beforeWait() {
	if c.inBytes > 0 {
		c.srv.countIn(c, c.inBytes)
		c.inBytes = 0
	}
	c.flushAcks()
	if !c.progress && !c.accepted {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.accepted = false
	if !c.progress {
		c.countInflightLocked()
		return
	}
	c.progress = false
	c.spanned = false
	c.sendQueueLocked()
	c.wantPumpLocked()
	c.flushLocked()
}

// readFailed closes after an error of the stream or of the codec.
func (c *Conn) readFailed(err error) {
	if isProtocol(err) {
		c.close(causeOfInput(err))
		return
	}
	msg := "read: " + err.Error()
	if err == io.EOF {
		msg = "connection closed by the client without DISCONNECT"
	}
	c.close(cause{kind: closeNetwork, msg: msg})
}

// handle handles one packet; false ends the reader.
func (c *Conn) handle(p mqtt.Packet) bool {
	switch p := p.(type) {
	case *mqtt.Publish:
		return c.onPublish(p)
	case *mqtt.Puback:
		return c.onPuback(p.PacketID)
	case *mqtt.Pubrec:
		return c.onPubrec(p.PacketID, p.Code)
	case *mqtt.Pubrel:
		return c.onPubrel(p.PacketID)
	case *mqtt.Pubcomp:
		return c.onPubcomp(p.PacketID)
	case *mqtt.Pingreq:
		return c.reply(&mqtt.Pingresp{})
	case *mqtt.Subscribe:
		return c.aside(func() bool { return c.onSubscribe(p) })
	case *mqtt.Unsubscribe:
		return c.aside(func() bool { return c.onUnsubscribe(p) })
	case *mqtt.Disconnect:
		return c.onDisconnect(p)
	case *mqtt.Auth:
		return c.onAuth(p)
	case *mqtt.Connect: // v311:MQTT-3.1.0-2, v5:MQTT-3.1.0-2
		return c.protocolError("second CONNECT")
	}
	return c.protocolError(p.Type().String() + " is not for a server")
}

func (c *Conn) protocolError(msg string) bool {
	c.close(cause{kind: closeProtocol, code: mqtt.ProtocolError, msg: msg})
	return false
}

// onDisconnect ends the connection as the client asks.
func (c *Conn) onDisconnect(d *mqtt.Disconnect) bool {
	why := cause{kind: closeClient, msg: "DISCONNECT", withWill: d.Code != mqtt.NormalDisconnection}
	if d.HasSessionExpiry && c.version == mqtt.V5 {
		if c.expiryS == 0 && d.SessionExpiry != 0 {
			return c.protocolError("session expiry at DISCONNECT of a session that has none") // v5:MQTT-3.1.2-23, 3.14.2.2.2
		}
		why.hasExpiry = true
		why.expiryS = min(d.SessionExpiry, uint32(c.lim.MaxSessionExpiry.Seconds()))
	}
	c.close(why)
	return false
}
