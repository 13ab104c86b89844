package state

import (
	"bytes"
	"slices"
	"strings"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
)

// replay is a subscription's replay of retained messages that is not at its end:
// how far the inbox has it.
type replay struct{ filter, after string }

func (ss *session) findReplay(filter string) (int, bool) {
	return slices.BinarySearchFunc(ss.replays, filter, func(p replay, f string) int { return strings.Compare(p.filter, f) })
}

// startReplay begins the replay that a subscription asks for; true if it does and
// the inbox is to get it. One with QoS 0 needs no inbox.
func (s *Shard) startReplay(ss *session, c *command.Subscription, existed bool) bool {
	if !ss.durable {
		return false
	}
	if c.QoS == 0 {
		s.stopReplay(ss, c.Filter)
		return false
	}
	if c.RetainHandling == 2 || c.RetainHandling == 1 && existed { // v5:MQTT-3.3.1-10, -11
		return false
	}
	at, ok := ss.findReplay(c.Filter)
	if !ok {
		ss.replays = slices.Insert(ss.replays, at, replay{filter: strings.Clone(c.Filter)})
	}
	ss.replays[at].after = ""
	return true
}

func (s *Shard) stopReplay(ss *session, filter string) {
	if at, ok := ss.findReplay(filter); ok {
		ss.replays = slices.Delete(ss.replays, at, at+1)
		if len(ss.replays) == 0 {
			ss.replays = nil
		}
		s.markDirty(ss)
	}
}

// applyReplay puts a page of retained messages into an inbox, if it is the one that
// the replay stands at. Pages are paced: the inbox limits are for what is published.
func (s *Shard) applyReplay(c *command.Replay) command.ResultCode {
	ss, code := s.current(&c.Ref)
	if code != command.OK {
		return code
	}
	at, ok := ss.findReplay(c.Filter)
	if !ok || ss.replays[at].after != c.After {
		return command.Duplicate
	}
	if !c.Last && c.Next <= c.After {
		return command.Invalid
	}
	i, ok := ss.findSub(c.Filter)
	if !ok || ss.box == nil {
		return command.Invalid // cannot be: a replay ends with its subscription
	}
	u := ss.subs[i]
	for _, body := range c.Messages {
		s.replayMessage(ss, u, body)
	}
	if c.Last {
		s.stopReplay(ss, c.Filter)
	} else {
		ss.replays[at].after = strings.Clone(c.Next)
	}
	s.markDirty(ss)
	s.wake(ss)
	return command.OK
}

func (s *Shard) replayMessage(ss *session, u *sub, body []byte) {
	m := &s.cmd.message
	if err := m.Decode(body); err != nil || len(m.Topic) == 0 || bytes.IndexByte(m.Topic, 0) >= 0 {
		return
	}
	qos := min(m.QoS, u.bits.qos())
	if qos == 0 {
		return // those went out without the inbox
	}
	var ids *[]uint32
	if u.id != 0 {
		ids = s.matcher.ids(&match{id: u.id})
	}
	msg := s.newMessage(body, s.expiryOf(m))
	msg.refs++
	s.appendEntry(ss, msg, qosBits(qos)|bitRetain, ids)
	s.release(msg)
}
