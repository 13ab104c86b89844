package bench

// gaps knows which sequence numbers of a stream have come, in the room that
// the gaps take. The zero value has seen nothing; sequences begin with 1.
type gaps struct {
	next    uint64 // all below, but for missing, have come
	missing []span // ascending, not touching
}

// span is a run of missing sequence numbers.
type span struct{ from, to uint64 } // to is excluded

// arrival says what a message is in its stream.
type arrival byte

const (
	inOrder    arrival = iota + 1
	ahead              // earlier ones are missing
	late               // it was missing: out of order
	duplicated         // it has come before
)

func (g *gaps) add(seq uint64) arrival {
	if g.next == 0 {
		g.next = 1
	}
	switch {
	case seq == g.next:
		g.next++
		return inOrder
	case seq > g.next:
		g.missing = append(g.missing, span{g.next, seq})
		g.next = seq + 1
		return ahead
	}
	for i := len(g.missing) - 1; i >= 0; i-- {
		s := g.missing[i]
		if seq >= s.to {
			return duplicated
		}
		if seq >= s.from {
			g.fill(i, seq)
			return late
		}
	}
	return duplicated
}

// fill takes seq out of the i-th span.
func (g *gaps) fill(i int, seq uint64) {
	s := g.missing[i]
	switch {
	case s.to-s.from == 1:
		g.missing = append(g.missing[:i], g.missing[i+1:]...)
	case seq == s.from:
		g.missing[i].from++
	case seq == s.to-1:
		g.missing[i].to--
	default:
		g.missing = append(g.missing, span{})
		copy(g.missing[i+2:], g.missing[i+1:])
		g.missing[i], g.missing[i+1] = span{s.from, seq}, span{seq + 1, s.to}
	}
}

// has says whether seq has come.
func (g *gaps) has(seq uint64) bool {
	if seq >= g.next {
		return false
	}
	for _, s := range g.missing {
		if seq >= s.from && seq < s.to {
			return false
		}
	}
	return true
}

// count is how many different ones have come.
func (g *gaps) count() uint64 {
	if g.next == 0 {
		return 0
	}
	n := g.next - 1
	for _, s := range g.missing {
		n -= s.to - s.from
	}
	return n
}
