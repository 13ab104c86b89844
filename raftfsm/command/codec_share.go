package command

import "google.golang.org/protobuf/encoding/protowire"

// putOrigin writes an origin key: 1 shard, 2 seq, 3 low.
func putOrigin(dst []byte, num protowire.Number, o *OriginKey) []byte {
	if o.Shard == 0 {
		return dst
	}
	dst, m := openField(dst, num)
	dst = putUint(dst, 1, uint64(o.Shard))
	dst = putUint(dst, 2, o.Seq)
	dst = putUint(dst, 3, o.Low)
	return closeAt(dst, m)
}

func (f *fields) origin(o *OriginKey) {
	in := fields{b: f.bytes()}
	for in.next() {
		switch in.num {
		case 1:
			o.Shard = in.u32()
		case 2:
			o.Seq = in.uint()
		case 3:
			o.Low = in.uint()
		}
	}
	f.bad = f.bad || in.bad
}

// AppendShareMember adds the command. Fields: 1 tenant, 2 filter, 3 client id,
// 4 event, 5 epoch, 6 node, 7 incarnation, 8 room, 9 subscription, 10 origin, 11 share,
// 12 held.
func AppendShareMember(dst []byte, c *ShareMember) []byte {
	dst, mark := begin(dst, KindShareMember)
	dst = putString(dst, 1, c.Member.Tenant)
	dst = putString(dst, 2, c.Filter)
	dst = putString(dst, 3, c.Member.ClientID)
	dst = putUint(dst, 4, uint64(c.Event))
	dst = putUint(dst, 5, c.Epoch)
	dst = putString(dst, 6, c.Node)
	dst = putUint(dst, 7, c.Incarnation)
	dst = putUint(dst, 8, uint64(c.Room))
	if c.Sub != (Subscription{}) {
		var m int
		dst, m = openField(dst, 9)
		dst = AppendSubscription(dst, &c.Sub)
		dst = closeAt(dst, m)
	}
	dst = putOrigin(dst, 10, &c.Origin)
	dst = putUint(dst, 11, c.Share)
	dst = appendRanges(dst, 12, c.Held)
	return closeAt(dst, mark)
}

// Decode reads the payload of a share-member command, reusing c.Held. It aliases b.
func (c *ShareMember) Decode(b []byte) error {
	*c = ShareMember{Held: c.Held[:0]}
	f := fields{b: b}
	for f.next() {
		switch f.num {
		case 1:
			c.Member.Tenant = f.string()
		case 2:
			c.Filter = f.string()
		case 3:
			c.Member.ClientID = f.string()
		case 4:
			c.Event = ShareEvent(f.u32())
		case 5:
			c.Epoch = f.uint()
		case 6:
			c.Node = f.string()
		case 7:
			c.Incarnation = f.uint()
		case 8:
			c.Room = uint16(f.max(1<<16 - 1))
		case 9:
			sub, err := DecodeSubscription(f.bytes())
			if err != nil {
				return err
			}
			c.Sub = sub
		case 10:
			f.origin(&c.Origin)
		case 11:
			c.Share = f.uint()
		case 12:
			c.Held = f.ranges(c.Held[:0])
		}
	}
	return f.err("share-member")
}

// AppendShareDeliver adds the command. Fields: 1 tenant, 2 client id, 3 filter,
// 4 share, 5 seq, 6 message, 7 expiry, 8 origin, 9 fence.
func AppendShareDeliver(dst []byte, c *ShareDeliver) []byte {
	dst, mark := begin(dst, KindShareDeliver)
	dst = putString(dst, 1, c.Key.Tenant)
	dst = putString(dst, 2, c.Key.ClientID)
	dst = putString(dst, 3, c.Filter)
	dst = putUint(dst, 4, c.Share)
	dst = putUint(dst, 5, c.Seq)
	dst = putBytes(dst, 6, c.Message)
	dst = putUint(dst, 7, c.ExpiryMS)
	dst = putOrigin(dst, 8, &c.Origin)
	dst = putUint(dst, 9, c.Fence)
	return closeAt(dst, mark)
}

// Decode reads the payload of a share-deliver command. It aliases b.
func (c *ShareDeliver) Decode(b []byte) error {
	*c = ShareDeliver{}
	f := fields{b: b}
	for f.next() {
		switch f.num {
		case 1:
			c.Key.Tenant = f.string()
		case 2:
			c.Key.ClientID = f.string()
		case 3:
			c.Filter = f.string()
		case 4:
			c.Share = f.uint()
		case 5:
			c.Seq = f.uint()
		case 6:
			c.Message = f.bytes()
		case 7:
			c.ExpiryMS = f.uint()
		case 8:
			f.origin(&c.Origin)
		case 9:
			c.Fence = f.uint()
		}
	}
	return f.err("share-deliver")
}

// AppendShareSettle adds the command. Fields: 1 tenant, 2 filter, 3 client id,
// 4 share, 5 done, 7 origin. 6 is reserved.
func AppendShareSettle(dst []byte, c *ShareSettle) []byte {
	dst, mark := begin(dst, KindShareSettle)
	dst = putString(dst, 1, c.Member.Tenant)
	dst = putString(dst, 2, c.Filter)
	dst = putString(dst, 3, c.Member.ClientID)
	dst = putUint(dst, 4, c.Share)
	dst = appendRanges(dst, 5, c.Done)
	dst = putOrigin(dst, 7, &c.Origin)
	return closeAt(dst, mark)
}

// Decode reads the payload of a share-settle command, reusing c.Done. It aliases b.
func (c *ShareSettle) Decode(b []byte) error {
	*c = ShareSettle{Done: c.Done[:0]}
	f := fields{b: b}
	for f.next() {
		switch f.num {
		case 1:
			c.Member.Tenant = f.string()
		case 2:
			c.Filter = f.string()
		case 3:
			c.Member.ClientID = f.string()
		case 4:
			c.Share = f.uint()
		case 5:
			c.Done = f.ranges(c.Done[:0])
		case 7:
			f.origin(&c.Origin)
		}
	}
	return f.err("share-settle")
}

// AppendReplay adds the command. Fields: reference, 4 filter, 5 after, 6 next,
// 7 last, 8 message (repeated).
func AppendReplay(dst []byte, c *Replay) []byte {
	dst, mark := begin(dst, KindReplay)
	dst = putRef(dst, &c.Ref)
	dst = putString(dst, 4, c.Filter)
	dst = putString(dst, 5, c.After)
	dst = putString(dst, 6, c.Next)
	dst = putBool(dst, 7, c.Last)
	for _, m := range c.Messages {
		dst = protowire.AppendTag(dst, 8, protowire.BytesType)
		dst = protowire.AppendBytes(dst, m)
	}
	return closeAt(dst, mark)
}

// Decode reads the payload of a replay command, reusing c.Messages. It aliases b.
func (c *Replay) Decode(b []byte) error {
	*c = Replay{Messages: c.Messages[:0]}
	f := fields{b: b}
	for f.next() {
		switch f.num {
		case 4:
			c.Filter = f.string()
		case 5:
			c.After = f.string()
		case 6:
			c.Next = f.string()
		case 7:
			c.Last = f.bool()
		case 8:
			c.Messages = append(c.Messages, f.bytes())
		default:
			f.ref(&c.Ref)
		}
	}
	return f.err("replay")
}
