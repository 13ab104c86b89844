package tap

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"net"
	"strings"
	"sync"

	"github.com/flotilla-mqtt/flotilla/integration/checker"
)

// Client is one client id over a run: it survives its connections.
type Client struct {
	id, run string
	rec     *checker.Recorder

	mu         sync.Mutex
	conns      int32                      // guarded by mu, like all below
	live       *Conn                      // the last connection that was answered
	publishes  map[uint16]*checker.Event  // sent and not answered, by packet id
	open       map[message]*checker.Event // the same, by message
	answered   map[message]bool           // the last publishes that were answered
	order      []message                  // of answered, oldest first
	handshakes map[uint16]message         // QoS 2 between PUBREC and PUBREL
	released   map[message]bool           // those of answered for which PUBREL was sent
	received   map[uint16]*checker.Event  // delivered and not acknowledged
	deliveries uint64
	lastAt     int64
	acked      uint64
}

// message names a publish of this client.
type message struct {
	topic string
	seq   uint64
}

// New prepares the history of a client id in a run.
func New(rec *checker.Recorder, run, id string) *Client {
	return &Client{
		id: id, run: run, rec: rec, publishes: map[uint16]*checker.Event{},
		open: map[message]*checker.Event{}, answered: map[message]bool{},
		handshakes: map[uint16]message{}, released: map[message]bool{}, received: map[uint16]*checker.Event{},
	}
}

// ID is the client id.
func (c *Client) ID() string { return c.id }

// Wrap reads along on a new connection to a node.
func (c *Client) Wrap(conn net.Conn, node string) *Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conns++
	return &Conn{Conn: conn, c: c, node: node, n: c.conns, subs: map[uint16][]checker.Event{}, aliasIn: map[uint16]string{}, aliasOut: map[uint16]string{}}
}

// Deliveries is how many PUBLISH packets were received, and LastDelivery when the last one came, in the time of the run.
func (c *Client) Deliveries() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.deliveries
}

// LastDelivery is the time of the last PUBLISH received, 0 if there was none.
func (c *Client) LastDelivery() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lastAt
}

// Acked is how many publishes of QoS 1 and 2 were acknowledged with a code that does not refuse.
func (c *Client) Acked() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.acked
}

// Connected tells whether the last connection was answered and has not ended.
func (c *Client) Connected() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.live != nil && !c.live.ended
}

// Unanswered is how many publishes wait for their first answer.
func (c *Client) Unanswered() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.open)
}

// answeredKept is how many answered publishes are remembered: a client whose connection broke before it looked at an answer
// that had come sends the message again. It is more than any client here has in flight.
const answeredKept = 4096

func (c *Client) rememberLocked(m message) {
	delete(c.open, m)
	c.answered[m] = true
	c.order = append(c.order, m)
	if len(c.order) > answeredKept {
		delete(c.answered, c.order[0])
		delete(c.released, c.order[0])
		c.order = c.order[1:]
	}
}

// Drained is the event that the client read everything that there was. It is not recorded.
func (c *Client) Drained() checker.Event {
	c.mu.Lock()
	defer c.mu.Unlock()
	return checker.Event{T: c.rec.Now(), Kind: checker.Drained, Client: c.id, Conn: c.conns}
}

// Finish records the publishes that never got an answer. Call it once, at the end of the run.
func (c *Client) Finish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, e := range c.open {
		c.rec.Add(*e)
		delete(c.open, key)
	}
}

// Conn reads along on one connection.
type Conn struct {
	net.Conn
	c    *Client
	node string
	n    int32

	writing sync.Mutex // held over a Write, before c.mu

	in, out           splitter // guarded by c.mu, like all below
	v5                bool
	connect           checker.Event
	subs              map[uint16][]checker.Event // SUBSCRIBE and UNSUBSCRIBE under way
	aliasIn, aliasOut map[uint16]string
	goodbye           string // of either side's DISCONNECT
	polite            bool   // the client sent DISCONNECT 0x00
	ended             bool
}

// Read passes bytes from the server and looks at them. What comes after the end is not passed: a client must not
// acknowledge what the history does not hold.
func (t *Conn) Read(b []byte) (int, error) {
	n, err := t.Conn.Read(b)
	t.c.mu.Lock()
	defer t.c.mu.Unlock()
	if t.ended {
		return 0, net.ErrClosed
	}
	if n > 0 {
		if perr := t.in.push(b[:n], t.fromServer); perr != nil {
			t.broken("server", perr)
		}
	}
	if err != nil {
		t.endLocked(err)
	}
	return n, err
}

// Write looks at bytes from the client and passes them on. It looks first: what was sent may be answered before Write returns.
// Two writers must not overtake each other in between, so one waits for the other.
func (t *Conn) Write(b []byte) (int, error) {
	t.writing.Lock()
	defer t.writing.Unlock()
	t.c.mu.Lock()
	if t.ended {
		t.c.mu.Unlock()
		return 0, net.ErrClosed
	}
	if perr := t.out.push(b, t.fromClient); perr != nil {
		t.broken("client", perr)
	}
	t.c.mu.Unlock()
	n, err := t.Conn.Write(b)
	if err != nil {
		t.c.mu.Lock()
		t.endLocked(err)
		t.c.mu.Unlock()
	}
	return n, err
}

// Close ends the connection.
func (t *Conn) Close() error {
	t.c.mu.Lock()
	t.endLocked(net.ErrClosed)
	t.c.mu.Unlock()
	return t.Conn.Close()
}

// broken notes bytes that are no MQTT: a delivery that nobody published, which the checker reports.
func (t *Conn) broken(side string, err error) {
	t.c.rec.Add(checker.Event{Kind: checker.Deliver, Client: t.c.id, Conn: t.n, Node: t.node, Err: "bytes of the " + side + " are no MQTT: " + err.Error()})
}

func (t *Conn) endLocked(err error) {
	if t.ended {
		return
	}
	t.ended = true
	if t.connect.Kind != "" && t.connect.End == 0 {
		t.connect.Err = "no CONNACK"
		t.c.rec.Add(t.connect)
		return
	}
	if t.connect.Kind == "" || t.connect.Err != "" {
		return
	}
	e := checker.Event{Kind: checker.Closed, Client: t.c.id, Conn: t.n, Node: t.node}
	if !t.polite {
		e.Err = "lost"
		if t.goodbye != "" {
			e.Err = t.goodbye
		} else if !errors.Is(err, io.EOF) {
			e.Err = err.Error()
		}
	}
	t.c.rec.Add(e)
	for _, under := range t.subs {
		for _, e := range under {
			t.c.rec.Add(e)
		}
	}
}

func (t *Conn) fromClient(header byte, body []byte) {
	c := cursor{b: body}
	switch header >> 4 {
	case typeConnect:
		t.sentConnect(&c)
	case typePublish:
		t.sentPublish(header, &c)
	case typePuback, typePubcomp:
		t.sentAck(c.u16())
	case typePubrel:
		id := c.u16()
		if m, ok := t.c.handshakes[id]; ok {
			t.c.released[m] = true
			delete(t.c.handshakes, id)
		}
	case typeSubscribe, typeUnsub:
		t.sentSubscribe(header>>4 == typeSubscribe, &c)
	case typeDisconnect:
		code := c.u8()
		t.goodbye = fmt.Sprintf("client disconnected with 0x%02x", code)
		t.polite = code == 0
		t.endLocked(net.ErrClosed)
	}
}

func (t *Conn) sentConnect(c *cursor) {
	c.str()
	t.v5 = c.u8() == 5
	flags := c.u8()
	c.u16()
	e := checker.Event{Kind: checker.Connect, T: t.c.rec.Now(), Client: t.c.id, Conn: t.n, Node: t.node, Clean: flags&2 != 0}
	if !t.v5 {
		if !e.Clean {
			e.Expiry = checker.Never
		}
	} else {
		_ = eachProperty(c.properties(), func(id byte, value, _ []byte) {
			if id == propSessionExp {
				e.Expiry = binary.BigEndian.Uint32(value)
			}
		})
	}
	t.connect = e
}

func (t *Conn) sentPublish(header byte, c *cursor) {
	p := t.publish(header, c, t.aliasOut)
	if p.Err != "" {
		return // not one of ours: a test that sends other payloads checks them itself
	}
	key := message{p.Topic, p.Seq}
	if e := t.c.open[key]; e != nil || t.c.answered[key] {
		if e != nil {
			t.c.publishes[p.PacketID] = e
		}
		again := checker.Event{Kind: checker.Resent, T: p.T, Client: t.c.id, Conn: t.n, Topic: p.Topic, Seq: p.Seq, PacketID: p.PacketID, Dup: p.Dup}
		if t.c.released[key] {
			again.Err = "PUBLISH after its PUBREL" // v311:MQTT-4.3.3-1
		}
		t.c.rec.Add(again)
		return
	}
	e := p
	e.Kind, e.Client, e.Publisher, e.PacketID, e.Dup = checker.Publish, p.Publisher, "", 0, false
	if p.QoS == 0 {
		e.End = e.T
		t.c.rec.Add(e)
		return
	}
	t.c.publishes[p.PacketID], t.c.open[key] = &e, &e
}

// publish reads a PUBLISH of either direction into an event.
func (t *Conn) publish(header byte, c *cursor, aliases map[uint16]string) checker.Event {
	e := checker.Event{
		T: t.c.rec.Now(), Client: t.c.id, Conn: t.n, Topic: c.str(),
		QoS: header >> 1 & 3, Dup: header&8 != 0, Retain: header&1 != 0,
	}
	if e.QoS > 0 {
		e.PacketID = c.u16()
	}
	if t.v5 {
		e.Props = t.properties(&e, c.properties(), aliases)
	}
	id, err := checker.ParsePayload(c.b)
	switch {
	case c.err != nil:
		e.Err = c.err.Error()
	case err != nil:
		e.Err = err.Error()
	case id.Run != t.c.run:
		e.Err = "payload of another run: " + id.Run
	case id.Topic != e.Topic:
		e.Err = "payload for topic " + id.Topic
	}
	e.Publisher, e.Seq = id.Publisher, id.Seq
	return e
}

// properties resolves the topic alias and returns a digest of the properties that must arrive as they were sent. The order of
// user properties counts, the order of kinds does not.
func (t *Conn) properties(e *checker.Event, props []byte, aliases map[uint16]string) string {
	user, others := fnv.New32a(), uint32(0)
	err := eachProperty(props, func(id byte, value, raw []byte) {
		switch id {
		case propTopicAlias:
			alias := binary.BigEndian.Uint16(value)
			if e.Topic == "" {
				e.Topic = aliases[alias]
			}
			aliases[alias] = e.Topic
		case propExpiry, propSubID:
		case propUser:
			_, _ = user.Write(raw)
		default:
			h := fnv.New32a()
			_, _ = h.Write(raw)
			others += h.Sum32()
		}
	})
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%08x", user.Sum32()^others)
}

func (t *Conn) sentAck(id uint16) {
	d := t.c.received[id]
	if d == nil {
		return
	}
	delete(t.c.received, id)
	t.c.rec.Add(checker.Event{Kind: checker.Acked, Client: t.c.id, Conn: t.n, Publisher: d.Publisher, Topic: d.Topic, Seq: d.Seq, PacketID: id})
}

func (t *Conn) sentSubscribe(subscribe bool, c *cursor) {
	id := c.u16()
	if t.v5 {
		c.properties()
	}
	now := t.c.rec.Now()
	for len(c.b) > 0 && c.err == nil {
		e := checker.Event{Kind: checker.Unsubscribe, T: now, Client: t.c.id, Conn: t.n, Node: t.node, Topic: c.str()}
		if subscribe {
			options := c.u8()
			e.Kind, e.QoS, e.NoLocal = checker.Subscribe, options&3, options&4 != 0
		}
		t.subs[id] = append(t.subs[id], e)
	}
}

func (t *Conn) fromServer(header byte, body []byte) {
	c := cursor{b: body}
	switch header >> 4 {
	case typeConnack:
		t.gotConnack(&c)
	case typePublish:
		t.gotPublish(header, &c)
	case typePuback, typePubrec:
		t.gotAck(c.u16(), c.u8())
	case typeSuback, typeUnsuback:
		t.gotSuback(&c)
	case typeDisconnect:
		t.goodbye = fmt.Sprintf("server disconnected with 0x%02x", c.u8())
	}
}

func (t *Conn) gotConnack(c *cursor) {
	present, code := c.u8()&1 != 0, c.u8()
	t.connect.End, t.connect.Present = t.c.rec.Now(), present
	if code != 0 {
		t.connect.Err, t.connect.Code = fmt.Sprintf("refused with 0x%02x", code), code
	} else {
		t.c.live = t
		if !present {
			clear(t.c.received)
		}
	}
	t.c.rec.Add(t.connect)
}

func (t *Conn) gotPublish(header byte, c *cursor) {
	e := t.publish(header, c, t.aliasIn)
	e.Kind = checker.Deliver
	if !t.v5 {
		e.Props = ""
	}
	if e.QoS > 0 && e.Err == "" {
		d := e
		t.c.received[e.PacketID] = &d
	}
	t.c.deliveries++
	t.c.lastAt = e.T
	t.c.rec.Add(e)
}

// gotAck takes the first answer to a publish: PUBACK, or PUBREC, with which ownership passes.
func (t *Conn) gotAck(id uint16, code byte) {
	e := t.c.publishes[id]
	if e == nil {
		return // the end of a QoS 2 handshake, or an answer that was given before
	}
	delete(t.c.publishes, id)
	m := message{e.Topic, e.Seq}
	t.c.rememberLocked(m)
	if e.QoS == 2 {
		t.c.handshakes[id] = m
	}
	e.End, e.Code = t.c.rec.Now(), code
	if code < 0x80 {
		t.c.acked++
	}
	t.c.rec.Add(*e)
}

func (t *Conn) gotSuback(c *cursor) {
	id := c.u16()
	if t.v5 {
		c.properties()
	}
	now := t.c.rec.Now()
	for i, e := range t.subs[id] {
		e.End = now
		if i < len(c.b) {
			e.Code = c.b[i]
		}
		t.c.rec.Add(e)
	}
	delete(t.subs, id)
}

// CloseWrite passes a half-close on, for clients that use it.
func (t *Conn) CloseWrite() error {
	if half, ok := t.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return fmt.Errorf("half-close: %w", errors.ErrUnsupported)
}

// String names the connection in failures.
func (t *Conn) String() string {
	return strings.Join([]string{t.c.id, fmt.Sprint(t.n), t.node}, "/")
}
