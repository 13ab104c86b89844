package peer

import (
	"sync"
)

// idleBuffer is the largest buffer that an idle outbox keeps.
const idleBuffer = 64 << 10

// outbox collects frames, encoded, until the writer of a connection takes
// them all at once. It has two buffers: one fills while the other is written.
type outbox struct {
	limit int           // bytes, of both buffers together
	wake  chan struct{} // capacity 1: there is something to take
	room  chan struct{} // capacity 1: something was written

	mu    sync.Mutex
	buf   []byte
	spare []byte
	taken int // bytes at the writer
	count int // frames in buf
}

func newOutbox(limit int) *outbox {
	return &outbox{limit: limit, wake: make(chan struct{}, 1), room: make(chan struct{}, 1)}
}

// add queues a frame, or returns ErrBusy. One frame always finds room in an
// empty outbox.
func (o *outbox) add(k Kind, flags byte, id uint32, payload []byte) error {
	o.mu.Lock()
	if n := len(o.buf) + o.taken; n > 0 && n+headerBytes+len(payload) > o.limit {
		o.mu.Unlock()
		return ErrBusy
	}
	first := len(o.buf) == 0
	o.buf = appendFrame(o.buf, k, flags, id, payload)
	o.count++
	o.mu.Unlock()
	if first {
		o.signal()
	}
	return nil
}

func (o *outbox) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// take returns all frames that wait. The writer gives the buffer back with written.
func (o *outbox) take() (buf []byte, frames int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.buf) == 0 {
		return nil, 0
	}
	buf, frames = o.buf, o.count
	o.buf, o.spare, o.count = o.spare[:0], nil, 0
	o.taken = len(buf)
	return buf, frames
}

// progress says that n of the taken bytes were written.
func (o *outbox) progress(n int) {
	o.mu.Lock()
	o.taken -= n
	o.mu.Unlock()
	select {
	case o.room <- struct{}{}:
	default:
	}
}

// written takes the buffer back.
func (o *outbox) written(buf []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.taken = 0
	o.spare = buf[:0]
}

// reset drops all frames, and tells how many.
func (o *outbox) reset() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := o.count
	o.buf, o.spare, o.taken, o.count = nil, nil, 0, 0
	return n
}

// shrink gives memory back if nothing waits.
func (o *outbox) shrink() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.buf) == 0 && cap(o.buf) > idleBuffer {
		o.buf = nil
	}
	if cap(o.spare) > idleBuffer {
		o.spare = nil
	}
}

// size returns the bytes that are not written yet.
func (o *outbox) size() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.buf) + o.taken
}
