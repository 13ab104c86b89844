package cluster

import (
	"errors"
	"sync"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/router"
)

// Messages for connected subscribers that are not served from an inbox travel
// as forwards: one ordered stream from each node to each other node. It is a
// lane whose far end is a node instead of a shard, so the same machinery
// batches, bounds and resends it.

var (
	errForwardGap   = errors.New("forward frame out of sequence")
	errForwardStale = errors.New("forward frame for another incarnation of this node")
	// errTargetGone ends the forwards to a node that is down or was replaced.
	errTargetGone = errors.New("the target node is gone")
)

// forwardHeader stands before the messages of a forward frame.
type forwardHeader struct {
	targetInc uint64 // frames for an incarnation that is gone are void
	sourceInc uint64
	seq       uint64
}

// What a forward holds beside tenant and message.
const (
	// forwardPlain: it is for everybody who has a plain subscription.
	forwardPlain = 1 << iota
	// forwardOrigin: a shard originated it. Its key lets the target skip what an
	// earlier leader has forwarded.
	forwardOrigin
	// forwardPicks: shares that picked this node to give it to one member each.
	forwardPicks
)

// appendForward encodes one message of a forward.
func appendForward(b []byte, o *outgoing, plain bool, picks []*router.ShareRoute) []byte {
	flags := uint64(0)
	if plain {
		flags |= forwardPlain
	}
	if o.origin.Shard != 0 {
		flags |= forwardOrigin
	}
	if len(picks) > 0 {
		flags |= forwardPicks
	}
	b = putUint(putBytes(b, o.tenant), flags)
	if o.origin.Shard != 0 {
		b = putUint(b, uint64(o.origin.Shard))
		b = putUint(b, o.origin.Seq)
		b = putUint(b, o.origin.Low)
	}
	if len(picks) > 0 {
		b = putUint(b, uint64(len(picks)))
	}
	for _, g := range picks {
		b = putBytes(putBytes(b, g.Name), g.Filter)
	}
	return putBytes(b, o.raw)
}

// forwarded is one message of a forward as it came.
type forwarded struct {
	tenant string
	plain  bool
	origin command.OriginKey
	picks  []sharePick
	raw    []byte
}

type sharePick struct{ name, filter string }

func (d *dec) forwarded(f *forwarded) {
	f.tenant = d.string()
	flags := d.uint()
	f.plain, f.origin, f.picks = flags&forwardPlain != 0, command.OriginKey{}, f.picks[:0]
	if flags&forwardOrigin != 0 {
		f.origin = command.OriginKey{Shard: uint32(d.uint()), Seq: d.uint(), Low: d.uint()}
	}
	if flags&forwardPicks != 0 {
		for range d.count() {
			f.picks = append(f.picks, sharePick{name: d.string(), filter: d.string()})
		}
	}
	f.raw = d.bytes()
}

// sealForward is the seal of a forward lane.
func sealForward(targetInc uint64) func(command.BatchHeader, *laneBatch) []byte {
	return func(h command.BatchHeader, b *laneBatch) []byte {
		out := make([]byte, 0, len(b.body)+32)
		out = putUint(out, targetInc)
		out = putUint(out, h.Incarnation)
		out = putUint(out, h.Seq)
		return append(out, b.body...)
	}
}

// forwardSink is the receiving end of all forwards to this node.
type forwardSink struct {
	self    func() uint64 // this node's incarnation
	deliver func(f *forwarded, m *command.Message)

	mu      sync.Mutex
	sources map[string]*forwardSource
	origins map[uint32]*originSeen
}

// forwardSource is how far one node's stream to an incarnation of this one was taken.
type forwardSource struct {
	target, inc, seq uint64
}

func newForwardSink(self func() uint64, deliver func(*forwarded, *command.Message)) *forwardSink {
	return &forwardSink{self: self, deliver: deliver, sources: map[string]*forwardSource{}, origins: map[uint32]*originSeen{}}
}

// handle takes one frame: nil means that every message in it was given to its
// subscribers, now or by an earlier copy of the frame.
func (s *forwardSink) handle(from string, frame []byte) error {
	d := dec{b: frame}
	h := forwardHeader{targetInc: d.uint(), sourceInc: d.uint(), seq: d.uint()}
	if d.bad {
		return errFrame
	}
	if inc := s.self(); inc == 0 || h.targetInc != inc {
		return errForwardStale
	}
	fresh, err := s.advance(from, h)
	if err != nil || !fresh {
		return err
	}
	var f forwarded
	for len(d.b) > 0 {
		d.forwarded(&f)
		if d.bad {
			return errFrame
		}
		m, err := command.DecodeMessage(f.raw)
		if err != nil {
			return errFrame
		}
		if f.origin.Shard != 0 && s.seenOrigin(f.origin.Shard, f.origin.Seq, f.origin.Low) {
			continue
		}
		s.deliver(&f, &m)
	}
	return nil
}

// advance moves a source's position. Frames of one source come on one link, in
// order, so the position can be taken before the messages are delivered.
func (s *forwardSink) advance(from string, h forwardHeader) (fresh bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	src := s.sources[from]
	if src == nil {
		src = new(forwardSource)
		s.sources[from] = src
	}
	// A frame may have been judged before this node began a new incarnation, and come here after it: the position
	// in the old stream is none in the new one.
	if h.targetInc > src.target {
		*src = forwardSource{target: h.targetInc}
	}
	if h.targetInc < src.target || h.sourceInc < src.inc {
		return false, errForwardStale
	}
	if h.sourceInc > src.inc {
		src.inc, src.seq = h.sourceInc, 0
	}
	switch {
	case h.seq <= src.seq:
		return false, nil
	case h.seq > src.seq+1:
		return false, errForwardGap
	}
	src.seq = h.seq
	return true, nil
}

// reset forgets all sources: a new incarnation of this node starts.
func (s *forwardSink) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sources = map[string]*forwardSource{}
}

// originSeen is which originated messages of one shard were delivered here:
// all below low, and those in above.
type originSeen struct {
	low   uint64
	above map[uint64]struct{}
}

// seenOrigin notes an originated message and tells whether it was delivered
// before. low is the source's promise that everything below it is done.
func (s *forwardSink) seenOrigin(shard uint32, seq, low uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.origins[shard]
	if o == nil {
		o = &originSeen{above: map[uint64]struct{}{}}
		s.origins[shard] = o
	}
	if low > o.low {
		o.low = low
		for k := range o.above {
			if k < low {
				delete(o.above, k)
			}
		}
	}
	if seq < o.low {
		return true
	}
	if _, ok := o.above[seq]; ok {
		return true
	}
	o.above[seq] = struct{}{}
	return false
}
