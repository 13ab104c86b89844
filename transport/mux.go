package transport

import (
	"errors"
	"io"
	"net"

	"github.com/soheilhy/cmux"
)

// firstMQTT is the first byte of every CONNECT packet: type 1, flags 0.
const firstMQTT = 0x10

// firstTLS is the first byte of a TLS handshake record: seen in clear it means
// that a client uses TLS on a port without.
const firstTLS = 0x16

// matchMQTT matches a CONNECT packet by its first byte.
func matchMQTT(r io.Reader) bool {
	b, ok := firstByte(r)
	return ok && b == firstMQTT
}

// httpMethod begins every WebSocket upgrade. Other methods have nothing to look
// for here, and 'P' may as well be a PUBREC.
const httpMethod = "GET "

// matchHTTP matches a request line that may be an upgrade.
func matchHTTP(r io.Reader) bool { return matchText(r, httpMethod) }

// matchText matches what begins with text. The first byte that differs decides.
func matchText(r io.Reader, text string) bool {
	for i := range len(text) {
		if b, ok := firstByte(r); !ok || b != text[i] {
			return false
		}
	}
	return true
}

// matchProxy1 and matchProxy2 match PROXY headers where none may be: of a
// stranger, or on a port without the PROXY protocol.
func matchProxy1(r io.Reader) bool { return matchText(r, proxySign1) }

func matchProxy2(r io.Reader) bool { return matchText(r, proxySign2[:2]) }

func firstByte(r io.Reader) (byte, bool) {
	var b [1]byte
	_, err := io.ReadFull(r, b[:])
	return b[0], err == nil
}

// matchPreamble returns a matcher for the preambles of some kinds: the first
// byte alone decides about strangers, so that they are not waited for.
func matchPreamble(kinds ...Kind) cmux.Matcher {
	return func(r io.Reader) bool {
		first, ok := firstByte(r)
		if !ok || first != magic[0] {
			return false
		}
		var rest [3]byte
		if _, err := io.ReadFull(r, rest[:]); err != nil || rest[0] != magic[1] || rest[1] != magic[2] {
			return false
		}
		for _, k := range kinds {
			if rest[2] == byte(k) {
				return true
			}
		}
		return false
	}
}

// mux is cmux on top of an intake.
type mux struct {
	in  *intake
	cm  cmux.CMux
	bad net.Listener // what no matcher wanted
}

func newMux(in *intake) *mux {
	cm := cmux.New(in)
	// cmux waits for ever without it (soheilhy/cmux #55). The deadline that
	// counts is the intake's: it began at the accept and ends at the hand-over.
	cm.SetReadTimeout(in.timeout)
	// What no matcher wanted comes to mux.bad; the only error left is the
	// closed intake, and that one stops Serve.
	cm.HandleError(func(err error) bool { return !errors.Is(err, net.ErrClosed) })
	return &mux{in: in, cm: cm}
}

// start serves. All Match calls must be done.
func (m *mux) start() {
	m.bad = m.cm.Match(cmux.Any()) // last: in order of registration
	m.in.wg.Go(func() { _ = m.cm.Serve() })
	m.each(m.bad, func(c *cmux.MuxConn, t *tracked) {
		// Never blocks: a byte is buffered, or the source fails at once.
		m.in.reject(t, reasonOf(t, rejectReason(c)), nil)
		t.kill()
	})
	m.in.start()
}

// each calls fn, on one goroutine, with every connection of a matched
// listener, until the port is closed.
func (m *mux) each(l net.Listener, fn func(*cmux.MuxConn, *tracked)) {
	m.in.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mc, t := unwrap(c)
			fn(mc, t)
		}
	})
}

// unwrap takes apart what a matched listener returns: reads go to the MuxConn,
// which holds the sniffed bytes; writes go to the connection itself.
func unwrap(c net.Conn) (*cmux.MuxConn, *tracked) {
	mc := c.(*cmux.MuxConn)
	return mc, mc.Conn.(*tracked)
}

// rejectReason names the first byte of a connection that nobody wanted.
func rejectReason(r io.Reader) string {
	switch b, ok := firstByte(r); {
	case !ok:
		return reasonGone
	case b == firstTLS:
		return reasonUnexpectedTLS
	case b == magic[0]:
		return reasonPreamble
	}
	return reasonFirstByte
}
