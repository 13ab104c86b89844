package raftfsm

import (
	"net"
	"sync"
	"time"
)

// frameWriter writes the frames of many goroutines to one stream. Whoever comes while nobody writes
// writes at once, and takes along what others hand in meanwhile: nobody waits for company, and company
// costs no system call.
type frameWriter struct {
	conn net.Conn
	// patience is how long a write may make no progress.
	patience time.Duration

	mu      sync.Mutex
	waiting []byte // frames that the goroutine that writes takes along
	spare   []byte // the other buffer
	writing bool
	err     error
}

// keptBuffer is how much memory a writer keeps between bursts.
const keptBuffer = 64 << 10

// send hands in a frame. An error says that the stream has ended; without one the frame is written
// unless the stream ends first.
func (w *frameWriter) send(f frame) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return w.err
	}
	w.waiting = appendFrame(w.waiting, f)
	if w.writing {
		return nil
	}
	w.writing = true
	for w.err == nil && len(w.waiting) > 0 {
		out := w.waiting
		w.waiting, w.spare = w.spare[:0], nil
		w.mu.Unlock()
		err := w.write(out)
		w.mu.Lock()
		w.err = err
		if cap(out) <= keptBuffer {
			w.spare = out
		}
	}
	w.writing = false
	return w.err
}

// write writes all of b. The deadline is for progress: what is large may take long on a slow link.
func (w *frameWriter) write(b []byte) error {
	for len(b) > 0 {
		if err := w.conn.SetWriteDeadline(time.Now().Add(w.patience)); err != nil {
			return err
		}
		n, err := w.conn.Write(b[:min(len(b), chunkBytes)])
		if err != nil {
			_ = w.conn.Close() // whoever reads it learns it, too
			return err
		}
		b = b[n:]
	}
	return nil
}
