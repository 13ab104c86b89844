package mqtt

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
