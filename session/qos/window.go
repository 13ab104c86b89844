package qos

import "fmt"

// State says what was heard of a delivery in flight.
type State byte

// The states of a delivery.
const (
	Sent     State = 1 // PUBLISH sent, no acknowledgement yet
	Received State = 2 // PUBREC arrived (QoS 2): PUBREL is owed until PUBCOMP
)

// String returns the name of the state.
func (s State) String() string {
	switch s {
	case Sent:
		return "sent"
	case Received:
		return "received"
	default:
		return fmt.Sprintf("State(%d)", byte(s))
	}
}

// Delivery is one entry of a Window.
type Delivery struct {
	Seq   uint64 // inbox sequence; 0 for a connection-scoped delivery
	QoS   byte   // 1 or 2
	State State
}

// Window holds what one connection was sent and has not acknowledged: inbox
// deliveries, whose packet ids follow from their sequences, and
// connection-scoped ones. Both share the client's Receive Maximum.
// v5:MQTT-3.3.4-9
//
// A Window belongs to one network connection; the quota starts full with each.
// v5:MQTT-4.9.0-1
type Window struct {
	limit  int
	sentTo uint64
	inbox  flight
	local  IDs
}

// NewWindow returns an empty Window. limit is the client's Receive Maximum;
// zero means 65,535.
func NewWindow(limit uint16) *Window {
	if limit == 0 {
		limit = 65535
	}
	return &Window{limit: int(limit)}
}

// Len returns the number of deliveries in flight, of both kinds.
func (w *Window) Len() int { return w.inbox.n + w.local.Len() }

// Free returns how many more QoS 1 and 2 publishes may be sent now.
func (w *Window) Free() int { return max(0, w.limit-w.Len()) }

// Send admits the inbox delivery seq with its effective QoS, 1 or 2, and
// returns its packet id. It fails with ErrQuota, with ErrSpan while the id is
// in flight under an older sequence, and with ErrOrder if seq is not above the
// last one; then nothing has changed.
func (w *Window) Send(seq uint64, qos byte) (pid uint16, err error) {
	if w.Free() == 0 {
		return 0, ErrQuota
	}
	return w.admit(seq, pack(qos, Sent))
}

// Resume admits the inbox delivery seq in state Received: the client had it in
// an earlier connection, and is owed the PUBREL of the returned packet id. It
// needs no quota, since no PUBLISH is sent, but occupies some, so that the
// client never holds more than its Receive Maximum. It fails like Send.
func (w *Window) Resume(seq uint64) (pid uint16, err error) {
	return w.admit(seq, pack(2, Received))
}

// Skip notes that the inbox delivery seq needs nothing of the window: it has
// QoS 0. Lower sequences are refused from then on.
func (w *Window) Skip(seq uint64) { w.sentTo = max(w.sentTo, seq) }

func (w *Window) admit(seq uint64, b byte) (uint16, error) {
	if seq <= w.sentTo {
		return 0, ErrOrder
	}
	if !w.inbox.fits(seq, InboxIDs) {
		return 0, ErrSpan
	}
	w.inbox.put(seq, b)
	w.sentTo = seq
	return PacketID(seq), nil
}

// SendLocal admits a connection-scoped delivery with QoS 1 or 2 and returns its
// packet id. It fails with ErrQuota, and with ErrSpan while the next id is in use.
func (w *Window) SendLocal(qos byte) (pid uint16, err error) {
	if w.Free() == 0 {
		return 0, ErrQuota
	}
	return w.local.take(pack(qos, Sent))
}

// Lookup returns what is in flight under a packet id.
func (w *Window) Lookup(pid uint16) (Delivery, bool) {
	f, seq, ok := w.find(pid)
	if !ok {
		return Delivery{}, false
	}
	return w.delivery(f, seq), true
}

// Puback ends a QoS 1 delivery. It fails with ErrPacketID if nothing is in
// flight under pid, and with ErrWrongAck if it is not a QoS 1 delivery.
func (w *Window) Puback(pid uint16) (Delivery, error) {
	return w.finish(pid, 1, Sent)
}

// Pubcomp ends a QoS 2 delivery. It fails with ErrPacketID if nothing is in
// flight under pid, and with ErrWrongAck if PUBREC has not come before.
func (w *Window) Pubcomp(pid uint16) (Delivery, error) {
	return w.finish(pid, 2, Received)
}

func (w *Window) finish(pid uint16, qos byte, s State) (Delivery, error) {
	f, seq, ok := w.find(pid)
	if !ok {
		return Delivery{}, ErrPacketID
	}
	d := w.delivery(f, seq)
	if d.QoS != qos || d.State != s {
		return d, ErrWrongAck
	}
	f.del(seq)
	return d, nil
}

// Pubrec moves a QoS 2 delivery to state Received; with failed (a reason code
// of 0x80 or above) it ends it. The returned Delivery is as it was before, so
// that state Received tells a repeated PUBREC. It fails with ErrPacketID if
// nothing is in flight under pid, and with ErrWrongAck if it is a QoS 1
// delivery, or if a PUBREC fails what another one has taken. v5:MQTT-4.3.3-4
func (w *Window) Pubrec(pid uint16, failed bool) (Delivery, error) {
	f, seq, ok := w.find(pid)
	if !ok {
		return Delivery{}, ErrPacketID
	}
	d := w.delivery(f, seq)
	switch {
	case d.QoS != 2, failed && d.State == Received:
		return d, ErrWrongAck
	case failed:
		f.del(seq)
	default:
		f.set(seq, pack(2, Received))
	}
	return d, nil
}

// Drop ends a delivery, in whatever state, that was admitted and then not
// written (too large for the client, expired). It reports false if nothing is
// in flight under pid.
func (w *Window) Drop(pid uint16) bool {
	f, seq, ok := w.find(pid)
	if ok {
		f.del(seq)
	}
	return ok
}

// Oldest returns the lowest inbox sequence in flight, and false if there is none.
func (w *Window) Oldest() (seq uint64, ok bool) {
	return w.inbox.base, w.inbox.n > 0
}

// SentTo returns the highest inbox sequence that was admitted on this
// connection, zero before the first.
func (w *Window) SentTo() uint64 { return w.sentTo }

// find returns the half that pid belongs to and the sequence there.
func (w *Window) find(pid uint16) (f *flight, seq uint64, ok bool) {
	if pid >= FirstLocalID {
		seq, ok = w.local.find(pid)
		return &w.local.f, seq, ok
	}
	if pid == 0 {
		return nil, 0, false
	}
	seq, ok = w.inbox.congruent(uint64(pid-1), InboxIDs)
	return &w.inbox, seq, ok
}

func (w *Window) delivery(f *flight, seq uint64) Delivery {
	b := f.at(seq)
	d := Delivery{QoS: b >> 4, State: State(b & 0x0f)}
	if f == &w.inbox {
		d.Seq = seq
	}
	return d
}

// pack puts a QoS and a state into the byte of a flight; it is never zero.
func pack(qos byte, s State) byte { return qos<<4 | byte(s) }
