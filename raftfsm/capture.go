package raftfsm

import (
	"context"
	"fmt"
	"sync"
)

// Capture is the state of a group's machine at one applied index, kept while it is read: later entries do not change
// it. Read gives a snapshot stream (stream.go). Close gives it up.
type Capture struct {
	// Index is the group's applied index, Term the leadership under which it was captured.
	Index, Term uint64
	*streamReader
}

// Capture captures the machine of the group's leader, after everything that was committed before the call. at is called
// at that very index, on the apply goroutine, after the machine was written back: it must not block. It may be nil.
func (g *Group) Capture(ctx context.Context, at func()) (*Capture, error) {
	term := g.leadTerm.Load()
	if term == 0 || !g.IsLeader() {
		return nil, ErrNotLeader
	}
	type outcome struct {
		c   *Capture
		err error
	}
	var mu sync.Mutex // held by whoever decides about the outcome, so that none is left behind
	gone := false
	got := make(chan outcome, 1)
	g.proposals.addBarrier(func(_ uint64, err error) {
		mu.Lock()
		defer mu.Unlock()
		if gone {
			return
		}
		var c *Capture
		if err == nil {
			c, err = g.capture(term, at)
		}
		got <- outcome{c, err}
	})
	give := func(err error) (*Capture, error) {
		mu.Lock()
		defer mu.Unlock()
		gone = true
		select {
		case o := <-got:
			if o.c != nil {
				_ = o.c.Close() // nobody wants it any more
			}
		default:
		}
		return nil, err
	}
	select {
	case o := <-got:
		return o.c, o.err
	case <-ctx.Done():
		return give(context.Cause(ctx))
	case <-g.stop:
		return give(ErrClosed)
	}
}

// capture runs on the apply goroutine, in the answer to a barrier.
func (g *Group) capture(term uint64, at func()) (*Capture, error) {
	if g.isDead() {
		return nil, ErrClosed
	}
	if err := g.cfg.Machine.WriteBack(); err != nil {
		err = fmt.Errorf("write back group %d: %w", g.cfg.ID, err)
		g.h.fst.fail(err)
		return nil, err
	}
	if at != nil {
		at()
	}
	index := g.applied.get()
	r, err := g.h.state.newLiveReader(streamHead{group: g.cfg.ID, index: index}, g.stateMeta().generation)
	if err != nil {
		return nil, fmt.Errorf("capture group %d: %w", g.cfg.ID, err)
	}
	return &Capture{Index: index, Term: term, streamReader: r}, nil
}
