package session

import (
	"net"
	"sync"
)

const (
	// chunkBytes is what a chunk starts with; sealBytes is where it is closed
	// and another begins, so that a long outbox never moves what it holds.
	chunkBytes, sealBytes = 2 << 10, 16 << 10
	// refBytes is the size from which a shared packet is referenced rather
	// than copied: below it one more buffer in writev costs more than the copy.
	refBytes = 4 << 10
)

// chunk is a pooled buffer.
type chunk struct{ b []byte }

// chunkPool lends buffers to the outboxes of a server.
type chunkPool struct{ p sync.Pool }

func newChunkPool() *chunkPool {
	return &chunkPool{p: sync.Pool{New: func() any { return &chunk{b: make([]byte, 0, chunkBytes)} }}}
}

func (p *chunkPool) get() *chunk { return p.p.Get().(*chunk) }

func (p *chunkPool) put(c *chunk) {
	// What one large packet has grown is not kept for the small ones.
	if cap(c.b) > 2*sealBytes {
		return
	}
	c.b = c.b[:0]
	p.p.Put(c)
}

// outbox gathers encoded packets in order until the writer takes them. It is
// guarded by Conn.mu. An idle outbox holds no buffer.
type outbox struct {
	pool *chunkPool
	// segs are the closed segments; owned are those of them that go back to
	// the pool. tail is open.
	segs  net.Buffers
	owned []*chunk
	tail  *chunk
	// bytes counts what has been added and not yet written, including what
	// the writer has taken.
	bytes int
	taken int
}

// grow returns a buffer to which a packet of about n bytes is appended; commit
// takes the result.
func (o *outbox) grow(n int) []byte {
	if o.tail != nil && len(o.tail.b) > 0 && len(o.tail.b)+n > sealBytes {
		o.seal()
	}
	if o.tail == nil {
		o.tail = o.pool.get()
	}
	return o.tail.b
}

func (o *outbox) commit(b []byte) {
	o.bytes += len(b) - len(o.tail.b)
	o.tail.b = b
}

// ref adds a packet that other outboxes share and nobody changes.
func (o *outbox) ref(b []byte) {
	o.seal()
	o.segs = append(o.segs, b)
	o.bytes += len(b)
}

func (o *outbox) seal() {
	if o.tail == nil || len(o.tail.b) == 0 {
		return
	}
	o.segs = append(o.segs, o.tail.b)
	o.owned = append(o.owned, o.tail)
	o.tail = nil
}

// pending reports whether there is something to take.
func (o *outbox) pending() bool {
	return len(o.segs) > 0 || (o.tail != nil && len(o.tail.b) > 0)
}

// waiting is how many bytes the writer has not taken. What it has taken is on its
// way: one packet of the largest size in there must not cost those behind it.
func (o *outbox) waiting() int { return o.bytes - o.taken }

// batch is what one write takes.
type batch struct {
	one   *chunk // the common case: a single chunk
	segs  net.Buffers
	owned []*chunk
}

// take hands everything to the writer, which must call written.
func (o *outbox) take() batch {
	o.taken = o.bytes
	if len(o.segs) == 0 {
		b := batch{one: o.tail}
		o.tail = nil
		return b
	}
	o.seal()
	b := batch{segs: o.segs, owned: o.owned}
	o.segs, o.owned = nil, nil
	return b
}

// written accounts for a batch that left.
func (o *outbox) written() {
	o.bytes -= o.taken
	o.taken = 0
}

// discard drops what was not taken.
func (o *outbox) discard() {
	b := batch{one: o.tail, owned: o.owned}
	o.tail, o.segs, o.owned = nil, nil, nil
	o.bytes = o.taken
	b.release(o.pool)
}

// release gives the buffers of a batch back.
func (b *batch) release(p *chunkPool) {
	if b.one != nil {
		p.put(b.one)
	}
	for _, c := range b.owned {
		p.put(c)
	}
	*b = batch{}
}
