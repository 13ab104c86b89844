package command

// AppendRestore adds the command. Fields: 1 step, 2 attempt, 3 meta record, 4 records, 5 sum, 6 digest.
func AppendRestore(dst []byte, c *Restore) []byte {
	dst, mark := begin(dst, KindRestore)
	dst = putUint(dst, 1, uint64(c.Step))
	dst = putString(dst, 2, c.ID)
	dst = putBytes(dst, 3, c.Meta)
	dst = putUint(dst, 4, c.Records)
	if c.Step == RestoreLoad {
		dst = putBytes(dst, 5, c.Sum[:])
		dst = putBytes(dst, 6, c.Digest[:])
	}
	return closeAt(dst, mark)
}

// Decode reads the payload of a restore command. It aliases b.
func (c *Restore) Decode(b []byte) error {
	*c = Restore{}
	f := fields{b: b}
	for f.next() {
		switch f.num {
		case 1:
			c.Step = RestoreStep(f.u32())
		case 2:
			c.ID = f.string()
		case 3:
			c.Meta = f.bytes()
		case 4:
			c.Records = f.uint()
		case 5:
			f.digest(&c.Sum)
		case 6:
			f.digest(&c.Digest)
		}
	}
	return f.err("restore")
}

// digest reads 16 bytes.
func (f *fields) digest(to *[16]byte) {
	if b := f.bytes(); len(b) != len(to) {
		f.bad = true
	} else {
		copy(to[:], b)
	}
}

// AppendRestoreChunk adds the command. Fields: 1 attempt, 2 sequence, 3 pairs.
func AppendRestoreChunk(dst []byte, c *RestoreChunk) []byte {
	dst, mark := begin(dst, KindRestoreChunk)
	dst = putString(dst, 1, c.ID)
	dst = putUint(dst, 2, c.Seq)
	dst = putBytes(dst, 3, c.Pairs)
	return closeAt(dst, mark)
}

// Decode reads the payload of a restore-chunk command. It aliases b.
func (c *RestoreChunk) Decode(b []byte) error {
	*c = RestoreChunk{}
	f := fields{b: b}
	for f.next() {
		switch f.num {
		case 1:
			c.ID = f.string()
		case 2:
			c.Seq = f.uint()
		case 3:
			c.Pairs = f.bytes()
		}
	}
	return f.err("restore-chunk")
}

// Append adds the record: 1 attempt, 2 phase, 3 backup, 4 node. Stores share it.
func (c *Restoring) Append(dst []byte) []byte {
	dst = putString(dst, 1, c.ID)
	dst = putUint(dst, 2, uint64(c.Phase))
	dst = putString(dst, 3, c.Backup)
	return putString(dst, 4, c.Node)
}

// AppendRestoring adds the command. Its fields are those of the record.
func AppendRestoring(dst []byte, c *Restoring) []byte {
	dst, mark := begin(dst, KindRestoring)
	return closeAt(c.Append(dst), mark)
}

// Decode reads what Append wrote. It aliases b.
func (c *Restoring) Decode(b []byte) error {
	*c = Restoring{}
	f := fields{b: b}
	for f.next() {
		switch f.num {
		case 1:
			c.ID = f.string()
		case 2:
			c.Phase = RestorePhase(f.u32())
		case 3:
			c.Backup = f.string()
		case 4:
			c.Node = f.string()
		}
	}
	return f.err("restoring")
}
