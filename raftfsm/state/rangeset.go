package state

import (
	"slices"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
)

// rangeSet is a set of sequence numbers as sorted, disjoint, non-adjacent ranges.
// Numbers mostly come in rising order, so that it stays short.
type rangeSet []command.Range

// find is the index of the first range that ends at or above seq.
func (s rangeSet) find(seq uint64) int {
	n := len(s)
	if n == 0 || s[n-1].To < seq {
		return n
	}
	if s[0].To >= seq {
		return 0
	}
	i, _ := slices.BinarySearchFunc(s, seq, func(r command.Range, v uint64) int {
		switch {
		case r.To < v:
			return -1
		case r.To > v:
			return 1
		}
		return 0
	})
	return i
}

func (s rangeSet) contains(seq uint64) bool {
	i := s.find(seq)
	return i < len(s) && s[i].From <= seq
}

// add puts one number into the set; false if it was there.
func (s *rangeSet) add(seq uint64) bool {
	rs := *s
	i := rs.find(seq)
	if i < len(rs) && rs[i].From <= seq {
		return false
	}
	left := i > 0 && rs[i-1].To+1 == seq
	right := i < len(rs) && rs[i].From == seq+1
	switch {
	case left && right:
		rs[i-1].To = rs[i].To
		rs = slices.Delete(rs, i, i+1)
	case left:
		rs[i-1].To = seq
	case right:
		rs[i].From = seq
	default:
		rs = slices.Insert(rs, i, command.Range{From: seq, To: seq})
	}
	*s = rs
	return true
}

// size is how many numbers are in the set.
func (s rangeSet) size() (n uint64) {
	for _, r := range s {
		n += r.To - r.From + 1
	}
	return n
}

// remove takes one number out of the set; false if it is not there.
func (s *rangeSet) remove(seq uint64) bool {
	rs := *s
	i := rs.find(seq)
	if i == len(rs) || rs[i].From > seq {
		return false
	}
	switch r := rs[i]; {
	case r.From == r.To && i == 0:
		rs = rs[1:] // the usual case: moving the rest would cost its length
	case r.From == r.To:
		rs = slices.Delete(rs, i, i+1)
	case r.From == seq:
		rs[i].From++
	case r.To == seq:
		rs[i].To--
	default:
		rs[i].To = seq - 1
		rs = slices.Insert(rs, i+1, command.Range{From: seq + 1, To: r.To})
	}
	*s = rs
	return true
}

// dropBelow removes all numbers below low.
func (s *rangeSet) dropBelow(low uint64) {
	rs := *s
	rs = rs[rs.find(low):]
	if len(rs) > 0 && rs[0].From < low {
		rs[0].From = low
	}
	*s = rs
}
