package command

import (
	"google.golang.org/protobuf/encoding/protowire"
)

// begin frames a command: kind, the bit "may be ignored", length, payload.
func begin(dst []byte, k Kind) ([]byte, int) {
	return open(protowire.AppendVarint(dst, uint64(k)<<1))
}

// Fields of a session reference, shared by all commands that carry one:
// 1 tenant, 2 client id, 3 epoch.
func putRef(dst []byte, r *SessionRef) []byte {
	dst = putString(dst, 1, r.Tenant)
	dst = putString(dst, 2, r.ClientID)
	return putUint(dst, 3, r.Epoch)
}

func (f *fields) ref(r *SessionRef) {
	switch f.num {
	case 1:
		r.Tenant = f.string()
	case 2:
		r.ClientID = f.string()
	case 3:
		r.Epoch = f.uint()
	}
}

// AppendConnect adds the command. Fields: 1 tenant, 2 client id, 3 node,
// 4 incarnation, 5 token, 6 clean start, 7 expiry, 8 receive maximum, 9 version,
// 10 user name, 11 will {1 message, 2 delay}, 12 connected at, 13 same user,
// 14 share room.
func AppendConnect(dst []byte, c *Connect) []byte {
	dst, mark := begin(dst, KindConnect)
	dst = putString(dst, 1, c.Key.Tenant)
	dst = putString(dst, 2, c.Key.ClientID)
	dst = putString(dst, 3, c.Node)
	dst = putUint(dst, 4, c.Incarnation)
	dst = putUint(dst, 5, c.Token)
	dst = putBool(dst, 6, c.CleanStart)
	dst = putUint(dst, 7, uint64(c.ExpiryS))
	dst = putUint(dst, 8, uint64(c.ReceiveMax))
	dst = putUint(dst, 9, uint64(c.Version))
	dst = putString(dst, 10, c.Username)
	if c.HasWill {
		var w int
		dst, w = openField(dst, 11)
		dst = putBytes(dst, 1, c.Will.Message)
		dst = putUint(dst, 2, uint64(c.Will.DelayS))
		dst = closeAt(dst, w)
	}
	dst = putUint(dst, 12, uint64(c.ConnectedAt))
	dst = putBool(dst, 13, c.SameUser)
	dst = putUint(dst, 14, uint64(c.ShareRoom))
	return closeAt(dst, mark)
}

// Decode reads the payload of a connect command. It aliases b.
func (c *Connect) Decode(b []byte) error {
	*c = Connect{}
	f := fields{b: b}
	for f.next() {
		switch f.num {
		case 1:
			c.Key.Tenant = f.string()
		case 2:
			c.Key.ClientID = f.string()
		case 3:
			c.Node = f.string()
		case 4:
			c.Incarnation = f.uint()
		case 5:
			c.Token = f.uint()
		case 6:
			c.CleanStart = f.bool()
		case 7:
			c.ExpiryS = f.u32()
		case 8:
			c.ReceiveMax = uint16(f.max(1<<16 - 1))
		case 9:
			c.Version = byte(f.max(1<<8 - 1))
		case 10:
			c.Username = f.string()
		case 11:
			c.HasWill = true
			w := fields{b: f.bytes()}
			for w.next() {
				switch w.num {
				case 1:
					c.Will.Message = w.bytes()
				case 2:
					c.Will.DelayS = w.u32()
				}
			}
			f.bad = f.bad || w.bad
		case 12:
			c.ConnectedAt = int64(f.uint())
		case 13:
			c.SameUser = f.bool()
		case 14:
			c.ShareRoom = uint16(f.max(1<<16 - 1))
		}
	}
	return f.err("connect")
}

// AppendDisconnect adds the command. Fields: reference, 4 reason, 5 has expiry,
// 6 expiry, 7 sent to.
func AppendDisconnect(dst []byte, d *Disconnect) []byte {
	dst, mark := begin(dst, KindDisconnect)
	dst = putRef(dst, &d.Ref)
	dst = putUint(dst, 4, uint64(d.Reason))
	dst = putBool(dst, 5, d.HasExpiry)
	dst = putUint(dst, 6, uint64(d.ExpiryS))
	dst = putUint(dst, 7, d.SentTo)
	return closeAt(dst, mark)
}

// Decode reads the payload of a disconnect command. It aliases b.
func (d *Disconnect) Decode(b []byte) error {
	*d = Disconnect{}
	f := fields{b: b}
	for f.next() {
		switch f.num {
		case 4:
			d.Reason = DisconnectReason(f.u32())
		case 5:
			d.HasExpiry = f.bool()
		case 6:
			d.ExpiryS = f.u32()
		case 7:
			d.SentTo = f.uint()
		default:
			f.ref(&d.Ref)
		}
	}
	return f.err("disconnect")
}

// Bits of a subscription: QoS, then the options.
const (
	subQoS      = 0x3
	subNoLocal  = 0x4
	subRAP      = 0x8
	subHandling = 4 // shift
)

// AppendSubscription adds a subscription as a message of its own: 1 filter,
// 2 option bits, 3 identifier. Commands, results and stores share it.
func AppendSubscription(dst []byte, s *Subscription) []byte {
	dst = putString(dst, 1, s.Filter)
	bits := uint64(s.QoS & subQoS)
	if s.NoLocal {
		bits |= subNoLocal
	}
	if s.RetainAsPublished {
		bits |= subRAP
	}
	bits |= uint64(s.RetainHandling&3) << subHandling
	dst = putUint(dst, 2, bits)
	return putUint(dst, 3, uint64(s.ID))
}

// DecodeSubscription reads what AppendSubscription wrote. It aliases b.
func DecodeSubscription(b []byte) (Subscription, error) {
	var s Subscription
	f := fields{b: b}
	for f.next() {
		switch f.num {
		case 1:
			s.Filter = f.string()
		case 2:
			bits := f.max(0x3f)
			s.QoS = byte(bits & subQoS)
			s.NoLocal = bits&subNoLocal != 0
			s.RetainAsPublished = bits&subRAP != 0
			s.RetainHandling = byte(bits >> subHandling)
			if s.QoS == 3 || s.RetainHandling == 3 {
				f.bad = true
			}
		case 3:
			s.ID = f.u32()
		}
	}
	return s, f.err("subscription")
}

// AppendSubscribe adds the command. Fields: reference, 4 subscription (repeated),
// 5 replay, 6 share room.
func AppendSubscribe(dst []byte, s *Subscribe) []byte {
	dst, mark := begin(dst, KindSubscribe)
	dst = putRef(dst, &s.Ref)
	for i := range s.Subs {
		var m int
		dst, m = openField(dst, 4)
		dst = AppendSubscription(dst, &s.Subs[i])
		dst = closeAt(dst, m)
	}
	dst = putBool(dst, 5, s.Replay)
	dst = putUint(dst, 6, uint64(s.ShareRoom))
	return closeAt(dst, mark)
}

// Decode reads the payload of a subscribe command, reusing s.Subs. It aliases b.
func (s *Subscribe) Decode(b []byte) error {
	*s = Subscribe{Subs: s.Subs[:0]}
	f := fields{b: b}
	for f.next() {
		switch f.num {
		case 4:
			sub, err := DecodeSubscription(f.bytes())
			if err != nil {
				return err
			}
			s.Subs = append(s.Subs, sub)
		case 5:
			s.Replay = f.bool()
		case 6:
			s.ShareRoom = uint16(f.max(1<<16 - 1))
		default:
			f.ref(&s.Ref)
		}
	}
	return f.err("subscribe")
}

// AppendUnsubscribe adds the command. Fields: reference, 4 filter (repeated).
func AppendUnsubscribe(dst []byte, u *Unsubscribe) []byte {
	dst, mark := begin(dst, KindUnsubscribe)
	dst = putRef(dst, &u.Ref)
	for _, filter := range u.Filters {
		dst = protowire.AppendTag(dst, 4, protowire.BytesType)
		dst = protowire.AppendString(dst, filter)
	}
	return closeAt(dst, mark)
}

// Decode reads the payload of an unsubscribe command, reusing u.Filters. It aliases b.
func (u *Unsubscribe) Decode(b []byte) error {
	*u = Unsubscribe{Filters: u.Filters[:0]}
	f := fields{b: b}
	for f.next() {
		if f.num != 4 {
			f.ref(&u.Ref)
			continue
		}
		u.Filters = append(u.Filters, f.string())
	}
	return f.err("unsubscribe")
}

// AppendAck adds the command. Fields: reference, 4 sent to, 5 done, 6 received.
// Done and Received must be sorted and start at 1 or above.
func AppendAck(dst []byte, a *Ack) []byte {
	dst, mark := begin(dst, KindAck)
	dst = putRef(dst, &a.Ref)
	dst = putUint(dst, 4, a.SentTo)
	dst = appendRanges(dst, 5, a.Done)
	dst = appendRanges(dst, 6, a.Received)
	return closeAt(dst, mark)
}

// Decode reads the payload of an ack command, reusing its slices. It aliases b.
func (a *Ack) Decode(b []byte) error {
	*a = Ack{Done: a.Done[:0], Received: a.Received[:0]}
	f := fields{b: b}
	for f.next() {
		switch f.num {
		case 4:
			a.SentTo = f.uint()
		case 5:
			a.Done = f.ranges(a.Done[:0])
		case 6:
			a.Received = f.ranges(a.Received[:0])
		default:
			f.ref(&a.Ref)
		}
	}
	return f.err("ack")
}
