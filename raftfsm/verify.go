package raftfsm

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// viewStore is a group's stored state as it was at one moment, beside a machine that goes on.
type viewStore struct {
	t    *stateStore
	snap *pebble.Snapshot
}

var _ Store = (*viewStore)(nil)

// StoredView captures the stored state of the replica, for a look at all of it. done gives it up. Changes of it fail.
func (g *Group) StoredView() (st Store, done func() error, err error) {
	if err := g.h.state.enter(); err != nil {
		return nil, nil, err
	}
	// A snapshot that is installed meanwhile makes another generation the current one: then the view may be empty.
	for {
		generation := g.stateMeta().generation
		v := &viewStore{t: g.h.state.store(g.cfg.ID, generation), snap: g.h.state.db.NewSnapshot()}
		if g.stateMeta().generation == generation {
			return v, func() error { defer g.h.state.exit(); return v.snap.Close() }, nil
		}
		if err := v.snap.Close(); err != nil {
			g.h.state.exit()
			return nil, nil, err
		}
	}
}

// Get implements Store.
func (v *viewStore) Get(key []byte) ([]byte, error) {
	b, closer, err := v.snap.Get(v.t.key(key))
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("read state of group %d: %w", v.t.group, err)
	}
	b = append([]byte(nil), b...)
	return b, closer.Close()
}

// Iterate implements Store.
func (v *viewStore) Iterate(lower, upper []byte, fn func(k, v []byte) bool) error {
	hi := v.t.upper()
	if upper != nil {
		hi = v.t.key(upper)
	}
	it, err := v.snap.NewIter(&pebble.IterOptions{LowerBound: v.t.key(lower), UpperBound: hi})
	if err != nil {
		return fmt.Errorf("iterate state of group %d: %w", v.t.group, err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		b, err := it.ValueAndErr()
		if err != nil {
			return errors.Join(fmt.Errorf("iterate state of group %d: %w", v.t.group, err), it.Close())
		}
		if !fn(it.Key()[statePrefixLen:], b) {
			return it.Close()
		}
	}
	return errors.Join(it.Error(), it.Close())
}

// NewBatch implements Store. Its Commit fails.
func (v *viewStore) NewBatch() Batch { return refusingBatch{} }

// refusingBatch takes nothing.
type refusingBatch struct{}

func (refusingBatch) Set(_, _ []byte)         {}
func (refusingBatch) Delete([]byte)           {}
func (refusingBatch) DeleteRange(_, _ []byte) {}
func (refusingBatch) Commit() error           { return errReadOnly }
func (refusingBatch) Len() int                { return 0 }
