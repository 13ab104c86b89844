package state

import (
	"bytes"
	"slices"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
)

// applyReceive stores an inbound QoS 2 message under its packet id (I2, I19).
func (s *Shard) applyReceive(c *command.Receive) command.ResultCode {
	ss, code := s.current(&c.Ref)
	if code != command.OK {
		return code
	}
	if ss.findInbound(c.PacketID) >= 0 {
		return command.Duplicate
	}
	m := &s.cmd.message
	if err := m.Decode(c.Message); err != nil || c.PacketID == 0 || len(m.Topic) == 0 || bytes.IndexByte(m.Topic, 0) >= 0 {
		return command.Invalid
	}
	s.lastOrder++
	in := inbound{pid: c.PacketID, order: s.lastOrder, msg: s.newMessage(c.Message, s.expiryOf(m))}
	in.msg.refs++
	ss.inbound = append(ss.inbound, in)
	s.inboundCount++
	s.sum.add(in.hash(ss.sid))
	s.markDirty(ss)
	return command.OK
}

// applyRelease turns a stored message into an originated one.
func (s *Shard) applyRelease(c *command.Release) command.ResultCode {
	ss, code := s.current(&c.Ref)
	if code != command.OK {
		return code
	}
	i := ss.findInbound(c.PacketID)
	if i < 0 {
		return command.UnknownPacket
	}
	s.releaseInbound(ss, &ss.inbound[i])
	ss.inbound = slices.Delete(ss.inbound, i, i+1)
	if len(ss.inbound) == 0 {
		ss.inbound = nil
	}
	s.markDirty(ss)
	return command.OK
}

// releaseAll releases what a session that ends has not.
func (s *Shard) releaseAll(ss *session) {
	for i := range ss.inbound {
		s.releaseInbound(ss, &ss.inbound[i])
	}
	ss.inbound = nil
}

// releaseInbound moves the message over; the caller takes it off the list.
func (s *Shard) releaseInbound(ss *session, in *inbound) {
	s.sum.sub(in.hash(ss.sid))
	s.inboundCount--
	if in.inStore {
		s.ops.delete(keyU64s(nil, keyInbound, ss.sid, uint64(in.pid)))
	}
	s.originate(ss, in.msg, false)
	if planted("released-twice") {
		s.originate(ss, in.msg, false)
	}
	s.release(in.msg)
}

func (ss *session) findInbound(pid uint16) int {
	return slices.IndexFunc(ss.inbound, func(in inbound) bool { return in.pid == pid })
}

func (in *inbound) hash(sid uint64) uint64 {
	return fold(fold(fold(fold(keyInbound, sid), uint64(in.pid)), in.order), in.msg.hash)
}
