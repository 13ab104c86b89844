package mqtt

// Unsubscribe ends subscriptions. Decoded, it owns all its memory.
type Unsubscribe struct {
	PacketID  uint16
	Filters   []string
	UserProps []UserProperty // MQTT 5 only
}

// Type returns TypeUnsubscribe.
func (*Unsubscribe) Type() Type { return TypeUnsubscribe }

func decodeUnsubscribe(d *decoder) *Unsubscribe {
	u := &Unsubscribe{PacketID: d.packetID()}
	if d.v == V5 && d.err == nil {
		_, u.UserProps = d.reason(inUnsubscribe)
	}
	if d.err == nil && d.rest() == 0 {
		d.fail(protocolError(d.v, rule{"v5:MQTT-3.10.3-2", "v311:MQTT-3.10.3-2", "v31:3.10"}, "no topic filter"))
	}
	for d.rest() > 0 {
		if len(u.Filters) == d.lim.MaxFilters {
			d.fail(newError(d.v, QuotaExceeded, rule{}, "too many topic filters"))
			break
		}
		if f := d.filter(); d.err == nil {
			u.Filters = append(u.Filters, f)
		}
	}
	return u
}

func (u *Unsubscribe) encode(e *encoder) {
	if len(u.Filters) == 0 {
		e.fail(invalidf("no topic filter"))
	}
	e.begin()
	e.packetID(u.PacketID)
	if e.v == V5 {
		e.openProps()
		e.users(u.UserProps)
		e.closeProps()
	}
	for _, f := range u.Filters {
		e.filter(f)
	}
	e.end(byte(TypeUnsubscribe)<<4 | 0x02)
}
