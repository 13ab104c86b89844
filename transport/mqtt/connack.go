package mqtt

// Connack answers CONNECT. In properties, the zero value of each field means
// what the absence of the property means.
type Connack struct {
	SessionPresent bool
	// Code is translated for older versions, see ReasonCode.ReturnCode.
	Code ReasonCode

	// MQTT 5 properties.
	HasSessionExpiry           bool
	SessionExpiry              uint32 // seconds
	ReceiveMaximum             uint16 // 65535 if absent; 0 is sent as absent
	HasMaximumQoS              bool
	MaximumQoS                 byte // 0 or 1; absent means 2
	RetainUnavailable          bool
	MaximumPacketSize          uint32 // bytes; 0 = no limit
	AssignedClientID           string
	TopicAliasMaximum          uint16
	ReasonString               string
	UserProps                  []UserProperty
	WildcardUnavailable        bool
	SubscriptionIDsUnavailable bool
	SharedUnavailable          bool
	HasServerKeepAlive         bool
	ServerKeepAlive            uint16 // seconds
	ResponseInfo               string
	ServerReference            string
	AuthMethod                 string
	AuthData                   []byte
}

// Type returns TypeConnack.
func (*Connack) Type() Type { return TypeConnack }
