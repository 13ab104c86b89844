package checker

import "fmt"

// verdict is what a CONNACK may say about the session.
type verdict byte

const (
	mustBeAbsent  verdict = 1
	mustBePresent verdict = 2
	mayBePresent  verdict = 3
)

// sessionModel follows one session id through its connections, in the order of their CONNECTs.
type sessionModel struct {
	state     verdict // of the committed state; 0 is absent
	expiry    uint32
	conn      int32 // the last connection that was answered
	open      bool
	lastClose int64
}

// expirySlack covers that a server may commit a disconnect before the client notices it.
const expirySlack = int64(10e9)

// connect returns what the answer may say, and until when the session that was there surely existed.
func (m *sessionModel) connect(e *Event) (v verdict, surely int64) {
	before := m.before(e)
	surely = forever
	if before == mayBePresent && !m.open && m.expiry != Never {
		surely = m.lastClose
	}
	v = before
	if e.Clean {
		v = mustBeAbsent
	}
	if answered(e) {
		m.state, m.expiry, m.conn, m.open = mustBePresent, e.Expiry, e.Conn, true
		return v, surely
	}
	// Nobody knows whether it was committed.
	switch {
	case e.Expiry == 0 && before != mustBeAbsent, e.Expiry != 0 && before == mustBeAbsent:
		m.state = mayBePresent
	case before == mustBePresent && e.Expiry != m.expiry:
		m.state = mayBePresent
	default:
		m.state = before
	}
	return v, surely
}

// before is what the cluster holds when a CONNECT reaches it.
func (m *sessionModel) before(e *Event) verdict {
	switch {
	case m.state == 0 || m.state == mustBeAbsent || m.state == mustBePresent && m.expiry == 0:
		return mustBeAbsent
	case m.state == mayBePresent || m.open || m.expiry == Never:
		return m.state
	}
	end := e.End
	if end == 0 {
		end = e.T
	}
	life := int64(m.expiry) * 1e9
	if end > m.lastClose+life-min(expirySlack, life/2) {
		return mayBePresent
	}
	return m.state
}

// close notes the end of a connection and tells whether it ended a transient session.
func (m *sessionModel) close(e *Event) (ended bool) {
	if e.Conn != m.conn || !m.open {
		return false
	}
	m.open, m.lastClose = false, e.T
	return m.state == mustBePresent && m.expiry == 0
}

// checkSessions holds I10: the flag in CONNACK is true.
func (x *index) checkSessions(r *Report) {
	for _, c := range x.clients {
		for i, e := range c.conns {
			if !answered(e) {
				continue
			}
			r.Connects++
			switch {
			case c.verdicts[i] == mustBePresent && !e.Present:
				r.add("I10", fmt.Sprintf("%s connected to %s: session present is 0, and the session was committed and had not expired", c.name, e.Node), x.around(c, e)...)
			case c.verdicts[i] == mustBeAbsent && e.Present:
				r.add("I10", fmt.Sprintf("%s connected to %s: session present is 1, and no session could exist", c.name, e.Node), x.around(c, e)...)
			}
		}
	}
}

// around is the connection events of a client next to one of them.
func (x *index) around(c *client, e *Event) []*Event {
	var slice []*Event
	for i, other := range c.conns {
		if other == e || i+1 < len(c.conns) && c.conns[i+1] == e {
			slice = append(slice, other)
			if end := c.closed[other.Conn]; end != nil && end.T <= e.T {
				slice = append(slice, end)
			}
		}
	}
	return slice
}
