package qos

import "fmt"

// AckKind is the packet that an Ack becomes.
type AckKind byte

// The acknowledgements that a broker owes for inbound publishes.
const (
	Puback  AckKind = 1
	Pubrec  AckKind = 2
	Pubcomp AckKind = 3
)

// String returns the name of the packet.
func (k AckKind) String() string {
	switch k {
	case Puback:
		return "PUBACK"
	case Pubrec:
		return "PUBREC"
	case Pubcomp:
		return "PUBCOMP"
	default:
		return fmt.Sprintf("AckKind(%d)", byte(k))
	}
}

// Ack is an acknowledgement owed to the client.
type Ack struct {
	Kind     AckKind
	PacketID uint16
	Code     byte // MQTT 5 reason code
}

// Slot names one acknowledgement of an AckRing for as long as the ring lives.
type Slot uint64

// AckRing releases acknowledgements in the order of their packets, whatever the
// order in which they complete. The zero value is empty and ready; [Acks] is
// the usual instance. It grows to the most that was ever pending and allocates
// nothing from then on. It has no bound of its own: the Receive Maximum is.
type AckRing[T any] struct {
	ring []pending[T] // length is zero or a power of two
	head Slot         // the oldest
	tail Slot         // the next to add
}

type pending[T any] struct {
	v    T
	done bool
}

// Acks is the ring of the acknowledgements of one connection.
type Acks = AckRing[Ack]

// Add appends an acknowledgement that is not complete yet.
func (r *AckRing[T]) Add(v T) Slot {
	if r.Len() == len(r.ring) {
		r.grow()
	}
	s := r.tail
	*r.at(s) = pending[T]{v: v}
	r.tail++
	return s
}

// Done completes the acknowledgement at s with its final value. It reports
// whether Pop has something to return now. A slot completes once: a second Done
// for it, or one after it was popped, changes nothing.
func (r *AckRing[T]) Done(s Slot, v T) (ready bool) {
	if r.holds(s) {
		if p := r.at(s); !p.done {
			*p = pending[T]{v: v, done: true}
		}
	}
	return r.Len() > 0 && r.at(r.head).done
}

// Get returns the value at s as long as it has not been popped.
func (r *AckRing[T]) Get(s Slot) (v T, ok bool) {
	if !r.holds(s) {
		return v, false
	}
	return r.at(s).v, true
}

// Pop removes and returns the oldest acknowledgement if it is complete.
func (r *AckRing[T]) Pop() (v T, ok bool) {
	if r.Len() == 0 {
		return v, false
	}
	p := r.at(r.head)
	if !p.done {
		return v, false
	}
	v = p.v
	*p = pending[T]{} // let go of what v refers to
	r.head++
	if r.Len() == 0 && len(r.ring) > keepRing {
		r.ring = nil
	}
	return v, true
}

// Len returns the number of acknowledgements that were added and not popped.
func (r *AckRing[T]) Len() int { return int(r.tail - r.head) }

func (r *AckRing[T]) holds(s Slot) bool { return s >= r.head && s < r.tail }

func (r *AckRing[T]) at(s Slot) *pending[T] { return &r.ring[uint64(s)&uint64(len(r.ring)-1)] }

func (r *AckRing[T]) grow() {
	old := *r
	r.ring = make([]pending[T], max(minRing, 2*len(old.ring)))
	for s := old.head; s < old.tail; s++ {
		*r.at(s) = *old.at(s)
	}
}
