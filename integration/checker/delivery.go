package checker

import (
	"fmt"
	"slices"
	"sort"
)

// reception is what one session saw of one message.
type reception struct {
	first, last *Event
	count       int
	ackedAt     int64 // the last acknowledgement that was sent, 0 if none
	ackedConn   int32
}

type receptionKey struct{ client, pub int32 }

// stream is what I4 orders: one publisher session, topic and QoS as one session sees it.
type stream struct {
	firstSeq uint64 // highest sequence received for the first time
	first    *Event
	conn     int32 // of connSeq
	connSeq  uint64
	connLast *Event
}

type streamKey struct {
	client, session  int32
	publisher, topic string
	qos              byte
}

// walker goes once over the deliveries and acknowledgements of a history.
type walker struct {
	x       *index
	r       *Report
	seen    map[receptionKey]*reception
	streams map[streamKey]*stream
	// inflight maps the packet ids of a session to what they stand for until it is acknowledged.
	inflight map[int32]map[uint16]flight
	// sessions counts the sessions of a client id: the order is promised within each.
	sessions map[int32]int32
}

type flight struct {
	pub int32
	ev  *Event
}

func (x *index) checkDeliveries(r *Report) map[receptionKey]*reception {
	w := &walker{x: x, r: r, seen: map[receptionKey]*reception{}, streams: map[streamKey]*stream{}, inflight: map[int32]map[uint16]flight{}, sessions: map[int32]int32{}}
	for i := range x.events {
		e := &x.events[i]
		switch e.Kind {
		case Deliver:
			r.Deliveries++
			w.deliver(e)
		case Acked:
			w.acked(e)
		case Connect:
			if e.Clean || !e.Present {
				delete(w.inflight, x.clientOf[e.Client])
				w.sessions[x.clientOf[e.Client]]++
			}
		}
	}
	return w.seen
}

func (w *walker) deliver(d *Event) {
	if d.Err != "" {
		w.r.add("I7", fmt.Sprintf("%s received what nobody published: %s", d.Client, d.Err), d)
		return
	}
	pi, ok := w.x.pubOf[msgKey{d.Publisher, d.Topic, d.Seq}]
	if !ok {
		w.r.add("I7", fmt.Sprintf("%s received message %d of %s on %s, which was never published there", d.Client, d.Seq, d.Publisher, d.Topic), d)
		return
	}
	ci := w.x.clientOf[d.Client]
	p := &w.x.pubs[pi]
	w.phantom(ci, p, d)
	if d.Retain {
		return // the permitted retained copy is outside the stream of live messages
	}
	w.packetID(ci, pi, d)
	key := receptionKey{ci, pi}
	ordered := w.x.own(ci, d.Topic) && !p.will // wills fire when connections end, in no order that is promised
	rec := w.seen[key]
	if rec == nil {
		w.seen[key] = &reception{first: d, last: d, count: 1}
		if ordered {
			w.firstOrder(ci, p, d)
		}
	} else {
		w.repeated(ci, p, rec, d)
		rec.last, rec.count = d, rec.count+1
	}
	if ordered {
		w.connOrder(ci, p, d)
	}
}

// phantom holds I7 and I6: the delivery follows from its publish and a subscription of the session.
func (w *walker) phantom(ci int32, p *publish, d *Event) {
	name := message(d)
	bad := func(rule, format string, args ...any) {
		slice := []*Event{p.Event, d}
		for _, s := range w.x.candidates(ci, d.Topic) {
			slice = append(slice, s.ev)
		}
		w.r.add(rule, fmt.Sprintf("%s received %s: ", d.Client, name)+fmt.Sprintf(format, args...), slice[:min(len(slice), 6)]...)
	}
	switch {
	case d.T < p.T:
		bad("I7", "it was published later")
	case p.End != 0 && p.Code >= refused:
		bad("I7", "it was refused with 0x%02x", p.Code)
	case d.Retain && !p.Retain:
		bad("I7", "with RETAIN, and it was not retained")
	case d.Props != "" && p.Props != "" && d.Props != p.Props:
		bad("I7", "properties %s, published were %s", d.Props, p.Props)
	}
	held, fits := false, false
	for _, s := range w.x.candidates(ci, d.Topic) {
		if s.born > d.T || s.gone < p.T {
			continue
		}
		held = true
		fits = fits || d.QoS == min(s.qos, p.QoS)
	}
	switch {
	case !held && slices.ContainsFunc(w.x.candidates(ci, d.Topic), func(s *subscription) bool { return s.born < p.T && s.gone < p.T }):
		bad("I6", "it was published after the subscription had ended")
	case !held:
		bad("I7", "the session had no subscription that matches")
	case !fits:
		bad("I7", "with QoS %d, which is not the lower one of what was published and granted", d.QoS)
	}
}

// packetID holds I17: no two different messages in flight share an id.
func (w *walker) packetID(ci, pi int32, d *Event) {
	if d.QoS == 0 || !w.x.clients[ci].acks {
		return
	}
	ids := w.inflight[ci]
	if ids == nil {
		ids = map[uint16]flight{}
		w.inflight[ci] = ids
	}
	if old, taken := ids[d.PacketID]; taken && old.pub != pi {
		w.r.add("I17", fmt.Sprintf("%s received %s with packet id %d, which still stands for %s", d.Client, message(d), d.PacketID, message(old.ev)), old.ev, d)
	}
	ids[d.PacketID] = flight{pi, d}
}

func (w *walker) acked(a *Event) {
	ci := w.x.clientOf[a.Client]
	pi, ok := w.x.pubOf[msgKey{a.Publisher, a.Topic, a.Seq}]
	if !ok {
		return
	}
	if f, there := w.inflight[ci][a.PacketID]; there && f.pub == pi {
		delete(w.inflight[ci], a.PacketID)
	}
	if rec := w.seen[receptionKey{ci, pi}]; rec != nil {
		rec.ackedAt, rec.ackedConn = a.T, a.Conn
	}
}

// firstOrder holds I4 for first receptions.
func (w *walker) firstOrder(ci int32, p *publish, d *Event) {
	st := w.stream(ci, p)
	if d.Seq < st.firstSeq && p.again && !w.x.promised(ci, p, d) {
		return // sent before the subscription was there, and again after later ones
	}
	if d.Seq < st.firstSeq && p.again && p.overtakenBy(w.x.published(st.first)) {
		return
	}
	if d.Seq < st.firstSeq {
		w.r.add("I4", fmt.Sprintf("%s received %s for the first time after %s", d.Client, message(d), message(st.first)), p.Event, st.first, d)
		return
	}
	st.firstSeq, st.first = d.Seq, d
}

// published is the publish that a delivery delivers.
func (x *index) published(d *Event) *publish {
	return &x.pubs[x.pubOf[msgKey{d.Publisher, d.Topic, d.Seq}]]
}

// connOrder holds I4 for what one connection sees: a redelivery comes in the original order. A message that its publisher
// may have sent twice may come twice.
func (w *walker) connOrder(ci int32, p *publish, d *Event) {
	st := w.stream(ci, p)
	if st.conn != d.Conn {
		st.conn, st.connSeq, st.connLast = d.Conn, d.Seq, d
		return
	}
	if d.Seq >= st.connSeq {
		st.connSeq, st.connLast = d.Seq, d
		return
	}
	rec := w.seen[receptionKey{ci, w.x.pubOf[msgKey{d.Publisher, d.Topic, d.Seq}]}]
	if rec.count > 1 && !p.again {
		w.r.add("I4", fmt.Sprintf("%s received %s again after %s on one connection: not the original order", d.Client, message(d), message(st.connLast)), st.connLast, d)
	}
}

// promised tells whether a subscription of a client surely held from the first sending of a message to a delivery.
func (x *index) promised(ci int32, p *publish, d *Event) bool {
	return slices.ContainsFunc(x.candidates(ci, p.Topic), func(s *subscription) bool {
		return s.share == nil && s.sure < p.T && s.gone > d.T
	})
}

func (w *walker) stream(ci int32, p *publish) *stream {
	key := streamKey{ci, w.sessions[ci], p.Client, p.Topic, p.QoS}
	st := w.streams[key]
	if st == nil {
		st = &stream{}
		w.streams[key] = st
	}
	return st
}

// repeated holds I2, I3 and I8 for a second and later delivery of a message to a session.
func (w *walker) repeated(ci int32, p *publish, rec *reception, d *Event) {
	c := w.x.clients[ci]
	slice := []*Event{p.Event, rec.first, rec.last, d}
	if rec.first == rec.last {
		slice = slices.Delete(slice, 2, 3)
	}
	if f := c.fenceAfter(rec, d); f != nil && !p.again {
		ack := &Event{Kind: Acked, T: rec.ackedAt, Client: c.name, Conn: rec.ackedConn, Publisher: d.Publisher, Topic: d.Topic, Seq: d.Seq}
		w.r.add("I8", fmt.Sprintf("%s received %s again, which it had acknowledged before a fence", c.name, message(d)), append(slice, ack, f)...)
		return
	}
	if p.QoS == 2 && d.QoS == 2 {
		switch {
		case p.wrong:
			w.r.ClientFault++ // to the broker it was another message
		case c.acks && rec.ackedAt != 0:
			w.r.add("I2", fmt.Sprintf("%s received %s again after its handshake was complete", c.name, message(d)), slice...)
		case !d.Dup || d.PacketID != rec.last.PacketID:
			w.r.add("I2", fmt.Sprintf("%s received %s twice", c.name, message(d)), slice...)
		default:
			w.r.Retransmits++
		}
		return
	}
	if d.Dup && !p.again && d.PacketID != rec.first.PacketID && d.PacketID != rec.last.PacketID {
		w.r.add("I17", fmt.Sprintf("%s received %s again under another packet id", c.name, message(d)), slice...)
		return
	}
	why := w.explain(p, rec, d)
	if why == "" {
		w.r.add("I3", fmt.Sprintf("%s received %s twice without a reason", c.name, message(d)), slice...)
		return
	}
	w.r.Duplicates[why]++
}

// failoverReach is how long before a publish a fault may lie and still explain a duplicate: lanes and forwards resend after it.
const failoverReach = int64(30e9)

// explain names why a QoS 1 message came again; empty: there is no reason.
func (w *walker) explain(p *publish, rec *reception, d *Event) string {
	switch {
	case d.Dup && d.Conn != rec.last.Conn:
		return "dup"
	case p.again:
		return "publisher sent it again"
	case d.Dup:
		return "" // v5:MQTT-4.4.0-1: nothing is retransmitted within a connection
	case d.Conn != rec.last.Conn:
		return "subscriber reconnected"
	case w.x.faultIn(p.T-failoverReach, d.T):
		return "failover"
	}
	return ""
}

// fenceAfter finds a SUBSCRIBE that was sent on the connection of the acknowledgement after it and answered before d.
func (c *client) fenceAfter(rec *reception, d *Event) *Event {
	if rec.ackedAt == 0 {
		return nil
	}
	fences := c.fences[rec.ackedConn]
	at := sort.Search(len(fences), func(i int) bool { return fences[i].T > rec.ackedAt })
	if at < len(fences) && fences[at].End < d.T {
		return fences[at]
	}
	return nil
}

func message(e *Event) string { return fmt.Sprintf("%s/%s#%d", e.Publisher, e.Topic, e.Seq) }

// checkLoss holds I1: what was promised to a session that drained was received.
func (x *index) checkLoss(r *Report, seen map[receptionKey]*reception) {
	for _, c := range x.clients {
		if c.drained == nil && slices.ContainsFunc(c.subs, func(s *subscription) bool { return s.qos > 0 && s.gone == forever }) {
			r.Undrained = append(r.Undrained, c.name)
		}
	}
	sort.Strings(r.Undrained)
	for pi := range x.pubs {
		p := &x.pubs[pi]
		switch {
		case p.will:
			continue // see checkWills
		case p.End != 0 && p.Code >= refused:
			r.Refused++
			continue
		case !p.acked():
			r.Unknown++
			continue
		}
		r.Acked[min(p.QoS, 2)]++
		if p.QoS == 0 {
			continue
		}
		for _, ci := range x.interested(p.Topic) {
			x.checkReached(r, seen, ci, int32(pi))
		}
	}
}

func (x *index) checkReached(r *Report, seen map[receptionKey]*reception, ci, pi int32) {
	c, p := x.clients[ci], &x.pubs[pi]
	if c.drained == nil || p.End > c.drained.T {
		return
	}
	for _, s := range x.candidates(ci, p.Topic) {
		if s.share != nil || s.qos == 0 || s.sure >= p.T || s.ending < p.End || s.ev.NoLocal && p.Client == c.name {
			continue
		}
		r.MustReach++
		if seen[receptionKey{ci, pi}] != nil {
			return
		}
		slice := []*Event{s.ev, p.Event, c.drained}
		for _, e := range c.conns {
			if end := c.closed[e.Conn]; end == nil || end.T >= p.T {
				slice = append(slice, e, end)
			}
		}
		r.add("I1", fmt.Sprintf("%s never received %s/%s#%d, which was acknowledged with 0x%02x", c.name, p.Client, p.Topic, p.Seq, p.Code), slice[:min(len(slice), 10)]...)
		return
	}
}
