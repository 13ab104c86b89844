package state

import (
	"fmt"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
)

// appendShare writes what replicas agree on of a share: bits, sid, next, count, bytes,
// cursor, back, turn, sticky; and of each member: client id, bits, epoch, fence, node,
// incarnation, room, QoS, turn, assigned, parked.
func (ss *session) appendShare(dst []byte) []byte {
	sh, b := ss.share, ss.box
	dst = putUvarint(putFlag(dst, ss.full), ss.sid)
	dst = putUvarint(putUvarint(putUvarint(dst, b.next), b.count), b.bytes)
	dst = putRanges(putUvarint(dst, sh.cursor), sh.back)
	dst = putBlob(putUvarint(dst, sh.turn), sh.sticky)
	dst = putUvarint(dst, uint64(len(sh.members)))
	for _, m := range sh.members {
		dst = putFlag(putBlob(dst, m.client), m.left)
		dst = putUvarint(putBlob(putUvarint(putUvarint(dst, m.epoch), m.fence), m.node), m.incarnation)
		dst = putUvarint(putUvarint(putUvarint(dst, uint64(m.room)), uint64(m.qos)), m.turn)
		dst = putRanges(putRanges(dst, m.assigned), m.parked)
	}
	return dst
}

func (s *Shard) loadShare(k, v []byte) error {
	key, err := splitKey(k)
	if err != nil {
		return err
	}
	if !validFilter(key.ClientID) || !isShared(key.ClientID) {
		return fmt.Errorf("share %q: %w", key.ClientID, ErrCorrupt)
	}
	t := s.makeTenant(key.Tenant)
	sh := &share{}
	ss := &session{key: command.SessionKey{Tenant: t.name, ClientID: key.ClientID}, tenant: t, box: newInbox(), share: sh, inStore: true}
	r := recordReader{b: v}
	ss.full, ss.sid = r.flag(), r.uint()
	ss.box.next, ss.box.count, ss.box.bytes = r.uint(), r.uint(), r.uint()
	sh.cursor, sh.back = r.uint(), r.ranges()
	sh.turn, sh.sticky = r.uint(), r.string()
	for n := r.uint(); n > 0 && len(r.b) > 0; n-- {
		m := &member{client: r.string(), left: r.flag(), epoch: r.uint(), fence: r.uint(), node: r.string(), incarnation: r.uint()}
		m.room, m.qos, m.turn = uint16(r.uint()), byte(r.uint()), r.uint()
		m.assigned, m.parked = r.ranges(), r.ranges()
		sh.addLoaded(m)
	}
	if err := ss.box.readTail(&r); err != nil {
		return err
	}
	s.registerShare(ss)
	return r.err("share")
}

func (sh *share) addLoaded(m *member) {
	m.count = m.assigned.size()
	sh.assigned += m.count
	sh.parked += m.parked.size()
	sh.members = append(sh.members, m)
	if !m.left {
		sh.present++
	}
	if m.node != "" {
		sh.online = append(sh.online, m)
	}
	sh.ready.update(m, m.ready())
}
