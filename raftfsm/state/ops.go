package state

// storeOps are deletions and other rare changes of records, encoded when they
// happen and replayed in order by the next write-back.
type storeOps struct {
	list  []storeOp
	bytes int
}

type storeOp struct {
	key   []byte
	value []byte // nil: delete
	hi    []byte // delete [key, hi)
}

func (o *storeOps) add(op storeOp) {
	o.list = append(o.list, op)
	o.bytes += len(op.key) + len(op.value) + 48
}

func (o *storeOps) delete(key []byte) { o.add(storeOp{key: key}) }

// deleteRanges deletes the inbox records of a set of sequences.
func (o *storeOps) deleteRanges(sid uint64, set rangeSet) {
	for _, r := range set {
		o.add(storeOp{key: keyU64s(nil, keyEntry, sid, r.From), hi: keyU64s(nil, keyEntry, sid, r.To+1)})
	}
}

func (op *storeOp) put(b Batch) {
	switch {
	case op.hi != nil:
		b.DeleteRange(op.key, op.hi)
	case op.value != nil:
		b.Set(op.key, op.value)
	default:
		b.Delete(op.key)
	}
}

func (o *storeOps) reset() {
	clear(o.list)
	o.list = o.list[:0]
	o.bytes = 0
}
