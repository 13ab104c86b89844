package state

import (
	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
)

// Commands from shard to shard travel as originated messages do: in order, again
// after a change of leader, applied once. They are kept encoded, without origin key
// and message, and completed when they are read.

// originateCommand makes a command one of the shard's. target is the client id or
// the share's filter whose slot is the target.
func (s *Shard) originateCommand(tenant, target string, cmd []byte, m *message) {
	s.lastOrigin++
	s.addOrigin(&originated{seq: s.lastOrigin, key: command.SessionKey{Tenant: tenant, ClientID: target}, cmd: cmd, msg: m})
}

// view is the entry as Origins gives it. It needs mu.
func (o *originated) view(clock int64) Originated {
	v := Originated{Seq: o.seq, Tenant: o.key.Tenant}
	if o.msg != nil {
		v.Encoded, v.ExpiresAt = o.msg.body, o.msg.expiresAt
	}
	if o.cmd == nil {
		v.Key, v.Username, v.Flags, v.Will = o.key, o.username, o.flags|command.ToShares, o.will
		return v
	}
	v.TargetKey = o.key.ClientID
	cmd, body, expiresAt := o.cmd, v.Encoded, v.ExpiresAt
	v.Encoded = nil
	v.Gated = isJoin(cmd)
	v.Command = func(dst []byte, key command.OriginKey) []byte {
		return appendCommand(dst, cmd, body, expiresAt, clock, key)
	}
	return v
}

// finish completes a message, without mu.
func (v *Originated) finish(clock int64) {
	if v.Command != nil {
		return
	}
	// Bytes that cannot be decoded never became a message.
	v.Message, _ = command.DecodeMessage(v.Encoded)
	if v.ExpiresAt == 0 {
		return
	}
	// v5:MQTT-3.3.2-6: what is sent carries what remains of the interval.
	left := uint32(max(1, (v.ExpiresAt-clock+999)/1000))
	if left < v.Message.Expiry {
		v.Message.Expiry = left
		v.Encoded = v.Message.Append(make([]byte, 0, v.Message.Size()))
	}
}

// appendCommand completes a command with its message and origin key.
func appendCommand(dst, cmd, body []byte, expiresAt, clock int64, key command.OriginKey) []byte {
	it := command.Commands(cmd)
	var c command.Command
	if ok, err := it.Next(&c); !ok || err != nil {
		return dst // cannot be: this machine encoded it
	}
	switch c.Kind {
	case command.KindShareMember:
		var m command.ShareMember
		if m.Decode(c.Payload) == nil {
			m.Origin = key
			return command.AppendShareMember(dst, &m)
		}
	case command.KindShareDeliver:
		var d command.ShareDeliver
		if d.Decode(c.Payload) == nil {
			d.Origin, d.Message = key, body
			if expiresAt != 0 {
				d.ExpiryMS = uint64(max(1, expiresAt-clock))
			}
			return command.AppendShareDeliver(dst, &d)
		}
	case command.KindShareSettle:
		var t command.ShareSettle
		if t.Decode(c.Payload) == nil {
			t.Origin = key
			return command.AppendShareSettle(dst, &t)
		}
	}
	return dst
}

// isJoin reports whether a command makes a member: what waits for it may go on only
// when the share is routed.
func isJoin(cmd []byte) bool {
	it := command.Commands(cmd)
	var c command.Command
	if ok, err := it.Next(&c); !ok || err != nil || c.Kind != command.KindShareMember {
		return false
	}
	var m command.ShareMember
	return m.Decode(c.Payload) == nil && m.Event == command.ShareJoin
}
