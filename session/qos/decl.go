package qos

// State of a delivery in flight.
type State byte

// The states of a delivery.
const (
	Sent     State = 1 // PUBLISH sent, no acknowledgement yet
	Received State = 2 // PUBREC arrived (QoS 2): PUBREL until PUBCOMP
)

// Delivery is one entry of a Window.
type Delivery struct {
	Seq   uint64 // inbox sequence; 0 for a connection-scoped delivery
	QoS   byte   // 1 or 2
	State State
}

// IDs allocates connection-scoped packet ids, 32,768 to 65,535, in turn.
type IDs struct{}

// Take returns the next free id; ErrSpan if it is still in use.
func (i *IDs) Take() (uint16, error) { panic("not yet") }

// Release frees an id; false if it was not in use.
func (i *IDs) Release(id uint16) bool { panic("not yet") }

// Len returns the number of ids in use.
func (i *IDs) Len() int { panic("not yet") }

// Window holds what one connection was sent and has not acknowledged.
type Window struct{}

// NewWindow returns an empty window. limit is the client's Receive Maximum; 0 means 65,535.
func NewWindow(limit uint16) *Window { panic("not yet") }

// Free returns how many more QoS 1 and 2 publishes may be sent now.
func (w *Window) Free() int { panic("not yet") }

// Len returns the number of deliveries in flight, of both kinds.
func (w *Window) Len() int { panic("not yet") }

// Send admits the inbox delivery seq (above the last one) and returns its packet id. ErrQuota, ErrSpan, ErrOrder.
func (w *Window) Send(seq uint64, qos byte) (pid uint16, err error) { panic("not yet") }

// Resume admits the inbox delivery seq in State Received (a PUBREL is owed, not a PUBLISH): needs no quota, but occupies it. ErrSpan, ErrOrder.
func (w *Window) Resume(seq uint64) (pid uint16, err error) { panic("not yet") }

// SendLocal admits a connection-scoped delivery and returns its packet id. ErrQuota, ErrSpan.
func (w *Window) SendLocal(qos byte) (pid uint16, err error) { panic("not yet") }

// Lookup returns what is in flight under a packet id.
func (w *Window) Lookup(pid uint16) (Delivery, bool) { panic("not yet") }

// Puback ends a QoS 1 delivery. ErrPacketID, ErrWrongAck.
func (w *Window) Puback(pid uint16) (Delivery, error) { panic("not yet") }

// Pubrec moves a QoS 2 delivery to Received, or ends it if failed (reason code 0x80 or above). The returned delivery has its state from before: Received means a repeated PUBREC.
func (w *Window) Pubrec(pid uint16, failed bool) (Delivery, error) { panic("not yet") }

// Pubcomp ends a QoS 2 delivery in State Received. ErrPacketID, ErrWrongAck.
func (w *Window) Pubcomp(pid uint16) (Delivery, error) { panic("not yet") }

// Drop ends a delivery that was admitted but never written (too large for the client, connection closing).
func (w *Window) Drop(pid uint16) bool { panic("not yet") }

// Oldest returns the lowest inbox sequence in flight; false if there is none.
func (w *Window) Oldest() (seq uint64, ok bool) { panic("not yet") }

// SentTo returns the highest inbox sequence admitted on this connection, 0 before the first.
func (w *Window) SentTo() uint64 { panic("not yet") }

// AckKind is the packet that an Ack becomes.
type AckKind byte

// The acknowledgements that a broker owes for inbound packets.
const (
	Puback  AckKind = 1
	Pubrec  AckKind = 2
	Pubcomp AckKind = 3
)

// Ack is an acknowledgement owed to the client.
type Ack struct {
	Kind     AckKind
	PacketID uint16
	Code     byte // MQTT 5 reason code
}

// Slot names one pending acknowledgement of an AckRing.
type Slot uint64

// AckRing releases acknowledgements in the order of their packets, whatever the order in which they complete. The zero value is empty and ready. Acks is the usual instance.
type AckRing[T any] struct{ _ T }

// Acks is the ring of the acknowledgements of a connection.
type Acks = AckRing[Ack]

// Add appends a pending acknowledgement.
func (r *AckRing[T]) Add(v T) Slot { panic("not yet") }

// Done completes the acknowledgement at s with its final value. It reports whether Pop has something to return now; false also if s was completed before.
func (r *AckRing[T]) Done(s Slot, v T) (ready bool) { panic("not yet") }

// Get returns the value at s while it has not been popped.
func (r *AckRing[T]) Get(s Slot) (v T, ok bool) { panic("not yet") }

// Pop removes and returns the oldest acknowledgement if it is complete.
func (r *AckRing[T]) Pop() (v T, ok bool) { panic("not yet") }

// Len returns the number of acknowledgements that were added and not popped.
func (r *AckRing[T]) Len() int { panic("not yet") }

// Inbound holds what the client has sent with QoS 1 and 2 and the broker has not acknowledged: the server's Receive Maximum and the QoS 2 packet ids.
type Inbound struct{}

// NewInbound returns an empty Inbound. receiveMax is what CONNACK announced (0 means 65,535; for v3 clients pass what the server would announce, they are bound to nothing: use it to stop reading);
// maxIDs bounds the unreleased QoS 2 ids of the session (0 means 65,535).
func NewInbound(receiveMax uint16, maxIDs int) *Inbound { panic("not yet") }

// Resume loads the QoS 2 ids of a resumed session that await their PUBREL. They do not count against the Receive Maximum of this connection.
func (in *Inbound) Resume(pids []uint16) { panic("not yet") }

// Publish takes quota for an inbound PUBLISH of QoS 1 or 2. dup: a QoS 2 publish whose id is not released yet: acknowledge it again, do not pass it on. ErrReceiveMaximum, ErrTooManyIDs; on an error nothing is taken.
func (in *Inbound) Publish(qos byte, pid uint16) (dup bool, err error) { panic("not yet") }

// Acked gives back what a leaves: PUBACK and PUBCOMP give back their quota, PUBREC with a code of 0x80 or above also its id. Call it once for each Ack that goes out.
func (in *Inbound) Acked(a Ack) { panic("not yet") }

// Holds reports whether a QoS 2 id awaits its PUBREL.
func (in *Inbound) Holds(pid uint16) bool { panic("not yet") }

// InFlight returns how much of the Receive Maximum is in use.
func (in *Inbound) InFlight() int { panic("not yet") }

// Free returns how many more publishes the client may send.
func (in *Inbound) Free() int { panic("not yet") }

// IDs returns the number of unreleased QoS 2 ids.
func (in *Inbound) IDs() int { panic("not yet") }

// AliasIn holds the topic aliases that a client has set on its connection.
type AliasIn struct{}

// NewAliasIn returns an empty table. max is the Topic Alias Maximum that CONNACK announced; 0 allows none.
func NewAliasIn(max uint16) *AliasIn { panic("not yet") }

// Resolve returns the topic of a PUBLISH with this topic name and alias (0: none), and remembers the pair if both are there. The result is valid until the next Resolve. ErrAliasInvalid, ErrAliasUnknown.
func (a *AliasIn) Resolve(alias uint16, topic []byte) ([]byte, error) { panic("not yet") }

// AliasOut chooses topic aliases for what is sent to a client.
type AliasOut struct{}

// NewAliasOut returns an empty table. max is the client's Topic Alias Maximum, already capped by the server's own limit (at most MaxAliasOut are used).
func NewAliasOut(max uint16) *AliasOut { panic("not yet") }

// Use returns the alias to send with a topic, 0 for none, and whether the client knows it already, so that the topic name can be left out. The packet must then be sent, in order; if it is not, call Forget.
func (a *AliasOut) Use(topic []byte) (alias uint16, known bool) { panic("not yet") }

// Forget takes back an alias whose packet was not sent.
func (a *AliasOut) Forget(alias uint16) { panic("not yet") }
