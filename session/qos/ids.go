package qos

// IDs allocates the packet ids of connection-scoped deliveries, 32,768 to
// 65,535, in turn: an id is not used again while it or an id 32,768 turns older
// is in use. The zero value is ready. It costs one byte per id between the
// oldest and the newest in use.
type IDs struct {
	f flight
}

// Take returns the next id. It fails with ErrSpan while that id is still in use.
func (i *IDs) Take() (uint16, error) { return i.take(1) }

// take marks the id with b, which is not zero.
func (i *IDs) take(b byte) (uint16, error) {
	seq := i.f.next
	if !i.f.fits(seq, LocalIDs) {
		return 0, ErrSpan
	}
	i.f.put(seq, b)
	return FirstLocalID + uint16(seq%LocalIDs), nil
}

// Release frees an id. It reports false if the id was not in use.
func (i *IDs) Release(id uint16) bool {
	seq, ok := i.find(id)
	if ok {
		i.f.del(seq)
	}
	return ok
}

// Len returns the number of ids in use.
func (i *IDs) Len() int { return i.f.n }

func (i *IDs) find(id uint16) (seq uint64, ok bool) {
	if id < FirstLocalID {
		return 0, false
	}
	return i.f.congruent(uint64(id-FirstLocalID), LocalIDs)
}
