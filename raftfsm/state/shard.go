package state

import (
	"cmp"
	"fmt"
	"slices"
	"sync"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
)

// Shard is the machine of one shard.
type Shard struct {
	id   uint32
	opts Options

	mu sync.RWMutex
	// Everything below is changed under mu by the apply goroutine alone.
	store      Store
	loads      uint64 // how often Load ran
	writeBacks uint64

	meta
	restore  *restoring // nil unless a restore is under way
	tenants  map[string]*tenant
	byID     map[uint64]*session
	sessions *ordered[*session]
	owners   map[ownerKey]*owner
	lanes    map[string]*lane
	sources  map[uint32]*source
	origins  originList
	timers   timers     // sessions that end, wills that fire
	expiries timers     // inboxes with hot entries that expire
	expiring expiryHeap // retained messages
	authors  authors
	shares   *ordered[*session]

	// sum is the digest of all records but sessions that rehashList names, lanes,
	// sources, authors and the meta record.
	sum sum

	// Figures.
	inboxMessages, inboxBytes uint64
	retainedBytes             uint64
	retainedCount             int
	durables, fullSessions    int
	subscriptions             int
	inboundCount              int

	// What the next write-back has to do.
	dirtyList    []*session
	rehashList   []*session
	retainedList []*retained
	ops          storeOps
	unrefs       map[uint64]int64 // by message id
	dirtyBytes   int64
	logBytes     int64
	sweeps       []uint64 // ids of ended sessions whose entries are in the store
	newSweeps    []uint64 // the same, since the last write-back
	changed      bool

	// What is hot.
	hotList    hotList
	hotBytes   int64
	hotEntries int
	freeMsgs   []*message
	// coldExpiry is at or below the earliest expiry in the store's index that no
	// Tick has handled, 0 for none.
	coldExpiry int64
	tickItems  int // how many things of a kind one Tick handles

	authorLimits authorLimits

	// Scratch of the entry that is being applied.
	lastTenant    *tenant
	touchedRoutes []touchedRoute
	fx            effectsInProgress
	matcher       matcher
	cold          map[coldKey]coldEntry
	due           dueScan
	settles       []*settlement
	shareHits     []*session
	encoded       []byte // a command of the shard's own, before it is copied
	cmd           scratch
	fatal         error
}

// meta is what the meta record holds: logical state except applied, lastMsg and check.
type meta struct {
	applied    uint64
	clock      int64
	lastSID    uint64
	lastEpoch  uint64
	lastOrigin uint64
	lastOrder  uint64 // of inbound QoS 2 messages
	lastMsg    uint64
	settings   command.ShardSettings
	dropped    Dropped
	// sessionsExpired counts sessions that ended by their expiry interval.
	sessionsExpired uint64
	// expiryDone: Ticks have looked at all entries that expire up to this one.
	expiryDone dueEntry
	check      checkpoint
}

// checkpoint is the digest that this replica had when it applied the last
// Checkpoint command. The next one is compared with it.
type checkpoint struct {
	index  uint64
	digest [16]byte
}

// scratch is where commands are decoded, reused so that decoding allocates nothing.
type scratch struct {
	batch       command.Batch
	publish     command.Publish
	message     command.Message
	connect     command.Connect
	disconnect  command.Disconnect
	subscribe   command.Subscribe
	unsubscribe command.Unsubscribe
	ack         command.Ack
	receive     command.Receive
	release     command.Release
	originDone  command.OriginDone
	tick        command.Tick
	nodeLost    command.NodeLost
	endSession  command.EndSession
	checkpoint  command.Checkpoint
	configure   command.Configure
	member      command.ShareMember
	deliver     command.ShareDeliver
	settle      command.ShareSettle
	replay      command.Replay
	restore     command.Restore
	chunk       command.RestoreChunk
	results     command.ResultWriter
}

// effectsInProgress gathers effects while an entry is applied.
type effectsInProgress struct {
	wakes   []*session
	kicks   []Kick
	full    []FullChange
	ended   []command.SessionKey
	lapsed  []Lapsed
	origins bool
}

// NewShard returns an empty machine. It has no side effects. Load it before Apply.
func NewShard(id uint32, o Options) *Shard {
	s := &Shard{id: id, opts: o.withDefaults(), tickItems: maxTickItems, authorLimits: authorLimits{kept: authorKept, most: maxAuthors}}
	s.matcher.fn = s.onMatch
	s.reset()
	return s
}

// ID is the shard's number.
func (s *Shard) ID() uint32 { return s.id }

// Applied is the index of the last applied entry.
func (s *Shard) Applied() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.applied
}

// Clock is the group's clock in unix ms, 0 before the first entry.
func (s *Shard) Clock() int64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.clock
}

// Apply applies an entry. An index at or below Applied is skipped (nil results).
// An error means that the process must end. The machine keeps parts of entry:
// it must never change.
func (s *Shard) Apply(index uint64, entry []byte) ([]command.BatchResult, Effects, error) {
	if s.store == nil {
		return nil, Effects{}, ErrNotLoaded
	}
	if index <= s.applied && !planted("replay-applied-again") {
		return nil, Effects{}, nil
	}
	e, err := command.DecodeEntry(entry)
	if err != nil {
		return nil, Effects{}, fmt.Errorf("apply entry %d: %w", index, err)
	}
	clock := max(s.clock, e.Time)
	if err := s.prefetch(e, clock); err != nil {
		return nil, Effects{}, fmt.Errorf("prefetch for entry %d: %w", index, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	results, err := s.applyEntry(index, clock, &e)
	if err != nil {
		return nil, Effects{}, fmt.Errorf("apply entry %d: %w", index, err)
	}
	s.logBytes += int64(len(entry))
	return results, s.takeEffects(index), nil
}

func (s *Shard) applyEntry(index uint64, clock int64, e *command.Entry) ([]command.BatchResult, error) {
	s.clock = clock
	s.changed = true
	s.matcher.index = index
	var results []command.BatchResult
	for {
		ok, err := e.Next(&s.cmd.batch)
		if err != nil {
			return nil, err
		}
		if !ok {
			break
		}
		r, err := s.applyLane(index, &s.cmd.batch)
		if err != nil {
			return nil, err
		}
		results = append(results, r)
	}
	s.applied = index
	return results, nil
}

// applyCommands applies the commands of a batch and returns their results, encoded.
func (s *Shard) applyCommands(index uint64, b *command.Batch) ([]byte, error) {
	s.cmd.results.Reset(nil)
	it := b.Commands()
	var c command.Command
	for {
		ok, err := it.Next(&c)
		if err != nil {
			return nil, err
		}
		if !ok {
			return s.cmd.results.Bytes(), nil
		}
		began := s.opts.Meter.Begin(c.Kind)
		if err := s.applyCommand(index, &c); err != nil {
			return nil, fmt.Errorf("%s: %w", c.Kind, err)
		}
		if began != 0 {
			s.opts.Meter.End(c.Kind, began)
		}
		if len(s.settles) > 0 {
			s.originateSettles()
		}
		if s.fatal != nil {
			return nil, s.fatal
		}
	}
}

func (s *Shard) applyCommand(index uint64, c *command.Command) error {
	w := &s.cmd.results
	if s.locked(c.Kind) {
		w.Code(command.Full) // it stands for "not now", and never for an acknowledgement
		return nil
	}
	switch c.Kind {
	case command.KindPublish:
		return plain(w, &s.cmd.publish, c.Payload, s.applyPublish)
	case command.KindAck:
		return plain(w, &s.cmd.ack, c.Payload, s.applyAck)
	case command.KindReceive:
		return plain(w, &s.cmd.receive, c.Payload, s.applyReceive)
	case command.KindRelease:
		return plain(w, &s.cmd.release, c.Payload, s.applyRelease)
	case command.KindConnect:
		return full(w, index, &s.cmd.connect, c.Payload, s.applyConnect)
	case command.KindDisconnect:
		return plain(w, &s.cmd.disconnect, c.Payload, s.applyDisconnect)
	case command.KindSubscribe:
		return full(w, index, &s.cmd.subscribe, c.Payload, s.applySubscribe)
	case command.KindUnsubscribe:
		return full(w, index, &s.cmd.unsubscribe, c.Payload, s.applyUnsubscribe)
	case command.KindOriginDone:
		return plain(w, &s.cmd.originDone, c.Payload, s.applyOriginDone)
	case command.KindNodeLost:
		return plain(w, &s.cmd.nodeLost, c.Payload, s.applyNodeLost)
	case command.KindTick:
		return plain(w, &s.cmd.tick, c.Payload, s.applyTick)
	case command.KindEndSession:
		return plain(w, &s.cmd.endSession, c.Payload, s.applyEndSession)
	case command.KindCheckpoint:
		if err := s.cmd.checkpoint.Decode(c.Payload); err != nil {
			return err
		}
		w.Code(command.OK)
		return s.applyCheckpoint(index, &s.cmd.checkpoint)
	case command.KindConfigure:
		return plain(w, &s.cmd.configure, c.Payload, s.applyConfigure)
	case command.KindShareMember:
		return full(w, index, &s.cmd.member, c.Payload, s.applyShareMember)
	case command.KindShareDeliver:
		return plain(w, &s.cmd.deliver, c.Payload, s.applyShareDeliver)
	case command.KindShareSettle:
		return plain(w, &s.cmd.settle, c.Payload, s.applyShareSettle)
	case command.KindReplay:
		return plain(w, &s.cmd.replay, c.Payload, s.applyReplay)
	case command.KindRestore:
		return plain(w, &s.cmd.restore, c.Payload, s.applyRestore)
	case command.KindRestoreChunk:
		return plain(w, &s.cmd.chunk, c.Payload, s.applyRestoreChunk)
	case command.KindRecover:
		return plain(w, &command.Recover{}, c.Payload, s.applyRecover)
	}
	if c.Ignorable {
		// Programs that know the kind must answer OK, too: results are kept.
		w.Code(command.OK)
		return nil
	}
	return ErrUnknownKind
}

// decoder is a command that is decoded into scratch space.
type decoder[T any] interface {
	*T
	Decode([]byte) error
}

// plain decodes and applies a command whose result is a code.
func plain[T any, P decoder[T]](w *command.ResultWriter, c P, payload []byte, apply func(P) command.ResultCode) error {
	if err := c.Decode(payload); err != nil {
		return err
	}
	w.Code(apply(c))
	return nil
}

// full decodes and applies a command whose result has more than a code.
func full[T any, P decoder[T]](w *command.ResultWriter, index uint64, c P, payload []byte, apply func(P) command.Result) error {
	if err := c.Decode(payload); err != nil {
		return err
	}
	r := apply(c)
	if r.Code == command.OK {
		r.Index = index
	}
	w.Add(&r)
	return nil
}

// takeEffects ends an entry: what it did to the world, in a defined order.
func (s *Shard) takeEffects(index uint64) Effects {
	fx := Effects{Index: index, Origins: s.fx.origins && s.restore == nil}
	fx.Routes = s.routeChanges()
	if len(s.fx.wakes) > 0 {
		slices.SortFunc(s.fx.wakes, compareSID)
		fx.Wakes = make([]Wake, 0, len(s.fx.wakes))
		for _, ss := range s.fx.wakes {
			if ss.owner != nil && !ss.ended {
				fx.Wakes = append(fx.Wakes, Wake{Key: ss.key, Node: ss.owner.key.node, Epoch: ss.epoch})
			}
		}
		clear(s.fx.wakes)
	}
	if len(s.fx.kicks) > 0 {
		fx.Kicks = slices.Clone(s.fx.kicks)
		slices.SortStableFunc(fx.Kicks, func(a, b Kick) int { return cmp.Compare(a.Epoch, b.Epoch) })
	}
	if len(s.fx.full) > 0 {
		fx.Full = slices.Clone(s.fx.full)
		slices.SortStableFunc(fx.Full, func(a, b FullChange) int { return compareKeys(a.Key, b.Key) })
	}
	if len(s.fx.ended) > 0 {
		fx.Lapsed = slices.Clone(s.fx.lapsed)
		fx.Ended = slices.Clone(s.fx.ended)
		slices.SortStableFunc(fx.Ended, compareKeys)
	}
	s.fx = effectsInProgress{wakes: s.fx.wakes[:0], kicks: s.fx.kicks[:0], full: s.fx.full[:0], ended: s.fx.ended[:0], lapsed: s.fx.lapsed[:0]}
	return fx
}

// applyCheckpoint compares replicas (G8): the command carries what the leader's
// digest was at the checkpoint before, and makes a new one.
func (s *Shard) applyCheckpoint(index uint64, c *command.Checkpoint) error {
	if c.Index != 0 && c.Index == s.check.index && c.Digest != s.check.digest {
		return fmt.Errorf("checkpoint at %d: leader %x, here %x: %w", c.Index, c.Digest, s.check.digest, ErrDiverged)
	}
	s.check = checkpoint{index: index, digest: s.digest()}
	return nil
}

// LastCheckpoint is what the next Checkpoint command should carry: the index and
// digest of the last one, 0 if there was none.
func (s *Shard) LastCheckpoint() command.Checkpoint {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return command.Checkpoint{Index: s.check.index, Digest: s.check.digest}
}

// applyConfigure replaces the settings.
func (s *Shard) applyConfigure(c *command.Configure) command.ResultCode {
	s.settings = c.Settings
	for _, chunk := range s.sessions.chunks {
		for _, ss := range chunk {
			if ss.box != nil {
				s.checkFull(ss)
			}
		}
	}
	for _, chunk := range s.shares.chunks {
		for _, ss := range chunk {
			s.checkFull(ss)
			s.assign(ss) // the strategy may be another
		}
	}
	return command.OK
}

// Settings are the settings in force.
func (s *Shard) Settings() command.ShardSettings {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.settings
}
