package state

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
)

const (
	// authorKept is how long, in ms, a client is remembered after its last retained message. It bounds how late a
	// lane may send again and be known for late: a gateway that keeps its lease reaches a shard's leader far sooner.
	authorKept = 3600_000
	// maxAuthors bounds how many a shard remembers, some 250 bytes each. Beyond it those that wrote longest ago go
	// first: their lanes have had the most time.
	maxAuthors = 1 << 16
)

// authorLimits are those, but for tests. They are part of what machines agree on.
type authorLimits struct {
	kept int64
	most int
}

// fresh is how much of kept may pass before it is noted that a client still writes: each note is a record.
func (l authorLimits) fresh() int64 { return l.kept / 6 }

// author is a client whose retained messages are stored here, with the epoch of its connection: what an older connection
// sent may not replace them any more (I13). Whose message a topic holds does not matter: once the newer connection has
// written, others may have replaced that, and what it repeated may not come back over theirs.
type author struct {
	key     command.SessionKey
	epoch   uint64
	seen    int64 // unix ms of the group's clock: its last message, or up to a sixth of authorKept before it
	inStore bool
	dirty   bool
	gone    bool
}

// authors are those that a shard remembers.
type authors struct {
	byKey map[command.SessionKey]*author
	byAge *ordered[*author]
	dirty []*author
	// sum is apart from that of the shard: no backup brings authors back.
	sum sum
}

func newAuthors() authors {
	return authors{byKey: make(map[command.SessionKey]*author), byAge: newOrdered(compareAuthors)}
}

func compareAuthors(a, b *author) int {
	return cmp.Or(cmp.Compare(a.seen, b.seen), compareKeys(a.key, b.key))
}

// takeAuthor notes that a connection of a client writes; false if a later one has written already.
func (s *Shard) takeAuthor(key command.SessionKey, epoch uint64) bool {
	if strings.IndexByte(key.Tenant, 0) >= 0 || strings.IndexByte(key.ClientID, 0) >= 0 {
		return true // no client is called that
	}
	a := s.authors.byKey[key]
	switch {
	case a == nil:
		a = &author{key: command.SessionKey{Tenant: strings.Clone(key.Tenant), ClientID: strings.Clone(key.ClientID)}}
		s.authors.byKey[a.key] = a
	case epoch < a.epoch:
		return false
	case epoch == a.epoch && s.clock-a.seen < s.authorLimits.fresh():
		return true
	default:
		s.authors.unplace(a)
	}
	a.epoch, a.seen = epoch, s.clock
	s.authors.place(a)
	if !a.dirty {
		a.dirty = true
		s.authors.dirty = append(s.authors.dirty, a)
		s.dirtyBytes += entryCost
	}
	s.forgetAuthors()
	return true
}

// forgetAuthors drops those that need not be remembered, at most two: each call follows one that may be new.
func (s *Shard) forgetAuthors() {
	as := &s.authors
	for range 2 {
		oldest := as.byAge.chunks[0][0]
		if s.clock-oldest.seen < s.authorLimits.kept && as.byAge.n <= s.authorLimits.most {
			return
		}
		as.unplace(oldest)
		delete(as.byKey, oldest.key)
		oldest.gone = true
		if oldest.inStore {
			s.ops.delete(keyPair(nil, keyAuthor, oldest.key.Tenant, oldest.key.ClientID))
		}
	}
}

// dropAuthors forgets all of them: their epochs are of a past in which more had happened than is known now.
func (s *Shard) dropAuthors() {
	s.authors = newAuthors()
	s.ops.add(storeOp{key: []byte{keyAuthor}, hi: []byte{keyAuthor + 1}})
}

func (as *authors) place(a *author) {
	as.byAge.insert(a)
	as.sum.add(a.hash())
}

func (as *authors) unplace(a *author) {
	as.byAge.remove(a)
	as.sum.sub(a.hash())
}

func (a *author) hash() uint64 {
	h := fold(fold(keyAuthor, a.epoch), uint64(a.seen))
	h = fold(h, recordHash(keyAuthor, []byte(a.key.ClientID)))
	return fold(h, recordHash(keyAuthor, []byte(a.key.Tenant)))
}

// authors writes the records of those that wrote.
func (w *writer) authors() {
	for _, a := range w.s.authors.dirty {
		a.dirty = false
		if a.gone {
			continue
		}
		a.inStore = true
		w.set(keyPair(w.key[:0], keyAuthor, a.key.Tenant, a.key.ClientID), putUvarint(putUvarint(w.val[:0], a.epoch), uint64(a.seen)))
	}
}

func (s *Shard) loadAuthor(k, v []byte) error {
	key, err := splitKey(k)
	if err != nil {
		return err
	}
	r := recordReader{b: v}
	a := &author{key: key, epoch: r.uint(), seen: r.int(), inStore: true}
	if a.epoch == 0 {
		return fmt.Errorf("of %q without an epoch: %w", key.ClientID, ErrCorrupt)
	}
	s.authors.byKey[key] = a
	s.authors.place(a)
	return r.err("author")
}
