package command

// Append adds the record: 1 id, 2 hash, 3 expiry, 4 uses. Stores share it.
func (t *JoinToken) Append(dst []byte) []byte {
	dst = putString(dst, 1, t.ID)
	dst = putBytes(dst, 2, t.Hash)
	dst = putUint(dst, 3, uint64(t.ExpiresAt))
	return putUint(dst, 4, uint64(t.Uses))
}

// Decode reads what Append wrote. It aliases b.
func (t *JoinToken) Decode(b []byte) error {
	*t = JoinToken{}
	f := fields{b: b}
	for f.next() {
		switch f.num {
		case 1:
			t.ID = f.string()
		case 2:
			t.Hash = f.bytes()
		case 3:
			t.ExpiresAt = int64(f.uint())
		case 4:
			t.Uses = f.u32()
		}
	}
	return f.err("join token")
}

// AppendPutToken adds the command. Its fields are those of JoinToken.
func AppendPutToken(dst []byte, c *PutToken) []byte {
	dst, mark := begin(dst, KindPutToken)
	return closeAt(c.Token.Append(dst), mark)
}

// Decode reads the payload of a put-token command. It aliases b.
func (c *PutToken) Decode(b []byte) error { return c.Token.Decode(b) }

// AppendDropToken adds the command. Field: 1 id.
func AppendDropToken(dst []byte, c *DropToken) []byte {
	dst, mark := begin(dst, KindDropToken)
	return closeAt(putString(dst, 1, c.ID), mark)
}

// Decode reads the payload of a drop-token command. It aliases b.
func (c *DropToken) Decode(b []byte) error {
	*c = DropToken{}
	f := fields{b: b}
	for f.next() {
		if f.num == 1 {
			c.ID = f.string()
		}
	}
	return f.err("drop-token")
}

// AppendAdmit adds the command. Fields: 1 node, 2 hash of the token.
func AppendAdmit(dst []byte, c *Admit) []byte {
	dst, mark := begin(dst, KindAdmit)
	dst, m := openField(dst, 1)
	dst = closeAt(c.Node.Append(dst), m)
	dst = putBytes(dst, 2, c.TokenHash)
	return closeAt(dst, mark)
}

// Decode reads the payload of an admit command. It aliases b.
func (c *Admit) Decode(b []byte) error {
	*c = Admit{}
	f := fields{b: b}
	for f.next() {
		switch f.num {
		case 1:
			if err := c.Node.Decode(f.bytes()); err != nil {
				return err
			}
		case 2:
			c.TokenHash = f.bytes()
		}
	}
	return f.err("admit")
}

// Append adds the record: 1 id, 2 kind, 3 node, 4 other node, 5 state, 6 progress,
// 7 steps done, 8 steps in total, 9 error, 10 begin, 11 last change. Stores share it.
func (o *Operation) Append(dst []byte) []byte {
	dst = putString(dst, 1, o.ID)
	dst = putString(dst, 2, o.Kind)
	dst = putString(dst, 3, o.Node)
	dst = putString(dst, 4, o.Other)
	dst = putUint(dst, 5, uint64(o.State))
	dst = putString(dst, 6, o.Progress)
	dst = putUint(dst, 7, uint64(o.Done))
	dst = putUint(dst, 8, uint64(o.Total))
	dst = putString(dst, 9, o.Error)
	dst = putUint(dst, 10, uint64(o.StartedAt))
	return putUint(dst, 11, uint64(o.UpdatedAt))
}

// Decode reads what Append wrote. It aliases b.
func (o *Operation) Decode(b []byte) error {
	*o = Operation{}
	f := fields{b: b}
	for f.next() {
		switch f.num {
		case 1:
			o.ID = f.string()
		case 2:
			o.Kind = f.string()
		case 3:
			o.Node = f.string()
		case 4:
			o.Other = f.string()
		case 5:
			o.State = OperationState(f.u32())
		case 6:
			o.Progress = f.string()
		case 7:
			o.Done = f.u32()
		case 8:
			o.Total = f.u32()
		case 9:
			o.Error = f.string()
		case 10:
			o.StartedAt = int64(f.uint())
		case 11:
			o.UpdatedAt = int64(f.uint())
		}
	}
	return f.err("operation")
}

// AppendPutOperation adds the command. Its fields are those of Operation.
func AppendPutOperation(dst []byte, c *PutOperation) []byte {
	dst, mark := begin(dst, KindPutOperation)
	return closeAt(c.Operation.Append(dst), mark)
}

// Decode reads the payload of a put-operation command. It aliases b.
func (c *PutOperation) Decode(b []byte) error { return c.Operation.Decode(b) }
