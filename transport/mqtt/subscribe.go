package mqtt

import "strings"

// Subscribe asks for subscriptions. Decoded, it owns all its memory.
type Subscribe struct {
	PacketID       uint16
	SubscriptionID uint32 // 0 = none; MQTT 5 only
	Filters        []SubscribeFilter
	UserProps      []UserProperty // MQTT 5 only
}

// SubscribeFilter is one topic filter with its options. All but QoS exist in
// MQTT 5 only. The grammar of the filter is the router's to check.
type SubscribeFilter struct {
	Filter            string
	QoS               byte
	NoLocal           bool
	RetainAsPublished bool
	RetainHandling    byte // 0 send retained, 1 only for a new subscription, 2 never
}

// Type returns TypeSubscribe.
func (*Subscribe) Type() Type { return TypeSubscribe }

// The subscription options.
const (
	optQoS               = 0x03
	optNoLocal           = 0x04
	optRetainAsPublished = 0x08
	optRetainHandling    = 0x30
	optReserved          = 0xC0
)

const sharePrefix = "$share/"

func decodeSubscribe(d *decoder) *Subscribe {
	s := &Subscribe{PacketID: d.packetID()}
	if d.v == V5 && d.err == nil {
		p := d.props(inSubscribe)
		for p.next() {
			switch p.id {
			case PropSubscriptionID:
				s.SubscriptionID = p.num
			case PropUser:
				s.UserProps = append(s.UserProps, p.user())
			}
		}
		p.close(d)
	}
	if d.err == nil && d.rest() == 0 {
		d.fail(protocolError(d.v, rule{"v5:MQTT-3.8.3-2", "v311:MQTT-3.8.3-3", "v31:3.8"}, "no topic filter"))
	}
	for d.rest() > 0 {
		if len(s.Filters) == d.lim.MaxFilters {
			d.fail(newError(d.v, QuotaExceeded, rule{}, "too many topic filters"))
			break
		}
		f := SubscribeFilter{Filter: d.filter()}
		f.setOptions(d, d.u8())
		if d.err == nil {
			s.Filters = append(s.Filters, f)
		}
	}
	return s
}

func (f *SubscribeFilter) setOptions(d *decoder, opts byte) {
	if d.err != nil {
		return
	}
	reserved, reservedRule := byte(optReserved), rule{v5: "v5:MQTT-3.8.3-5"}
	if d.v != V5 {
		reserved, reservedRule = ^byte(optQoS), rule{v311: "v311:MQTT-3-8.3-4", v31: "v31:3.8"}
	}
	f.QoS = opts & optQoS
	f.NoLocal = opts&optNoLocal != 0
	f.RetainAsPublished = opts&optRetainAsPublished != 0
	f.RetainHandling = opts & optRetainHandling >> 4
	switch {
	case opts&reserved != 0:
		d.fail(malformed(d.v, reservedRule, "reserved subscription option is set"))
	case f.QoS > 2 && d.v == V5:
		d.fail(protocolError(d.v, rule{v5: "v5:3.8.3.1"}, "maximum QoS is 3"))
	case f.QoS > 2:
		d.fail(malformed(d.v, reservedRule, "requested QoS is 3"))
	case f.RetainHandling > 2:
		d.fail(protocolError(d.v, rule{v5: "v5:3.8.3.1"}, "retain handling is 3"))
	case f.NoLocal && strings.HasPrefix(f.Filter, sharePrefix):
		d.fail(protocolError(d.v, rule{v5: "v5:MQTT-3.8.3-4"}, "no local on a shared subscription"))
	}
}

func (s *Subscribe) encode(e *encoder) {
	if len(s.Filters) == 0 {
		e.fail(invalidf("no topic filter"))
	}
	e.begin()
	e.packetID(s.PacketID)
	if e.v == V5 {
		e.openProps()
		if s.SubscriptionID != 0 {
			if s.SubscriptionID > MaxRemaining {
				e.fail(invalidf("subscription identifier %d", s.SubscriptionID))
			}
			e.u8(byte(PropSubscriptionID))
			e.b = appendVarint(e.b, int(s.SubscriptionID&MaxRemaining))
		}
		e.users(s.UserProps)
		e.closeProps()
	}
	for i := range s.Filters {
		f := &s.Filters[i]
		e.filter(f.Filter)
		e.u8(f.options(e))
	}
	e.end(byte(TypeSubscribe)<<4 | 0x02)
}

func (f *SubscribeFilter) options(e *encoder) byte {
	switch {
	case f.QoS > 2:
		e.fail(invalidf("QoS %d", f.QoS))
	case f.RetainHandling > 2:
		e.fail(invalidf("retain handling %d", f.RetainHandling))
	case f.NoLocal && strings.HasPrefix(f.Filter, sharePrefix):
		e.fail(invalidf("no local on a shared subscription"))
	case e.v != V5 && (f.NoLocal || f.RetainAsPublished || f.RetainHandling != 0):
		e.fail(ErrNotRepresentable)
	}
	opts := f.QoS | f.RetainHandling<<4
	if f.NoLocal {
		opts |= optNoLocal
	}
	if f.RetainAsPublished {
		opts |= optRetainAsPublished
	}
	return opts
}
