package command

// The commands that the offline recovery after the loss of a majority puts into the logs that are left. It rolls groups back by what
// was lost, each by its own amount, so that what one shard knows of another may be from a future that never was.

// The kinds of recovery.
const (
	KindRecover        Kind = 22
	KindRecoverControl Kind = 77
)

// Recover makes a shard fit for a past that the others may have seen more of. It raises the numbers that it hands out above all that
// anybody has seen, gives every session a new epoch, and settles what is between sessions and shares. Result OK.
type Recover struct {
	// Epoch, SID and Origin are floors: what the shard gives out from now on is above them.
	Epoch, SID, Origin uint64
	// Gone are the members of this shard's shares whose session is lost, or knows nothing of it.
	Gone []GoneMember
}

// GoneMember is a member of a share that nobody is any more.
type GoneMember struct {
	Member SessionKey
	Filter string // the whole filter
	// Share and Held are what its session still has and will finish, as in ShareMember.
	Share uint64
	Held  []Range
}

// RecoverControl makes a control group the one of the survivors: they are ready, all others are removed for good. Join tokens are
// taken back, operations that were under way have failed. Results: OK, Invalid (a survivor is unknown or was removed).
type RecoverControl struct {
	Survivors []NodeID
	// Removed are nodes that are known from elsewhere: their ids must not come back either.
	Removed []NodeID
	// Incarnation is a floor: processes that come up get a higher one.
	Incarnation uint64
	// Reason is what operations say that this ended.
	Reason string
}

// AppendRecover adds the command. Fields: 1 epoch, 2 sid, 3 origin, 4 gone member (repeated) {1 tenant, 2 client id, 3 filter,
// 4 share, 5 held}.
func AppendRecover(dst []byte, c *Recover) []byte {
	dst, mark := begin(dst, KindRecover)
	dst = putUint(dst, 1, c.Epoch)
	dst = putUint(dst, 2, c.SID)
	dst = putUint(dst, 3, c.Origin)
	for i := range c.Gone {
		g := &c.Gone[i]
		var m int
		dst, m = openField(dst, 4)
		dst = putString(dst, 1, g.Member.Tenant)
		dst = putString(dst, 2, g.Member.ClientID)
		dst = putString(dst, 3, g.Filter)
		dst = putUint(dst, 4, g.Share)
		dst = appendRanges(dst, 5, g.Held)
		dst = closeAt(dst, m)
	}
	return closeAt(dst, mark)
}

// Decode reads the payload of a recover command. It aliases b.
func (c *Recover) Decode(b []byte) error {
	*c = Recover{}
	f := fields{b: b}
	for f.next() {
		switch f.num {
		case 1:
			c.Epoch = f.uint()
		case 2:
			c.SID = f.uint()
		case 3:
			c.Origin = f.uint()
		case 4:
			c.Gone = append(c.Gone, f.goneMember())
		}
	}
	return f.err("recover")
}

func (f *fields) goneMember() GoneMember {
	var g GoneMember
	in := fields{b: f.bytes()}
	for in.next() {
		switch in.num {
		case 1:
			g.Member.Tenant = in.string()
		case 2:
			g.Member.ClientID = in.string()
		case 3:
			g.Filter = in.string()
		case 4:
			g.Share = in.uint()
		case 5:
			g.Held = in.ranges(nil)
		}
	}
	f.bad = f.bad || in.bad
	return g
}

// AppendRecoverControl adds the command. Fields: 1 survivor (repeated), 2 removed (repeated), 3 incarnation, 4 reason.
func AppendRecoverControl(dst []byte, c *RecoverControl) []byte {
	dst, mark := begin(dst, KindRecoverControl)
	dst = putStrings(dst, 1, c.Survivors)
	dst = putStrings(dst, 2, c.Removed)
	dst = putUint(dst, 3, c.Incarnation)
	dst = putString(dst, 4, c.Reason)
	return closeAt(dst, mark)
}

// Decode reads the payload of a recover-control command. It aliases b.
func (c *RecoverControl) Decode(b []byte) error {
	*c = RecoverControl{}
	f := fields{b: b}
	for f.next() {
		switch f.num {
		case 1:
			c.Survivors = append(c.Survivors, f.string())
		case 2:
			c.Removed = append(c.Removed, f.string())
		case 3:
			c.Incarnation = f.uint()
		case 4:
			c.Reason = f.string()
		}
	}
	return f.err("recover-control")
}
