package state

import (
	"encoding/binary"
	"fmt"
)

// sweepStep is how many records of ended sessions one write-back deletes at most.
const sweepStep = 20000

// sweep deletes the inbox records of ended sessions, some in each write-back: a full
// inbox must not stall the shard. They are no part of the logical state.
func (w *writer) sweep() error {
	s := w.s
	budget := sweepStep
	for len(s.sweeps) > 0 && budget > 0 {
		sid := s.sweeps[0]
		lo, hi := keyU64(nil, keyEntry, sid), keyU64(nil, keyEntry, sid+1)
		var bad error
		end := hi
		err := s.store.Iterate(lo, hi, func(k, v []byte) bool {
			if budget == 0 {
				end = append([]byte(nil), k...)
				return false
			}
			budget--
			seq, err := seqOfKey(k)
			if err != nil {
				bad = err
				return false
			}
			c, _, err := readEntry(seq, v)
			if err != nil {
				bad = err
				return false
			}
			w.sweepEntry(sid, &c)
			return true
		})
		if err == nil {
			err = bad
		}
		if err != nil {
			return fmt.Errorf("sweep session %d: %w", sid, err)
		}
		w.b.DeleteRange(lo, end)
		if len(end) == len(hi) {
			w.b.Delete(keyU64(nil, keySwept, sid))
			s.sweeps = s.sweeps[1:]
		}
	}
	return nil
}

func (w *writer) sweepEntry(sid uint64, c *coldEntry) {
	if c.shared != 0 {
		w.refs[c.shared]--
	}
	if c.expiresAt != 0 {
		w.b.Delete(keyX(w.key[:0], c.expiresAt, sid, c.seq))
	}
}

func appendU32(dst []byte, v uint32) []byte { return binary.BigEndian.AppendUint32(dst, v) }

func beUint64(b []byte) uint64 { return binary.BigEndian.Uint64(b) }
