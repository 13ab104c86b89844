package command

// AppendReceive adds the command. Fields: reference, 4 packet id, 5 message.
func AppendReceive(dst []byte, r *Receive) []byte {
	dst, mark := begin(dst, KindReceive)
	dst = putRef(dst, &r.Ref)
	dst = putUint(dst, 4, uint64(r.PacketID))
	dst = putBytes(dst, 5, r.Message)
	return closeAt(dst, mark)
}

// Decode reads the payload of a receive command. It aliases b.
func (r *Receive) Decode(b []byte) error {
	*r = Receive{}
	f := fields{b: b}
	for f.next() {
		switch f.num {
		case 4:
			r.PacketID = uint16(f.max(1<<16 - 1))
		case 5:
			r.Message = f.bytes()
		default:
			f.ref(&r.Ref)
		}
	}
	return f.err("receive")
}

// AppendRelease adds the command. Fields: reference, 4 packet id.
func AppendRelease(dst []byte, r *Release) []byte {
	dst, mark := begin(dst, KindRelease)
	dst = putRef(dst, &r.Ref)
	dst = putUint(dst, 4, uint64(r.PacketID))
	return closeAt(dst, mark)
}

// Decode reads the payload of a release command. It aliases b.
func (r *Release) Decode(b []byte) error {
	*r = Release{}
	f := fields{b: b}
	for f.next() {
		if f.num == 4 {
			r.PacketID = uint16(f.max(1<<16 - 1))
			continue
		}
		f.ref(&r.Ref)
	}
	return f.err("release")
}

// AppendOriginDone adds the command. Field: 1 ranges.
func AppendOriginDone(dst []byte, o *OriginDone) []byte {
	dst, mark := begin(dst, KindOriginDone)
	dst = appendRanges(dst, 1, o.Seqs)
	return closeAt(dst, mark)
}

// Decode reads the payload of an origin-done command.
func (o *OriginDone) Decode(b []byte) error {
	*o = OriginDone{Seqs: o.Seqs[:0]}
	f := fields{b: b}
	for f.next() {
		if f.num == 1 {
			o.Seqs = f.ranges(o.Seqs[:0])
		}
	}
	return f.err("origin-done")
}

// AppendNodeLost adds the command. Fields: 1 node, 2 incarnation.
func AppendNodeLost(dst []byte, n *NodeLost) []byte {
	dst, mark := begin(dst, KindNodeLost)
	dst = putString(dst, 1, n.Node)
	dst = putUint(dst, 2, n.Incarnation)
	return closeAt(dst, mark)
}

// Decode reads the payload of a node-lost command. It aliases b.
func (n *NodeLost) Decode(b []byte) error {
	*n = NodeLost{}
	f := fields{b: b}
	for f.next() {
		switch f.num {
		case 1:
			n.Node = f.string()
		case 2:
			n.Incarnation = f.uint()
		}
	}
	return f.err("node-lost")
}

// AppendTick adds the command. The entry carries the time. Field: 1 rules.
func AppendTick(dst []byte) []byte {
	dst, mark := begin(dst, KindTick)
	dst = putUint(dst, 1, TickRules)
	return closeAt(dst, mark)
}

// Decode reads the payload of a tick command.
func (c *Tick) Decode(b []byte) error {
	*c = Tick{}
	f := fields{b: b}
	for f.next() {
		if f.num == 1 {
			c.Rules = f.u32()
		}
	}
	return f.err("tick")
}

// AppendEndSession adds the command. Fields: 1 tenant, 2 client id, 3 epoch.
func AppendEndSession(dst []byte, e *EndSession) []byte {
	dst, mark := begin(dst, KindEndSession)
	dst = putRef(dst, &SessionRef{SessionKey: e.Key, Epoch: e.Epoch})
	return closeAt(dst, mark)
}

// Decode reads the payload of an end-session command. It aliases b.
func (e *EndSession) Decode(b []byte) error {
	var ref SessionRef
	f := fields{b: b}
	for f.next() {
		f.ref(&ref)
	}
	*e = EndSession{Key: ref.SessionKey, Epoch: ref.Epoch}
	return f.err("end-session")
}

// AppendCheckpoint adds the command. Fields: 1 index, 2 digest.
func AppendCheckpoint(dst []byte, c *Checkpoint) []byte {
	dst, mark := begin(dst, KindCheckpoint)
	dst = putUint(dst, 1, c.Index)
	dst = putBytes(dst, 2, c.Digest[:])
	return closeAt(dst, mark)
}

// Decode reads the payload of a checkpoint command.
func (c *Checkpoint) Decode(b []byte) error {
	*c = Checkpoint{}
	f := fields{b: b}
	for f.next() {
		switch f.num {
		case 1:
			c.Index = f.uint()
		case 2:
			if copy(c.Digest[:], f.bytes()) != len(c.Digest) {
				f.bad = true
			}
		}
	}
	return f.err("checkpoint")
}

// AppendConfigure adds the command. Its fields are those of ShardSettings.
func AppendConfigure(dst []byte, c *Configure) []byte {
	dst, mark := begin(dst, KindConfigure)
	dst = c.Settings.Append(dst)
	return closeAt(dst, mark)
}

// Decode reads the payload of a configure command.
func (c *Configure) Decode(b []byte) error { return c.Settings.Decode(b) }

// Append adds the settings: 1 inbox messages, 2 inbox bytes, 3 overflow,
// 4 retained messages, 5 session expiry, 6 subscriptions, 7 share strategy,
// 8 retained payload, 9 retained expiry, 10 QoS 0 offline. Stores share it.
func (s *ShardSettings) Append(dst []byte) []byte {
	dst = putUint(dst, 1, s.InboxMaxMessages)
	dst = putUint(dst, 2, s.InboxMaxBytes)
	dst = putUint(dst, 3, uint64(s.InboxOverflow))
	dst = putUint(dst, 4, s.RetainedMaxMessages)
	dst = putUint(dst, 5, uint64(s.MaxSessionExpiryS))
	dst = putUint(dst, 6, uint64(s.MaxSubscriptions))
	dst = putUint(dst, 7, uint64(s.ShareStrategy))
	dst = putUint(dst, 8, uint64(s.RetainedMaxPayload))
	dst = putUint(dst, 9, uint64(s.RetainedExpiryS))
	return putBool(dst, 10, s.InboxQoS0Offline)
}

// Decode reads what Append wrote.
func (s *ShardSettings) Decode(b []byte) error {
	*s = ShardSettings{}
	f := fields{b: b}
	for f.next() {
		switch f.num {
		case 1:
			s.InboxMaxMessages = f.uint()
		case 2:
			s.InboxMaxBytes = f.uint()
		case 3:
			s.InboxOverflow = Overflow(f.max(uint64(OverflowEndSession)))
		case 4:
			s.RetainedMaxMessages = f.uint()
		case 5:
			s.MaxSessionExpiryS = f.u32()
		case 6:
			s.MaxSubscriptions = f.u32()
		case 7:
			s.ShareStrategy = ShareStrategy(f.max(uint64(ShareHashTopic)))
		case 8:
			s.RetainedMaxPayload = f.u32()
		case 9:
			s.RetainedExpiryS = f.u32()
		case 10:
			s.InboxQoS0Offline = f.bool()
		}
	}
	return f.err("shard settings")
}
