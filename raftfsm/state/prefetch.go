package state

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
)

// prefetch reads from the store what the entry will need of cold inboxes, before
// mu is taken. What it reads is a superset: commands earlier in the entry may
// remove some of it, never add to it.
func (s *Shard) prefetch(e command.Entry, clock int64) error {
	clear(s.cold)
	s.coldDue = s.coldDue[:0]
	s.nextColdExpiry = s.coldExpiry
	anyCold := s.inboxMessages > uint64(s.hotEntries)
	due := s.coldExpiry != 0 && s.coldExpiry <= clock
	if !anyCold && !due {
		return nil
	}
	for {
		ok, err := e.Next(&s.cmd.batch)
		if err != nil || !ok {
			return err
		}
		it := s.cmd.batch.Commands()
		var c command.Command
		for {
			ok, err := it.Next(&c)
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			if anyCold && c.Kind == command.KindAck {
				if err := s.prefetchAck(c.Payload); err != nil {
					return err
				}
			}
			if due && c.Kind == command.KindTick {
				due = false
				if err := s.prefetchDue(clock); err != nil {
					return err
				}
			}
		}
	}
}

// prefetchAck reads the cold entries that an ack names.
func (s *Shard) prefetchAck(payload []byte) error {
	a := &s.cmd.ack
	if err := a.Decode(payload); err != nil {
		return err
	}
	ss := s.find(a.Ref.SessionKey)
	if ss == nil || ss.box == nil || ss.box.coldLive() == 0 {
		return nil
	}
	b := ss.box
	for _, list := range [...][]command.Range{a.Done, a.Received} {
		for _, r := range list {
			from, to := max(r.From, b.floor), min(r.To, b.hot-1)
			if from > to {
				continue
			}
			err := s.readCold(ss.sid, from, to+1, func(c coldEntry) bool {
				s.cold[coldKey{ss.sid, c.seq}] = c
				return true
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// prefetchDue reads the store's expiry index up to the clock, and the entries that
// it names.
func (s *Shard) prefetchDue(clock int64) error {
	var bad error
	next := int64(0)
	err := s.store.Iterate(keyU64(nil, keyExpiry, uint64(s.expiryDone+1)), []byte{keyExpiry + 1}, func(k, _ []byte) bool {
		if len(k) != 25 {
			bad = fmt.Errorf("expiry index key of %d bytes: %w", len(k), ErrCorrupt)
			return false
		}
		d := dueEntry{at: int64(binary.BigEndian.Uint64(k[1:])), sid: binary.BigEndian.Uint64(k[9:]), seq: binary.BigEndian.Uint64(k[17:])}
		if d.at > clock {
			next = d.at
			return false
		}
		s.coldDue = append(s.coldDue, d)
		return true
	})
	if err == nil {
		err = bad
	}
	if err != nil {
		return err
	}
	s.nextColdExpiry = next
	slices.SortFunc(s.coldDue, func(a, b dueEntry) int {
		return cmp.Or(cmp.Compare(a.sid, b.sid), cmp.Compare(a.seq, b.seq))
	})
	for _, d := range s.coldDue {
		ss := s.byID[d.sid]
		if ss == nil || ss.box == nil || d.seq >= ss.box.hot {
			continue
		}
		v, err := s.store.Get(keyU64s(nil, keyEntry, d.sid, d.seq))
		if errors.Is(err, ErrNotFound) {
			continue // gone since the last write-back
		}
		if err != nil {
			return err
		}
		c, _, err := readEntry(d.seq, v)
		if err != nil {
			return err
		}
		s.cold[coldKey{d.sid, d.seq}] = c
	}
	return nil
}
