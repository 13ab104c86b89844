package mqttc

import (
	"slices"
	"sync"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// Session is the client's half of an MQTT session: what is in flight. It
// outlives the connection and belongs to one Client at a time.
type Session struct {
	mu sync.Mutex
	// Under mu:
	owner    *Client             // nil: free
	flights  map[uint16]*flight  // by packet id
	free     []*flight           // for reuse
	last     uint16              // packet id handed out last
	seq      uint64              // order of sending
	received map[uint16]struct{} // QoS 2 packet ids that await PUBREL
}

// flight is one packet id in use: a publish, or a request that waits.
type flight struct {
	pub      mqtt.Publish // copy, slices owned
	token    uint64
	seq      uint64
	released bool            // PUBREC has come
	request  bool            // SUBSCRIBE or UNSUBSCRIBE, not a publish
	answer   chan<- response // capacity 1; nil for Send
}

// response ends a wait.
type response struct {
	ack   Ack
	codes []mqtt.ReasonCode
	err   error
}

// maxFree bounds how many finished flights a session keeps for reuse.
const maxFree = 4096

// NewSession returns an empty session.
func NewSession() *Session {
	return &Session{flights: make(map[uint16]*flight), received: make(map[uint16]struct{})}
}

// InFlight is a publish that is not acknowledged.
type InFlight struct {
	Publish *mqtt.Publish // a copy, with PacketID
	Token   uint64
	// Released means that PUBREC has come: PUBREL is what would be sent again.
	Released bool
}

// InFlight returns what is not acknowledged, in the order of sending.
func (s *Session) InFlight() []InFlight {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.inFlightLocked()
}

// Len is how many packet ids are in use, those of requests included.
func (s *Session) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.flights)
}

func (s *Session) inFlightLocked() []InFlight {
	fs := s.publishesLocked()
	out := make([]InFlight, len(fs))
	for i, f := range fs {
		p := f.pub
		p.Topic, p.Payload, p.Props = slices.Clone(p.Topic), slices.Clone(p.Payload), slices.Clone(p.Props)
		out[i] = InFlight{Publish: &p, Token: f.token, Released: f.released}
	}
	return out
}

// publishesLocked returns the publishes in flight in the order of sending.
func (s *Session) publishesLocked() []*flight {
	fs := make([]*flight, 0, len(s.flights))
	for _, f := range s.flights {
		if !f.request {
			fs = append(fs, f)
		}
	}
	slices.SortFunc(fs, func(a, b *flight) int {
		if a.seq < b.seq {
			return -1
		}
		return 1
	})
	return fs
}

// Received returns the QoS 2 packet ids that await PUBREL, ascending.
func (s *Session) Received() []uint16 {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := make([]uint16, 0, len(s.received))
	for id := range s.received {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

func (s *Session) forgetReceived() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.received)
}

// Clear forgets everything, as after a CONNACK without session present. It
// returns what was in flight. It must not be called while a Client has it.
func (s *Session) Clear() []InFlight {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.inFlightLocked()
	clear(s.flights)
	clear(s.received)
	return out
}

// addLocked takes a packet id. It returns nil if all are in use.
func (s *Session) addLocked() *flight {
	if len(s.flights) >= 65535 {
		return nil
	}
	for {
		s.last++
		if s.last == 0 {
			s.last = 1
		}
		if _, used := s.flights[s.last]; !used {
			break
		}
	}
	var f *flight
	if n := len(s.free); n > 0 {
		f, s.free = s.free[n-1], s.free[:n-1]
	} else {
		f = new(flight)
	}
	s.seq++
	f.seq = s.seq
	f.pub.PacketID = s.last
	s.flights[s.last] = f
	return f
}

// holdLocked copies p into f, so that it can be sent again on another
// connection: without the topic alias, which dies with this one.
func (f *flight) holdLocked(p *mqtt.Publish) {
	id, topic, payload, props := f.pub.PacketID, f.pub.Topic, f.pub.Payload, f.pub.Props
	f.pub = *p
	f.pub.PacketID = id
	f.pub.Dup = false
	f.pub.TopicAlias = 0
	f.pub.SubscriptionIDs = nil
	f.pub.Topic = append(topic[:0], p.Topic...)
	f.pub.Payload = append(payload[:0], p.Payload...)
	f.pub.Props = append(props[:0], p.Props...)
}

// removeLocked frees the packet id of f.
func (s *Session) removeLocked(f *flight) {
	delete(s.flights, f.pub.PacketID)
	*f = flight{pub: mqtt.Publish{Topic: f.pub.Topic[:0], Payload: f.pub.Payload[:0], Props: f.pub.Props[:0]}}
	if len(s.free) < maxFree && cap(f.pub.Payload) <= 64<<10 {
		s.free = append(s.free, f)
	}
}
