package command

// Message is an application message. It is encoded once, by the gateway that
// received it, and these bytes are what every shard stores.
type Message struct {
	Topic   []byte
	Payload []byte
	// Props are the v5 properties that travel unchanged, as wire bytes.
	Props  []byte
	QoS    byte
	Retain bool
	// Expiry is the message expiry interval in seconds, counted from the apply of
	// the command by the shard's own clock, if HasExpiry.
	HasExpiry bool
	Expiry    uint32
	// PublishedAt is the gateway's clock in unix ms. It serves metrics only.
	PublishedAt int64
	// Publisher is the client id of the publisher, of the same tenant (No Local).
	Publisher string
	// Epoch is that of the publisher's connection, 0 if there is none. It is no part of the
	// encoding: a command that needs it carries it (Publish).
	Epoch uint64
}
