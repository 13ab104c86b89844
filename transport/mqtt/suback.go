package mqtt

// Suback answers SUBSCRIBE, one code per filter in order. To older versions
// every failure is sent as 0x80.
type Suback struct {
	PacketID     uint16
	Codes        []ReasonCode
	ReasonString string
	UserProps    []UserProperty
}

// Type returns TypeSuback.
func (*Suback) Type() Type { return TypeSuback }
