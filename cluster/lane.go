package cluster

import (
	"context"
	"sync"
	"time"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
)

const (
	// laneBatchBytes closes a batch by size.
	laneBatchBytes = 64 << 10
	// laneWindow is how many batches are under way at most. It must stay below
	// the number of results that a shard keeps per lane (64).
	laneWindow = 16
	// laneEager is how many batches may be under way for a small batch to leave
	// at once. Above it, commands gather until a batch is full or returns: that
	// is what makes batches grow with the load and costs nothing when idle.
	laneEager = 2
	// laneMaxBytes bounds what a lane holds. A full lane blocks its publishers,
	// and so their sockets.
	laneMaxBytes = 8 << 20
	// laneAckDelay is how long acknowledgements wait for company, unless a
	// command leaves before. Nobody waits for them: the subscriber's window is
	// already free, and one that is lost with its node costs a redelivery. Each
	// batch of them is an entry with three fsyncs: at 500 messages/s with a delay of
	// 5 ms they kept the disk busier than the messages did.
	laneAckDelay = 100 * time.Millisecond
	// laneShareAckDelay is the same for sessions in a share: a member gets no more
	// messages than it has room for until the share hears of these.
	laneShareAckDelay = 10 * time.Millisecond
	// laneAckMax is how many acknowledgements end the wait.
	laneAckMax = 1024
	// laneRetry is the wait before a batch is sent again when no leader is known.
	laneRetry = 20 * time.Millisecond
	// laneStall is how long a QoS 0 message waits for room in a lane that is full. A publisher that outruns the
	// lane is slowed down by it: dropping at once cost more than sending, since the publisher only went faster
	// (of 5.0 million messages 4.1 were read, matched, encoded and dropped).
	laneStall = 250 * time.Millisecond
	// laneSweep is how often commands past their deadline are looked for.
	laneSweep = 250 * time.Millisecond
)

// doneFn is told the outcome of one command: its result and the log index
// where it was applied, or why the outcome is not known.
type doneFn func(res command.Result, index uint64, err error)

// batchSender carries one sealed batch to the shard's leader. done is called
// exactly once. An error means that the batch may or may not be applied.
type batchSender interface {
	sendBatch(shard uint32, batch []byte, done func(command.BatchResult, uint64, error))
}

// sealFn gives a batch its final bytes: the header and what is in it.
type sealFn func(h command.BatchHeader, b *laneBatch) []byte

// laneBatch is a run of commands that travels and is applied as one.
type laneBatch struct {
	seq     uint64
	body    []byte // encoded commands
	sealed  []byte // header + body, set when first sent
	size    int    // of the commands, for the lane's bound
	dones   []doneFn
	born    time.Time
	sentAt  time.Time // when it was last sent
	applied bool
	expired bool // the callers were told that the outcome is unknown
	// kept are the positions of commands whose callers wait for ever.
	kept []int
	acks map[command.SessionRef]*pendingAck
	// ackOrder are the acks as they were encoded, set by seal.
	ackOrder []*pendingAck
	// lates are told of an outcome that comes after the caller gave up, by the
	// position of the command. Only commands that must be undone have one.
	lates map[int]doneFn
}

// lane is the ordered, pipelined stream of commands from this node to one
// shard. A batch keeps its sequence number when it is sent again, so the state
// machine applies it once (INVARIANTS I2, I4).
type lane struct {
	shard  uint32
	node   string
	sender batchSender
	seal   sealFn
	met    *metrics
	// stale is told that a shard takes this incarnation for gone. nil: nobody wants to know.
	stale func(incarnation uint64)
	// whole: the far end answers for a batch as a whole, not per command.
	whole bool
	// giveUpAfter is how long a caller waits for an outcome (I26).
	giveUpAfter time.Duration
	wake        chan struct{} // capacity 1: the sender goroutine has work
	changed     chan struct{} // capacity 1: a leader may be known now

	mu         sync.Mutex
	inc        uint64        // incarnation, 0 = the lane is closed to new commands
	nextSeq    uint64        // sequence of the next batch to seal
	ackedSeq   uint64        // every batch up to here has returned
	open       *laneBatch    // gathers commands
	full       []*laneBatch  // closed by size, not sealed
	sent       []*laneBatch  // sealed, not returned, in order
	unsent     int           // how many at the end of sent must be sent (again)
	gen        uint64        // counts recoveries: failures of an older one are stale
	recovering bool          // wait before sending again
	bytes      int           // held in open, full and sent
	space      chan struct{} // closed when bytes went down
	stuck      bool          // somebody waited for room and got none: nobody waits again before there is some
	ackDue     time.Time     // when the waiting acknowledgements leave, zero for none
	ackCount   int           // how many wait
	urgentAck  bool          // somebody waits for an acknowledgement to commit
}

func newLane(shard uint32, node string, s batchSender, seal sealFn, giveUp time.Duration, m *metrics) *lane {
	return &lane{
		shard: shard, node: node, sender: s, seal: seal, met: m, giveUpAfter: giveUp,
		wake: make(chan struct{}, 1), changed: make(chan struct{}, 1),
		space: make(chan struct{}), open: new(laneBatch),
	}
}

// reset starts the lane anew under an incarnation. What was under way is
// answered with why: a new incarnation starts at sequence 1.
func (l *lane) reset(incarnation uint64, why error) {
	l.mu.Lock()
	var lost []doneFn
	for _, b := range l.batchesLocked() {
		lost = append(lost, b.takeDones(true)...)
	}
	l.inc, l.nextSeq, l.ackedSeq = incarnation, 1, 0
	l.open, l.full, l.sent, l.unsent = new(laneBatch), nil, nil, 0
	l.gen++
	l.recovering, l.bytes, l.ackDue, l.ackCount, l.urgentAck = false, 0, time.Time{}, 0, false
	l.freeSpaceLocked()
	l.mu.Unlock()
	for _, done := range lost {
		done(command.Result{}, 0, why)
	}
}

func (l *lane) batchesLocked() []*laneBatch {
	all := append([]*laneBatch(nil), l.sent...)
	all = append(all, l.full...)
	return append(all, l.open)
}

// takeDones returns the callbacks that were not called, and forgets them; those
// of kept commands only if all is set.
func (b *laneBatch) takeDones(all bool) []doneFn {
	var out []doneFn
	kept := b.kept
	for i, d := range b.dones {
		if len(kept) > 0 && kept[0] == i {
			kept = kept[1:]
			if !all {
				continue
			}
		}
		if d != nil {
			out = append(out, d)
			b.dones[i] = nil
		}
	}
	for _, a := range b.acks {
		for _, d := range a.dones {
			out = append(out, func(_ command.Result, _ uint64, err error) { d(err) })
		}
		a.dones = nil
	}
	return out
}

// run sends batches until ctx ends. Then every caller is answered.
func (l *lane) run(ctx context.Context) { l.runUntil(ctx, ErrStopped) }

// fail answers everything that is under way with why and closes the lane.
func (l *lane) fail(why error) { l.reset(0, why) }

// queued is how many bytes wait in the lane.
func (l *lane) queued() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bytes
}
