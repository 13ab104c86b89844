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
