package qos

// The two halves of the packet ids that the broker uses towards a client.
const (
	// InboxIDs is the number of packet ids of inbox deliveries: 1 to 32,767.
	InboxIDs = 32767
	// FirstLocalID is the first packet id of connection-scoped deliveries
	// (transient sessions, retained replay): 32,768 to 65,535.
	FirstLocalID = 32768
	// LocalIDs is the number of connection-scoped packet ids.
	LocalIDs = 65536 - FirstLocalID
)

// PacketID returns the packet id, 1 to 32,767, of the inbox delivery with this
// sequence. Any node computes the same id for the same delivery, so that a
// client finds it unchanged after a takeover. Sequences start at 1.
func PacketID(seq uint64) uint16 {
	return uint16(seq%InboxIDs) + 1
}
