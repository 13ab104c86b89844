package mqtt

// Unsuback answers UNSUBSCRIBE. All but PacketID exist in MQTT 5 only.
type Unsuback struct {
	PacketID     uint16
	Codes        []ReasonCode
	ReasonString string
	UserProps    []UserProperty
}

// Type returns TypeUnsuback.
func (*Unsuback) Type() Type { return TypeUnsuback }
