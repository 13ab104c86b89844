package state

import (
	"encoding/binary"
	"fmt"
)

// Audit checks that the records of a store that was just written back fit
// together: every shared message is referred to as often as its count says and by
// nobody else, and the expiry index names exactly the entries that expire. Inboxes
// that wait to be swept are exempt from the index, not from the counts.
func Audit(st Store) error {
	refs := map[uint64]uint64{}
	index := map[string]bool{}
	swept := map[uint64]bool{}
	err := eachOf(st, keySwept, func(k, _ []byte) error {
		swept[binary.BigEndian.Uint64(k[1:])] = true
		return nil
	})
	if err != nil {
		return err
	}
	err = eachOf(st, keyEntry, func(k, v []byte) error {
		sid, seq := binary.BigEndian.Uint64(k[1:]), binary.BigEndian.Uint64(k[9:])
		c, _, err := readEntry(seq, v)
		if err != nil {
			return err
		}
		if c.shared != 0 {
			refs[c.shared]++
		}
		if c.expiresAt != 0 {
			index[string(keyX(nil, c.expiresAt, sid, seq))] = true
		}
		return nil
	})
	if err == nil {
		err = eachOf(st, keyRetained, func(_, v []byte) error {
			var r retained
			err := r.read(v)
			refs[r.id]++
			return err
		})
	}
	if err == nil {
		err = eachOf(st, keyExpiry, func(k, _ []byte) error {
			if !index[string(k)] && !swept[binary.BigEndian.Uint64(k[9:])] {
				return fmt.Errorf("expiry index names an entry that is gone: %x", k)
			}
			delete(index, string(k))
			return nil
		})
	}
	for k := range index {
		if !swept[binary.BigEndian.Uint64([]byte(k[9:]))] {
			return fmt.Errorf("entry is missing in the expiry index: %x", k)
		}
	}
	if err != nil {
		return err
	}
	return auditCounts(st, refs)
}

func auditCounts(st Store, refs map[uint64]uint64) error {
	counts := 0
	err := eachOf(st, keyCount, func(k, v []byte) error {
		counts++
		id := binary.BigEndian.Uint64(k[1:])
		r := recordReader{b: v}
		if n := r.uint(); n != refs[id] {
			return fmt.Errorf("message %d: count %d, references %d", id, n, refs[id])
		}
		return nil
	})
	if err != nil {
		return err
	}
	if counts != len(refs) {
		return fmt.Errorf("%d counts for %d messages that are referred to", counts, len(refs))
	}
	return eachOf(st, keyMessage, func(k, _ []byte) error {
		counts--
		if id := binary.BigEndian.Uint64(k[1:]); refs[id] == 0 {
			return fmt.Errorf("message %d belongs to nobody", id)
		}
		return nil
	})
}

// RetainedLooked is how many topics a search looks at.
func RetainedLooked(s *Shard, tenant, filter string) int {
	q := retainedQuery{s: s, RetainedQuery: RetainedQuery{Filter: filter, Limit: 1 << 30}}
	q.collect(s.tenants[tenant].retained)
	return q.looked
}

// Ordered is the sorted list, for its test.
type Ordered struct{ o *ordered[int] }

func NewOrdered() Ordered { return Ordered{newOrdered(func(a, b int) int { return a - b })} }

func (o Ordered) Insert(v int) { o.o.insert(v) }
func (o Ordered) Remove(v int) { o.o.remove(v) }
func (o Ordered) Len() int     { return o.o.n }

func (o Ordered) From(v int) (out []int) {
	o.o.ascend(func(it int) int { return it - v }, func(it int) bool { out = append(out, it); return true })
	return out
}

// RangeSet is the set of sequences, for its test.
type RangeSet struct{ s rangeSet }

func (r *RangeSet) Add(v uint64) bool  { return r.s.add(v) }
func (r *RangeSet) Has(v uint64) bool  { return r.s.contains(v) }
func (r *RangeSet) DropBelow(v uint64) { r.s.dropBelow(v) }
func (r *RangeSet) Ranges() int        { return len(r.s) }
func (r *RangeSet) Valid() bool {
	for i := range r.s {
		if r.s[i].From > r.s[i].To || i > 0 && r.s[i].From <= r.s[i-1].To+1 {
			return false
		}
	}
	return true
}

// SetAuthorLimits changes how long (in ms) and how many authors are remembered, on all machines of a test.
func SetAuthorLimits(s *Shard, kept int64, most int) { s.authorLimits = authorLimits{kept, most} }

// Authors lists them, those that wrote longest ago first: tenant, client, epoch and when.
func Authors(s *Shard) (out []string) {
	s.authors.byAge.ascend(func(*author) int { return 1 }, func(a *author) bool {
		out = append(out, fmt.Sprintf("%s/%s %d at %d", a.key.Tenant, a.key.ClientID, a.epoch, a.seen))
		return true
	})
	if len(out) != len(s.authors.byKey) {
		out = append(out, fmt.Sprintf("and %d by name", len(s.authors.byKey)))
	}
	return out
}

// SetTickItems changes how much one Tick does, on all machines of a test.
func SetTickItems(s *Shard, n int) { s.tickItems = n }
