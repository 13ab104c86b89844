package session

import (
	"sync"
	"time"
)

const (
	// wheelTick is how late a silent client may be found, wheelSlots how many
	// ticks a turn has. A connection whose time is beyond a turn is looked at
	// once per turn.
	wheelTick  = 250 * time.Millisecond
	wheelSlots = 512
)

// wheel finds connections that are silent for too long. A packet costs it
// nothing: a connection stands in the slot of the time at which it would be
// late, and when that comes it is asked, and moved if it was not silent. Its
// goroutine runs while it holds a connection.
type wheel struct {
	now func() int64 // ns since the server began
	wg  *sync.WaitGroup

	mu      sync.Mutex
	slots   [wheelSlots]*Conn // guarded by mu, like the links in Conn
	cursor  int64             // the tick that was last looked at
	count   int
	running bool
	quit    chan struct{} // closed by stop
	stopped bool
}

func newWheel(now func() int64, wg *sync.WaitGroup) *wheel {
	return &wheel{now: now, wg: wg, quit: make(chan struct{})}
}

// add puts c where it is asked at the time due (ns).
func (w *wheel) add(c *Conn, due int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped || c.wheelSlot != 0 {
		return
	}
	if !w.running {
		w.running = true
		w.cursor = w.now() / int64(wheelTick)
		w.wg.Add(1)
		go w.run()
	}
	w.addLocked(c, due)
}

func (w *wheel) addLocked(c *Conn, due int64) {
	// Rounded up: nobody is asked before the time.
	tick := (due + int64(wheelTick) - 1) / int64(wheelTick)
	tick = min(max(tick, w.cursor+1), w.cursor+wheelSlots-1)
	i := tick % wheelSlots
	c.wheelSlot = i + 1
	c.wheelPrev, c.wheelNext = nil, w.slots[i]
	if c.wheelNext != nil {
		c.wheelNext.wheelPrev = c
	}
	w.slots[i] = c
	w.count++
}

// remove takes c out, if it is in.
func (w *wheel) remove(c *Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.removeLocked(c)
}

func (w *wheel) removeLocked(c *Conn) {
	if c.wheelSlot == 0 {
		return
	}
	if c.wheelPrev != nil {
		c.wheelPrev.wheelNext = c.wheelNext
	} else {
		w.slots[c.wheelSlot-1] = c.wheelNext
	}
	if c.wheelNext != nil {
		c.wheelNext.wheelPrev = c.wheelPrev
	}
	c.wheelSlot, c.wheelPrev, c.wheelNext = 0, nil, nil
	w.count--
}

func (w *wheel) run() {
	defer w.wg.Done()
	t := time.NewTicker(wheelTick)
	defer t.Stop()
	var due []*Conn
	for {
		select {
		case <-w.quit:
			return
		case <-t.C:
		}
		now := w.now()
		var more bool
		if due, more = w.advance(now, due[:0]); !more {
			return
		}
		for _, c := range due {
			if at, ok := c.silentUntil(now); ok {
				w.add(c, at)
			}
		}
		clear(due)
	}
}

// advance collects the connections of the slots up to now. It returns false,
// and the goroutine ends, when the wheel was empty already.
func (w *wheel) advance(now int64, due []*Conn) ([]*Conn, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.count == 0 {
		w.running = false
		return due, false
	}
	for end := now / int64(wheelTick); w.cursor < end; {
		w.cursor++
		for c := w.slots[w.cursor%wheelSlots]; c != nil; c = w.slots[w.cursor%wheelSlots] {
			w.removeLocked(c)
			due = append(due, c)
		}
		if w.count == 0 {
			w.cursor = end
		}
	}
	return due, true
}

// stop ends the goroutine.
func (w *wheel) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.stopped {
		w.stopped = true
		close(w.quit)
	}
}

// silentUntil is asked by the wheel when c may have been silent for 1.5 times
// its keep-alive. It returns when to ask next, or closes c. A connection whose
// reader is busy is not silent: the client cannot be heard meanwhile.
func (c *Conn) silentUntil(now int64) (int64, bool) {
	if c.closing.Load() {
		return 0, false
	}
	limit := c.keepAlive * 3 / 2
	since := c.waitingSince.Load()
	if since == 0 {
		return now + int64(limit), true
	}
	if due := since + int64(limit); due > now {
		return due, true
	}
	c.close(causeOf(closeKeepAlive, "nothing heard for 1.5 times the keep-alive"))
	return 0, false
}
