package qos

// Inbound holds what a client has sent with QoS 1 and 2 and the broker has not
// acknowledged: the use of the server's Receive Maximum, and the QoS 2 packet
// ids between PUBLISH and PUBCOMP, which make a repeated PUBLISH harmless.
//
// An Inbound belongs to one network connection. The ids of a resumed session
// come in by Resume.
type Inbound struct {
	limit  int
	maxIDs int
	qos1   int             // unacknowledged QoS 1 publishes
	qos2   int             // ids below whose PUBLISH came on this connection
	ids    map[uint16]bool // unreleased QoS 2 ids; true: counted in qos2
}

// NewInbound returns an empty Inbound. receiveMax is what CONNACK announced;
// zero means 65,535. A v3 client was told nothing: pass the same number and take
// ErrReceiveMaximum as the sign to stop reading. maxIDs bounds the unreleased
// QoS 2 ids of the session; zero or less means 65,535.
func NewInbound(receiveMax uint16, maxIDs int) *Inbound {
	if receiveMax == 0 {
		receiveMax = 65535
	}
	if maxIDs <= 0 || maxIDs > 65535 {
		maxIDs = 65535
	}
	return &Inbound{limit: int(receiveMax), maxIDs: maxIDs}
}

// Resume loads the QoS 2 ids of a resumed session that await their PUBREL. They
// are beyond the bound of ids, if need be, and do not count against the Receive
// Maximum: the client's own count starts anew with the connection. v5:MQTT-4.9.0-1
func (in *Inbound) Resume(pids []uint16) {
	for _, pid := range pids {
		if _, ok := in.ids[pid]; !ok {
			in.set(pid, false)
		}
	}
}

// Publish takes what an inbound PUBLISH of QoS 1 or 2 needs. dup says that it is
// a QoS 2 publish whose id is not released yet: acknowledge it again, but do
// not pass it on. It fails with ErrReceiveMaximum or ErrTooManyIDs; then nothing
// has changed.
func (in *Inbound) Publish(qos byte, pid uint16) (dup bool, err error) {
	counted, held := false, false
	if qos == 2 {
		counted, held = in.ids[pid]
	}
	if counted {
		return true, nil
	}
	if in.Free() == 0 {
		return false, ErrReceiveMaximum
	}
	if qos != 2 {
		in.qos1++
		return false, nil
	}
	if !held && len(in.ids) >= in.maxIDs {
		return false, ErrTooManyIDs
	}
	in.set(pid, true)
	in.qos2++
	return held, nil
}

// Acked takes note of an acknowledgement that goes out: PUBACK and PUBCOMP give
// their quota back and PUBCOMP its id; so does a PUBREC with a code of 0x80 or
// above, which ends its publish. Call it once for each; one for a QoS 2 id that
// is not held changes nothing.
func (in *Inbound) Acked(a Ack) {
	switch {
	case a.Kind == Puback:
		in.qos1 = max(0, in.qos1-1)
	case a.Kind == Pubcomp, a.Kind == Pubrec && a.Code >= 0x80:
		if in.ids[a.PacketID] {
			in.qos2--
		}
		delete(in.ids, a.PacketID)
	}
}

// Holds reports whether a QoS 2 id is not released yet.
func (in *Inbound) Holds(pid uint16) bool {
	_, ok := in.ids[pid]
	return ok
}

// InFlight returns how much of the Receive Maximum is in use.
func (in *Inbound) InFlight() int { return in.qos1 + in.qos2 }

// Free returns how many more QoS 1 and 2 publishes the client may send.
func (in *Inbound) Free() int { return max(0, in.limit-in.InFlight()) }

// IDs returns the number of unreleased QoS 2 ids.
func (in *Inbound) IDs() int { return len(in.ids) }

// set makes the map at its first use: most connections never need it.
func (in *Inbound) set(pid uint16, counted bool) {
	if in.ids == nil {
		in.ids = make(map[uint16]bool)
	}
	in.ids[pid] = counted
}
