package state

import (
	"math"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
)

// prefetch reads from the store what the entry will need of cold inboxes, before
// mu is taken. What it reads is a superset: commands earlier in the entry may
// remove some of it, never add to it.
func (s *Shard) prefetch(e command.Entry, clock int64) error {
	clear(s.cold)
	s.due = dueScan{list: s.due.list[:0]}
	if s.restore != nil && !s.restore.loaded {
		return s.prefetchRestore(e)
	}
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
			if anyCold && c.Kind == command.KindShareSettle {
				if err := s.prefetchSettle(c.Payload); err != nil {
					return err
				}
			}
			if due && c.Kind == command.KindTick {
				due = false
				s.due.pos = s.expiryDone
				limit := s.tickItems
				if s.cmd.tick.Decode(c.Payload) == nil && s.cmd.tick.Rules < 2 {
					limit = math.MaxInt
				}
				if err := s.readDue(clock, limit); err != nil {
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
	return s.prefetchRanges(ss, a.Done, a.Received)
}

// prefetchSettle reads the cold queue entries that a member settles.
func (s *Shard) prefetchSettle(payload []byte) error {
	c := &s.cmd.settle
	if err := c.Decode(payload); err != nil {
		return err
	}
	ss := s.findShare(c.Member.Tenant, c.Filter)
	if ss == nil || ss.sid != c.Share || ss.box.coldLive() == 0 {
		return nil
	}
	return s.prefetchRanges(ss, c.Done)
}

func (s *Shard) prefetchRanges(ss *session, lists ...[]command.Range) error {
	b := ss.box
	for _, list := range lists {
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
