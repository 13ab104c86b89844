package mqtt

import "slices"

// Property is one property that travels with a message.
type Property struct {
	ID    PropertyID
	Num   uint32 // PropPayloadFormat
	Key   []byte // PropUser: the name
	Value []byte // the string or bytes of the others
}

// ReadProps calls fn for each property in props (Publish.Props or Will.Props),
// in order, until fn returns false. The slices alias props. It fails with an
// *Error if props is not a valid sequence of the properties that travel with a
// message.
func ReadProps(props []byte, fn func(Property) bool) error {
	r := propReader{b: props, place: inMessage}
	for r.next() {
		p := Property{ID: r.id}
		switch r.id {
		case PropPayloadFormat:
			p.Num = r.num
		case PropUser:
			p.Key, p.Value = r.key, r.value
		default:
			p.Value = r.value
		}
		if !fn(p) {
			return nil
		}
	}
	if r.err != nil {
		return r.err
	}
	return nil
}

// MessageProps is Publish.Props taken apart. The zero value of each field means
// that the property is absent.
type MessageProps struct {
	PayloadIsUTF8  bool // payload format indicator 1; 0 is the same as absent
	ContentType    string
	ResponseTopic  string
	Correlation    []byte
	UserProperties []UserProperty
}

// ParseMessageProps takes props apart and copies.
func ParseMessageProps(props []byte) (MessageProps, error) {
	var m MessageProps
	err := ReadProps(props, func(p Property) bool {
		switch p.ID {
		case PropPayloadFormat:
			m.PayloadIsUTF8 = p.Num == 1
		case PropContentType:
			m.ContentType = string(p.Value)
		case PropResponseTopic:
			m.ResponseTopic = string(p.Value)
		case PropCorrelationData:
			m.Correlation = slices.Clone(p.Value)
		case PropUser:
			m.UserProperties = append(m.UserProperties, UserProperty{string(p.Key), string(p.Value)})
		}
		return true
	})
	return m, err
}

// Append appends the wire form of m, for Publish.Props. It fails with
// ErrInvalidPacket if a field breaks the protocol; dst is then returned
// unchanged.
func (m *MessageProps) Append(dst []byte) ([]byte, error) {
	e := encoder{b: dst, v: V5}
	e.propFlag(PropPayloadFormat, m.PayloadIsUTF8, false)
	e.propText(PropContentType, m.ContentType)
	if m.ResponseTopic != "" {
		e.u8(byte(PropResponseTopic))
		e.topic(m.ResponseTopic)
	}
	if m.Correlation != nil {
		e.u8(byte(PropCorrelationData))
		e.bin(m.Correlation)
	}
	e.users(m.UserProperties)
	if e.err != nil {
		return dst, e.err
	}
	return e.b, nil
}
