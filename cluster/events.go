package cluster

import (
	"fmt"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
)

// Event is something that happened in the cluster and that operators may want to
// hear of. Its JSON is a contract.
type Event struct {
	// ID goes on behind this event. It is opaque.
	ID   string    `json:"id,omitempty"`
	Type string    `json:"type"`
	At   time.Time `json:"at"`
	// Node is where it happened, or the node that it is about.
	Node      string         `json:"node,omitempty"`
	Message   string         `json:"message,omitempty"` // for people, not stable
	Client    string         `json:"client,omitempty"`
	User      string         `json:"user,omitempty"`
	Peer      string         `json:"peer,omitempty"` // the client's address, or another node
	Listener  string         `json:"listener,omitempty"`
	Group     *uint32        `json:"group,omitempty"`
	Term      uint64         `json:"term,omitempty"`
	Operation string         `json:"operation,omitempty"`
	Reason    string         `json:"reason,omitempty"`
	Data      map[string]any `json:"data,omitempty"`

	pos  uint64       // in its ring
	ring byte         // which one
	peer fmt.Stringer // becomes Peer when somebody reads
}

// The rings of a node. Clients have one of their own, so that a storm of
// connections does not push out the loss of a leader.
const (
	ringControl byte = iota + 1 // what the control group decided; the same on every node
	ringNode                    // what happened on this node
	ringClients                 // clients and sessions of this node
)

const (
	// eventsControl, eventsNode and eventsClients are how many events each ring
	// keeps: about 3 MiB in all.
	eventsControl = 2048
	eventsNode    = 2048
	eventsClients = 8192
	// eventStreamsMax bounds the streams that a node serves: each of them asks every
	// other node.
	eventStreamsMax = 32
	// eventPageMax is how many events are fetched at a time.
	eventPageMax = 256
	// EventLost is the type of the event that tells of events that are gone.
	EventLost = "lost"
)

// eventTypes are all types of events, with what they tell.
func eventTypes() map[string]string {
	return map[string]string{
		"cluster.formed": "the cluster exists",
		"node.joining":   "a node was admitted", "node.joined": "a node serves clients", "node.promoted": "a node has caught up and counts",
		"node.up": "a process of a node has registered", "node.down": "the lease of a node has ended",
		"node.draining": "an operator sends a node's clients away", "node.drained": "a drain is done", "node.ready": "a drain or a removal was taken back",
		"node.removing": "a removal begins", "node.removed": "a node is out for good",
		"operation.started": "an operation begins", "operation.progress": "an operation has come further",
		"operation.done": "an operation is done", "operation.failed": "an operation has failed", "operation.cancelled": "an operation was cancelled",
		"settings.changed": "a cluster setting has another value",
		"token.created":    "a join token was made", "token.used": "a node joined by a token", "token.revoked": "a join token is gone",
		"apikey.created": "an API key was made", "apikey.revoked": "an API key is gone",
		"raft.leader_elected": "this node leads a group", "raft.leadership_lost": "this node leads a group no more",
		"raft.replica_added": "a replica is placed on a node", "raft.replica_promoted": "a replica has caught up and votes", "raft.replica_removed": "a replica is gone",
		"lease.acquired": "the node may route and acknowledge", "lease.lost": "the node may not", "guard.refused": "something dangerous was refused",
		"alarm.raised": "an operator should look", "alarm.cleared": "an alarm is over",
		"listener.up": "a port listens", "listener.down": "a port does not listen any more",
		"listener.paused": "an operator lets a port accept nobody", "listener.resumed": "it accepts again",
		"server.start": "the process starts", "server.drain_begin": "clients are sent away", "server.drain_end": "nobody is left", "server.stop": "the process ends",
		"storage.failstop": "the disk cannot be trusted", "config.settings_differ": "the file of the node differs from the cluster",
		"tls.reloaded": "certificates were read again", "tls.reload_failed": "certificates were not read", "tls.expiring": "a certificate ends soon",
		"client.connected": "a client is connected", "client.disconnected": "a connection ended", "client.rejected": "a handshake was refused",
		"client.takeover": "another connection has the session", "client.kicked": "an operator closed the connection",
		"session.created": "a durable session began", "session.resumed": "a durable session was found again",
		"session.expired": "a durable session expired", "session.ended": "a durable session was ended",
		EventLost: "events that cannot be had any more",
	}
}

// eventRing keeps the last events of a kind.
type eventRing struct {
	kind  byte
	dense bool // positions are counted here, without gaps

	mu sync.Mutex
	// Below mu:
	buf  []Event
	head int           // where the next one goes
	n    int           // how many there are
	last uint64        // position of the newest
	base uint64        // what is at or below it is not here
	wake chan struct{} // closed by the next event; nil if nobody waits
}

func newEventRing(kind byte, size int, dense bool) *eventRing {
	return &eventRing{kind: kind, dense: dense, buf: make([]Event, size)}
}

// add takes an event over. It never waits, and allocates nothing. pos is ignored by a
// dense ring.
func (r *eventRing) add(e *Event, pos uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.dense {
		pos = r.last + 1
	}
	if r.n == len(r.buf) {
		r.base = r.buf[r.head].pos
	} else {
		r.n++
	}
	at := &r.buf[r.head]
	*at = *e
	at.pos, at.ring = pos, r.kind
	r.head = (r.head + 1) % len(r.buf)
	r.last = pos
	if r.wake != nil {
		close(r.wake)
		r.wake = nil
	}
}

// atLocked is the i-th event from the oldest. The caller holds mu.
func (r *eventRing) atLocked(i int) *Event {
	return &r.buf[(r.head-r.n+i+len(r.buf))%len(r.buf)]
}

// restart forgets everything: what comes is behind pos.
func (r *eventRing) restart(pos uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.n, r.base, r.last = 0, pos, max(pos, r.last)
}

// changed is closed by the next event.
func (r *eventRing) changed() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.wake == nil {
		r.wake = make(chan struct{})
	}
	return r.wake
}

func (r *eventRing) end() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

// eventGap tells of events that are gone. Missed is negative if nobody knows how many.
type eventGap struct {
	Missed int64  `json:"missed"`
	Reason string `json:"reason"`
}

// after returns up to limit events behind pos that f selects, the position to go on
// from, and what is gone.
func (r *eventRing) after(pos uint64, limit int, f *eventFilter) (out []Event, next uint64, gap *eventGap) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if pos < r.base {
		gap = &eventGap{Missed: -1, Reason: "the node keeps no more of them"}
		if r.dense {
			gap.Missed = int64(r.base - pos)
		}
		pos = r.base
	}
	next = pos
	first := sort.Search(r.n, func(i int) bool { return r.atLocked(i).pos > pos })
	for i := first; i < r.n; i++ {
		e := r.atLocked(i)
		if f.selects(e) {
			if len(out) == limit {
				break
			}
			out = append(out, *e)
		}
		next = e.pos
	}
	return out, next, gap
}

// since is the position before the first event that is not older than at.
func (r *eventRing) since(at time.Time) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.n {
		if e := r.atLocked(i); !e.At.Before(at) {
			return e.pos - 1
		}
	}
	return r.last
}

// latest is the newest event of a client.
func (r *eventRing) latest(client string) (Event, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.n {
		if e := r.atLocked(r.n - 1 - i); e.Client == client {
			return e.readable(), true
		}
	}
	return Event{}, false
}

// readable fills in what was left until somebody reads.
func (e *Event) readable() Event {
	out := *e
	if out.Peer == "" && out.peer != nil {
		out.Peer = out.peer.String()
	}
	out.peer = nil
	return out
}

// eventFilter selects events.
type eventFilter struct {
	// Types are names, or beginnings of them that end with a dot. None: all.
	Types []string `json:"types,omitempty"`
	// Client selects what concerns a client id.
	Client string `json:"client,omitempty"`
}

func (f *eventFilter) selects(e *Event) bool {
	if f.Client != "" && e.Client != f.Client {
		return false
	}
	if len(f.Types) == 0 {
		return true
	}
	return slices.ContainsFunc(f.Types, func(t string) bool {
		return e.Type == t || strings.HasSuffix(t, ".") && strings.HasPrefix(e.Type, t)
	})
}

// newEventFilter checks what a user asks for: names such as node.down, and kinds such
// as node or node.*.
func newEventFilter(types []string, client string) (eventFilter, error) {
	f := eventFilter{Client: client}
	known := eventTypes()
	for _, t := range types {
		t = strings.TrimSuffix(strings.TrimSpace(t), "*")
		if t == "" {
			continue
		}
		if _, ok := known[t]; ok {
			f.Types = append(f.Types, t)
			continue
		}
		prefix := strings.TrimSuffix(t, ".") + "."
		found := false
		for name := range known {
			found = found || strings.HasPrefix(name, prefix)
		}
		if !found {
			return f, refuse(GuardInvalid, "there is no event %q: use one of %s", t, strings.Join(sortedKeys(known), ", "))
		}
		f.Types = append(f.Types, prefix)
	}
	return f, nil
}

// events are what this node knows of what happens. Nothing of it is replicated: the
// control ring repeats because every node applies the same log, the others are gone
// with their process.
type events struct {
	start   uint64 // which process of the node this is
	node    string
	control *eventRing
	local   *eventRing
	clients *eventRing
	streams atomic.Int32
	met     *eventMetrics
}

func newEvents(node string, start uint64, met *eventMetrics) *events {
	return &events{
		node: node, start: start,
		control: newEventRing(ringControl, eventsControl, false), local: newEventRing(ringNode, eventsNode, true),
		clients: newEventRing(ringClients, eventsClients, true), met: met,
	}
}

// add notes what happened on this node.
func (ev *events) add(e *Event) {
	if e.At.IsZero() {
		e.At = time.Now()
	}
	if e.Node == "" {
		e.Node = ev.node
	}
	if strings.HasPrefix(e.Type, "client.") || strings.HasPrefix(e.Type, "session.") {
		ev.clients.add(e, 0)
		return
	}
	ev.local.add(e, 0)
}

// controlLoaded says that the control machine stands at a view without having come
// there entry by entry.
func (ev *events) controlLoaded(v *state.ControlView) {
	ev.control.restart(controlPos(v.Index, maxOrdinal))
}

// controlChanged notes what an entry of the control group changed. Every node comes to
// the same events at the same positions.
func (ev *events) controlChanged(before, after *state.ControlView) {
	for i, e := range controlEvents(before, after) {
		e.At = time.UnixMilli(after.Clock)
		ev.control.add(&e, controlPos(after.Index, min(uint64(i+1), maxOrdinal)))
	}
}

// applied notes what a shard did, on its leader alone.
func (ev *events) applied(shard uint32, fx *state.Effects) {
	for i := range fx.Lapsed {
		e := Event{Type: "session.ended", Client: fx.Lapsed[i].Key.ClientID, Group: &shard}
		if fx.Lapsed[i].Expired {
			e.Type = "session.expired"
		}
		ev.add(&e)
	}
}

// maxOrdinal is how many events one entry of the control group has at most.
const maxOrdinal = 1<<12 - 1

// controlPos is the position of an event of the control group.
func controlPos(index, ordinal uint64) uint64 { return index<<12 | ordinal }
