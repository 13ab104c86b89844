package mqtt

// Disconnect ends the connection. Only clients send it before MQTT 5, and then
// without any field.
type Disconnect struct {
	Code             ReasonCode
	HasSessionExpiry bool
	SessionExpiry    uint32 // seconds
	ReasonString     string
	ServerReference  string
	UserProps        []UserProperty
}

// Type returns TypeDisconnect.
func (*Disconnect) Type() Type { return TypeDisconnect }
