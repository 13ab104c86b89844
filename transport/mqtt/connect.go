package mqtt

// Connect opens a connection. Decoded, it owns all its slices.
type Connect struct {
	Version    Version
	CleanStart bool   // Clean Session before MQTT 5
	KeepAlive  uint16 // seconds; 0 = off
	ClientID   string
	Username   string
	Password   []byte
	Will       *Will // nil = none

	HasUsername bool
	HasPassword bool

	// MQTT 5 properties.
	HasSessionExpiry    bool
	SessionExpiry       uint32 // seconds; 0xFFFFFFFF = never expires
	ReceiveMaximum      uint16 // 65535 if absent; 0 is sent as absent
	TopicAliasMaximum   uint16
	MaximumPacketSize   uint32 // bytes; 0 = no limit
	RequestResponseInfo bool
	RequestProblemInfo  bool   // true if absent
	AuthMethod          string // "" = absent
	AuthData            []byte
	UserProps           []UserProperty
}

// Will is the message that the server publishes if the connection is lost.
type Will struct {
	Topic   string
	Payload []byte
	QoS     byte
	Retain  bool

	// MQTT 5 properties.
	Delay     uint32 // seconds
	HasExpiry bool
	Expiry    uint32 // seconds, counted from the will's publication
	Props     []byte // as in Publish
}

// Type returns TypeConnect.
func (*Connect) Type() Type { return TypeConnect }
