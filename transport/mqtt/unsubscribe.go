package mqtt

// Unsubscribe ends subscriptions.
type Unsubscribe struct {
	PacketID  uint16
	Filters   []string
	UserProps []UserProperty // MQTT 5 only
}

// Type returns TypeUnsubscribe.
func (*Unsubscribe) Type() Type { return TypeUnsubscribe }
