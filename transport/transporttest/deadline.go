package transporttest

import (
	"sync"
	"time"
)

// deadline is a channel that is closed while a moment has passed.
type deadline struct {
	mu    sync.Mutex
	gen   uint64 // grows at each set: a timer of an older one does nothing
	timer *time.Timer
	ch    chan struct{}
	shut  bool // ch is closed
}

func newDeadline() *deadline { return &deadline{ch: make(chan struct{})} }

// wait returns a channel that is closed when the deadline passes; it stays
// valid when the deadline is moved.
func (d *deadline) wait() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ch
}

func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gen++
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	left := time.Until(t)
	if !t.IsZero() && left <= 0 {
		d.shutLocked()
		return
	}
	if d.shut {
		d.ch, d.shut = make(chan struct{}), false
	}
	if t.IsZero() {
		return
	}
	gen := d.gen
	d.timer = time.AfterFunc(left, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.gen == gen {
			d.shutLocked()
		}
	})
}

func (d *deadline) shutLocked() {
	if !d.shut {
		close(d.ch)
		d.shut = true
	}
}
