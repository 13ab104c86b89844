package state

import "github.com/flotilla-mqtt/flotilla/raftfsm/command"

// applyAck records what the receiving client has acknowledged.
func (s *Shard) applyAck(a *command.Ack) command.ResultCode {
	ss, code := s.current(&a.Ref)
	if code != command.OK {
		return code
	}
	b := ss.box
	if b == nil {
		return command.OK
	}
	if sent := min(a.SentTo, b.next-1); sent > b.sentTo {
		if b.next-1 > b.sendLimit(ss) {
			s.wake(ss) // it may have been waiting for this
		}
		b.sentTo = sent
		s.markDirty(ss)
	}
	for _, r := range a.Done {
		// A range may claim any size; only what the inbox can hold is visited.
		for seq := max(r.From, b.floor); seq <= r.To && seq < b.next; seq++ {
			s.finish(ss, seq)
		}
	}
	for _, r := range a.Received {
		for seq := max(r.From, b.floor); seq <= r.To && seq < b.next; seq++ {
			s.receive(ss, seq)
		}
	}
	if ss.full {
		s.checkFull(ss)
	}
	return command.OK
}
