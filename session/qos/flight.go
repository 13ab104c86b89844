package qos

// minRing and keepRing bound the memory of a ring: the first allocation, and
// what an empty ring may keep.
const (
	minRing  = 8
	keepRing = 1024
)

// flight is a sparse window over growing sequences: one byte per sequence from
// the oldest entry to the newest. A zero byte is a hole. The bytes outside
// [base, next) are zero, so that a gap between two sequences costs no work.
type flight struct {
	ring []byte // length is zero or a power of two
	base uint64 // the oldest entry, if n > 0
	next uint64 // above the newest sequence ever put
	n    int
}

func (f *flight) at(seq uint64) byte {
	if f.n == 0 || seq < f.base || seq >= f.next {
		return 0
	}
	return f.ring[seq&uint64(len(f.ring)-1)]
}

// fits reports whether seq can join without spreading over more than span sequences.
func (f *flight) fits(seq, span uint64) bool {
	return f.n == 0 || seq-f.base < span
}

// put adds an entry. The caller has checked that seq >= f.next and that it fits.
func (f *flight) put(seq uint64, b byte) {
	if f.n == 0 {
		f.base = seq
	}
	if need := seq - f.base + 1; need > uint64(len(f.ring)) {
		f.grow(need)
	}
	f.ring[seq&uint64(len(f.ring)-1)] = b
	f.next = seq + 1
	f.n++
}

func (f *flight) grow(need uint64) {
	size := uint64(max(len(f.ring), minRing))
	for size < need {
		size *= 2
	}
	ring := make([]byte, size)
	if f.n > 0 {
		for s := f.base; s < f.next; s++ {
			ring[s&(size-1)] = f.ring[s&uint64(len(f.ring)-1)]
		}
	}
	f.ring = ring
}

// set changes an entry that exists.
func (f *flight) set(seq uint64, b byte) {
	f.ring[seq&uint64(len(f.ring)-1)] = b
}

// del removes an entry that exists.
func (f *flight) del(seq uint64) {
	mask := uint64(len(f.ring) - 1)
	f.ring[seq&mask] = 0
	f.n--
	if f.n == 0 {
		if len(f.ring) > keepRing {
			f.ring = nil
		}
		return
	}
	for f.ring[f.base&mask] == 0 {
		f.base++
	}
}

// congruent returns the only sequence of the window that is r modulo m, where
// the window spans at most m sequences; false if there is no entry at it.
func (f *flight) congruent(r, m uint64) (uint64, bool) {
	if f.n == 0 {
		return 0, false
	}
	seq := f.base + (r+m-f.base%m)%m
	return seq, f.at(seq) != 0
}
