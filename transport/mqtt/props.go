package mqtt

// Property is one property that travels with a message.
type Property struct {
	ID    PropertyID
	Num   uint32 // PropPayloadFormat
	Key   []byte // PropUser: the name
	Value []byte // the string or bytes of the others
}

// ReadProps calls fn for each property in props (Publish.Props or Will.Props),
// in order, until fn returns false. The slices alias props. It fails if props
// is not a valid sequence of the properties that travel with a message.
func ReadProps(props []byte, fn func(Property) bool) error { panic("todo") }

// MessageProps is Publish.Props taken apart. The zero value of a field, other
// than Correlation and a payload format with its flag, means absent.
type MessageProps struct {
	PayloadIsUTF8  bool // payload format indicator 1
	ContentType    string
	ResponseTopic  string
	Correlation    []byte // nil = absent
	UserProperties []UserProperty
}

// ParseMessageProps takes props apart and copies.
func ParseMessageProps(props []byte) (MessageProps, error) { panic("todo") }

// Append appends the wire form of m, for Publish.Props. It fails if a field
// breaks the protocol.
func (m *MessageProps) Append(dst []byte) ([]byte, error) { panic("todo") }
