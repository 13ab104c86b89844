package state

// hotList links the sessions with hot entries, the one that was appended to last
// at the new end. Eviction starts at the old end.
type hotList struct{ newest, oldest *session }

func (l *hotList) touch(ss *session) {
	if l.newest == ss {
		return
	}
	l.remove(ss)
	ss.inHot = true
	ss.older = l.newest
	if l.newest != nil {
		l.newest.newer = ss
	}
	l.newest = ss
	if l.oldest == nil {
		l.oldest = ss
	}
}

func (l *hotList) remove(ss *session) {
	if !ss.inHot {
		return
	}
	if ss.newer != nil {
		ss.newer.older = ss.older
	} else {
		l.newest = ss.older
	}
	if ss.older != nil {
		ss.older.newer = ss.newer
	} else {
		l.oldest = ss.newer
	}
	ss.newer, ss.older, ss.inHot = nil, nil, false
}
