package cluster

import (
	"context"
	"math"
	"time"
)

// How commands come into a lane. Each caller has its own answer to a lane that is full: wait, wait a moment, give the
// message up, or go past the bound.

// add puts one command into the lane. encode appends its bytes; it runs under
// the lane's lock and must not block. add blocks while the lane is full, until
// ctx ends; then nothing was added.
func (l *lane) add(ctx context.Context, encode func(dst []byte) []byte, done doneFn) error {
	return l.addLate(ctx, encode, done, nil)
}

// addLate is add with a callback for an outcome that comes after done was told
// that it is unknown.
func (l *lane) addLate(ctx context.Context, encode func(dst []byte) []byte, done, late doneFn) error {
	l.mu.Lock()
	if l.bytes >= laneMaxBytes && l.inc != 0 {
		if err := l.awaitSpaceLocked(ctx, l.giveUpAfter); err != nil {
			l.mu.Unlock()
			return err
		}
	}
	if l.inc == 0 {
		l.mu.Unlock()
		return ErrLeaseLost
	}
	if late != nil {
		if l.open.lates == nil {
			l.open.lates = map[int]doneFn{}
		}
		l.open.lates[len(l.open.dones)] = late
	}
	l.appendUnlock(encode, done)
	return nil
}

// awaitSpaceLocked waits until the lane has room, for most at most. The lane's lock is free meanwhile.
func (l *lane) awaitSpaceLocked(ctx context.Context, most time.Duration) error {
	limit := time.NewTimer(most)
	defer limit.Stop()
	for l.bytes >= laneMaxBytes && l.inc != 0 {
		space := l.space
		l.mu.Unlock()
		var err error
		select {
		case <-space:
		case <-limit.C:
			err = ErrNoLeader
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		l.mu.Lock()
		if err != nil {
			return err
		}
	}
	return nil
}

// addKept adds a command of a shard's leader. It never blocks, and its caller is
// not given up on: done comes when the command was applied, or with an error when
// the lane is reset. So no command of the caller's overtakes an earlier one. It
// refuses if the lane has another incarnation than the caller believes.
func (l *lane) addKept(inc uint64, encode func(dst []byte) []byte, done doneFn) error {
	l.mu.Lock()
	if l.inc != inc || inc == 0 {
		l.mu.Unlock()
		return ErrLaneReset
	}
	l.open.kept = append(l.open.kept, len(l.open.dones))
	l.appendUnlock(encode, done)
	return nil
}

// addOver is add for a command that waited elsewhere: it goes past the lane's bound. What waits there
// is bounded by the lane that it waited for.
func (l *lane) addOver(encode func(dst []byte) []byte, done doneFn) error {
	if !l.addNow(encode, done, math.MaxInt) {
		return ErrLeaseLost
	}
	return nil
}

// room waits as add does until the lane would take a command.
func (l *lane) room(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.bytes < laneMaxBytes || l.inc == 0 {
		return nil
	}
	return l.awaitSpaceLocked(ctx, l.giveUpAfter)
}

// tryAdd is add for what may be lost: it reports false when the lane is full.
func (l *lane) tryAdd(encode func(dst []byte) []byte) bool {
	return l.addNow(encode, nil, laneMaxBytes)
}

// offer is tryAdd that waits a moment for room, unless others have waited in vain.
func (l *lane) offer(ctx context.Context, encode func(dst []byte) []byte) bool {
	l.mu.Lock()
	if l.bytes >= laneMaxBytes && l.inc != 0 {
		if l.stuck || l.awaitSpaceLocked(ctx, laneStall) != nil {
			l.stuck = true
			l.mu.Unlock()
			return false
		}
	}
	if l.inc == 0 {
		l.mu.Unlock()
		return false
	}
	l.appendUnlock(encode, nil)
	return true
}

// push is add for commands that must not wait behind publishers and are few.
func (l *lane) push(encode func(dst []byte) []byte) {
	l.addNow(encode, nil, math.MaxInt)
}

func (l *lane) addNow(encode func(dst []byte) []byte, done doneFn, limit int) bool {
	l.mu.Lock()
	if l.inc == 0 || l.bytes >= limit {
		l.mu.Unlock()
		return false
	}
	l.appendUnlock(encode, done)
	return true
}

// appendUnlock adds one command, unlocks, and wakes the sender if it has to.
func (l *lane) appendUnlock(encode func(dst []byte) []byte, done doneFn) {
	notify := l.appendLocked(encode, done)
	l.mu.Unlock()
	if notify {
		l.kick()
	}
}

// appendLocked adds one command to the open batch, and closes it when it is
// full. It reports whether the sender must be woken.
func (l *lane) appendLocked(encode func(dst []byte) []byte, done doneFn) (notify bool) {
	b := l.open
	if len(b.dones) == 0 {
		b.born = time.Now()
	}
	before := len(b.body)
	b.body = encode(b.body)
	b.dones = append(b.dones, done)
	b.size += len(b.body) - before
	l.bytes += len(b.body) - before
	if len(b.body) < laneBatchBytes {
		return len(b.dones) == 1
	}
	l.closeOpenLocked()
	return true
}

// closeOpenLocked puts the open batch behind those that wait to be sealed.
func (l *lane) closeOpenLocked() {
	l.full = append(l.full, l.open)
	l.open = &laneBatch{body: make([]byte, 0, laneBatchBytes+laneBatchBytes/8)}
	l.ackDue, l.ackCount, l.urgentAck = time.Time{}, 0, false
}

func (l *lane) kick() {
	select {
	case l.wake <- struct{}{}:
	default: // a wake-up is already pending; it will see this work
	}
}

// leaderChanged ends the wait of a lane that recovers.
func (l *lane) leaderChanged() {
	select {
	case l.changed <- struct{}{}:
	default: // a wake-up is already pending
	}
}

func (l *lane) freeSpaceLocked() {
	l.stuck = false
	close(l.space)
	l.space = make(chan struct{})
}
