package state

import (
	"fmt"
	"strings"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
)

// lane is what a machine knows of one node's stream of batches: enough to apply
// each batch once, in order, however often and by whomever it is sent again.
type lane struct {
	node        string
	incarnation uint64
	// lost: batches of incarnations up to here are refused for ever.
	lost  uint64
	last  uint64 // sequence of the last applied batch
	acked uint64 // the lane has results up to here
	kept  []keptResults
	dirty bool
}

// keptResults answers a batch that is sent again.
type keptResults struct {
	seq     uint64
	results []byte
}

// maxKept bounds the kept results of a lane: more batches than that are never
// under way.
const maxKept = 64

// applyLane applies a batch, or refuses it, or answers it from what was kept.
func (s *Shard) applyLane(index uint64, b *command.Batch) (command.BatchResult, error) {
	r := command.BatchResult{Node: b.Node, Incarnation: b.Incarnation, Seq: b.Seq, Code: command.OK}
	if b.Node == "" {
		var err error
		r.Results, err = s.applyCommands(index, b)
		return r, err
	}
	l := s.lanes[b.Node]
	if l == nil {
		l = &lane{node: strings.Clone(b.Node)}
		s.lanes[l.node] = l
	}
	r.Node = l.node
	if r.Code = l.admit(b); r.Code != command.OK {
		return r, nil
	}
	if l.isRepeat(b.Seq) {
		r.Results, r.Code = l.answer(b.Seq)
		return r, nil
	}
	results, err := s.applyCommands(index, b)
	if err != nil {
		return r, fmt.Errorf("batch %d of %s: %w", b.Seq, b.Node, err)
	}
	r.Results = results
	l.keep(b.Seq, b.AckedSeq, results)
	return r, nil
}

// admit says whether a batch belongs to a lane that may still speak, and whether
// it is next in order or a repeat.
func (l *lane) admit(b *command.Batch) command.ResultCode {
	if b.Incarnation <= l.lost || b.Incarnation < l.incarnation {
		return command.StaleIncarnation
	}
	last := l.last
	if b.Incarnation > l.incarnation {
		last = 0
	}
	if b.Seq > last+1 && !planted("resend-unordered") {
		return command.Gap
	}
	if b.Incarnation > l.incarnation && b.Seq == 1 {
		*l = lane{node: l.node, incarnation: b.Incarnation, lost: l.lost, dirty: true}
	}
	return command.OK
}

// answer is what a repeated batch was answered with.
func (l *lane) answer(seq uint64) ([]byte, command.ResultCode) {
	for _, k := range l.kept {
		if k.seq == seq {
			return k.results, command.OK
		}
	}
	return nil, command.ResultsGone
}

func (l *lane) keep(seq, acked uint64, results []byte) {
	l.last = max(l.last, seq)
	l.acked = max(l.acked, min(acked, seq))
	l.kept = append(l.kept, keptResults{seq: seq, results: results})
	drop := 0
	for drop < len(l.kept) && (l.kept[drop].seq <= l.acked || len(l.kept)-drop > maxKept) {
		drop++
	}
	if drop > 0 {
		n := copy(l.kept, l.kept[drop:])
		clear(l.kept[n:])
		l.kept = l.kept[:n]
	}
	l.dirty = true
}

// lose refuses the lanes of a process for ever.
func (s *Shard) loseLane(node string, incarnation uint64) {
	l := s.lanes[node]
	if l == nil {
		l = &lane{node: strings.Clone(node)}
		s.lanes[l.node] = l
	}
	l.lost = max(l.lost, incarnation)
	if l.incarnation <= l.lost {
		l.kept = nil
	}
	l.dirty = true
}

// append writes the lane's record: incarnation, lost, last, acked, results.
func (l *lane) append(dst []byte) []byte {
	dst = putUvarint(putUvarint(dst, l.incarnation), l.lost)
	dst = putUvarint(putUvarint(dst, l.last), l.acked)
	dst = putUvarint(dst, uint64(len(l.kept)))
	for _, k := range l.kept {
		dst = putBlob(putUvarint(dst, k.seq), k.results)
	}
	return dst
}

func (l *lane) read(v []byte) error {
	r := recordReader{b: v}
	l.incarnation, l.lost, l.last, l.acked = r.uint(), r.uint(), r.uint(), r.uint()
	for n := r.uint(); n > 0 && len(r.b) > 0; n-- {
		seq := r.uint()
		l.kept = append(l.kept, keptResults{seq: seq, results: append([]byte(nil), r.blob()...)})
	}
	return r.err("lane")
}
