package mqtt

// Publish carries an application message. A decoded Publish and its slices are
// valid until the next call of Next; Clone keeps one.
type Publish struct {
	Dup, Retain bool
	QoS         byte
	PacketID    uint16 // 0 with QoS 0
	Topic       []byte // empty only with a TopicAlias
	Payload     []byte

	// MQTT 5 properties. Older versions drop them at encode.
	TopicAlias      uint16 // 0 = none
	HasExpiry       bool
	Expiry          uint32   // seconds
	SubscriptionIDs []uint32 // server to client only
	// Props holds, as wire bytes without the length, the properties that travel
	// with the message unchanged and in order: payload format indicator,
	// content type, response topic, correlation data and user properties. It is
	// validated at decode and copied verbatim at encode. See ReadProps and
	// MessageProps.
	Props []byte
}

// Type returns TypePublish.
func (*Publish) Type() Type { return TypePublish }

// Clone returns a copy that shares no memory with p.
func (p *Publish) Clone() *Publish { panic("todo") }

// PublishSize returns the size of the whole encoded packet in bytes, to compare
// with a client's Maximum Packet Size before encoding.
func PublishSize(v Version, p *Publish) int { panic("todo") }

// AppendPublish appends p as version v sends it. It does not validate: the
// caller guarantees a QoS of at most 2, a packet id with QoS 1 and 2, a topic
// of at most 65,535 bytes and a size that the wire format can carry. It does
// not allocate if dst has room.
func AppendPublish(dst []byte, v Version, p *Publish) []byte { panic("todo") }

// AppendPublishHeader appends what comes before the payload, so that one
// payload can be written to many connections without copying it.
func AppendPublishHeader(dst []byte, v Version, p *Publish) []byte { panic("todo") }
