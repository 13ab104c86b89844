package sessiontest

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/session"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// Cluster stands for everything below package session: sessions with inboxes,
// epochs, wills and expiry, and retained messages, for any number of nodes. What
// it is told takes effect at once; a test can hold back that it says so, refuse,
// fail, or block.
type Cluster struct {
	mu       sync.Mutex
	nodes    []*Node                       // guarded by mu, as the rest
	sessions map[command.SessionKey]*state //
	retained map[retainedKey]retained
	shares   map[shareKey]*share
	epoch    uint64
	closed   bool

	faults Faults
	held   []Held
	full   chan struct{}

	published int
	fetches   int
	replays   int
	misfits   int
	gate      chan struct{} // what Replay waits for
	readGate  chan struct{} // what Retained waits for
	pageGate  chan struct{} // what its answer waits for
}

// Faults change how the cluster answers.
type Faults struct {
	// Unavailable fails CONNECT, SUBSCRIBE, UNSUBSCRIBE and every publish.
	Unavailable bool
	// Hang lets CONNECT, SUBSCRIBE and UNSUBSCRIBE wait until their context ends.
	Hang bool
	// Refuse answers every publish above QoS 0 with the code, without effect.
	Refuse mqtt.ReasonCode
	// FailFetches is how many reads of inboxes or retained messages fail.
	FailFetches int
	// Hold keeps completions back until Release.
	Hold bool
	// NoReplay makes sessions forget the replays that they wait for.
	NoReplay bool
	// DropReplays is how many pages of Replay fail without effect.
	DropReplays int
	// RefuseSubscribe refuses every SUBSCRIBE with the code, without effect.
	RefuseSubscribe mqtt.ReasonCode
	// LoseReplays is how many pages of Replay are taken without saying so.
	LoseReplays int
	// DenyFilter is refused by Subscribe with 0x87.
	DenyFilter string
}

// Held is a completion that is kept back.
type Held struct {
	// What is publish, receive, release or ack.
	What string
	// Packet is the packet id where the call has one.
	Packet uint16
	run    func()
}

type retainedKey struct{ tenant, topic string }

// state is one session.
type state struct {
	key     command.SessionKey
	user    string
	epoch   uint64
	owner   *Node // nil if it is not connected
	expiryS uint32
	subs    map[string]command.Subscription
	inbox   []entry
	next    uint64 // the next sequence
	sentTo  uint64
	// receiveMax is the owner's Receive Maximum.
	receiveMax uint16
	dupTo      uint64 // what may have been sent before this epoch
	inbound    map[uint16]command.Message
	replays    map[string]string // by filter: the topic that it stands at
	will       *command.Will
	willTimer  *time.Timer
	endTimer   *time.Timer
}

type entry struct {
	seq       uint64
	msg       command.Message
	qos       byte
	retain    bool
	ids       []uint32
	received  bool
	expiresAt int64
	share     string // the full filter of the share that it comes from
}

// New returns an empty cluster.
func New() *Cluster {
	return &Cluster{sessions: make(map[command.SessionKey]*state), retained: make(map[retainedKey]retained),
		shares: make(map[shareKey]*share)}
}

// Node is one node: a server, and the backend that it sees.
type Node struct {
	Server *session.Server
	// BeforeConnectReturns, if set, is called when a session is committed and
	// its CONNECT has not been told yet.
	BeforeConnectReturns func(command.SessionRef)

	cl *Cluster
}

// AddNode starts a server with a backend of this cluster.
func (cl *Cluster) AddNode(cfg session.Config, lg *zap.Logger, reg prometheus.Registerer) *Node {
	n := &Node{cl: cl}
	n.Server = session.NewServer(cfg, session.Backend{Sessions: n, Publisher: n, Inbox: n, Retained: n}, lg, reg)
	cl.mu.Lock()
	defer cl.mu.Unlock()
	cl.nodes = append(cl.nodes, n)
	return n
}

// Dial connects a client to the node through a Pipe of 64 KiB.
func (n *Node) Dial(v mqtt.Version) *Client { return n.DialPipe(v, 64<<10) }

// DialPipe is Dial with another capacity of the connection.
func (n *Node) DialPipe(v mqtt.Version, capacity int) *Client {
	a, b := Pipe(capacity)
	n.Server.Serve(b, session.Meta{Listener: "test", Transport: "pipe"})
	c := NewClient(a, v)
	c.Server = b
	return c
}

// Set changes the faults.
func (cl *Cluster) Set(change func(*Faults)) {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	change(&cl.faults)
}

// FillLanes lets publishes block until the returned function is called.
func (cl *Cluster) FillLanes() (empty func()) {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	full := make(chan struct{})
	cl.full = full
	return func() {
		cl.mu.Lock()
		defer cl.mu.Unlock()
		if cl.full == full {
			cl.full = nil
			close(full)
		}
	}
}

// Held lists the completions that are kept back.
func (cl *Cluster) Held() []Held {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	return append([]Held(nil), cl.held...)
}

// Release lets the completion at place i of Held go.
func (cl *Cluster) Release(i int) {
	cl.mu.Lock()
	h := cl.held[i]
	cl.held = append(cl.held[:i:i], cl.held[i+1:]...)
	cl.mu.Unlock()
	h.run()
}

// ReleaseAll lets all completions go, in order, and stops holding.
func (cl *Cluster) ReleaseAll() {
	cl.mu.Lock()
	held := cl.held
	cl.held, cl.faults.Hold = nil, false
	cl.mu.Unlock()
	for _, h := range held {
		h.run()
	}
}

// finish calls done, or keeps it back.
func (cl *Cluster) finish(what string, pid uint16, run func()) {
	cl.mu.Lock()
	if cl.faults.Hold {
		cl.held = append(cl.held, Held{What: what, Packet: pid, run: run})
		cl.mu.Unlock()
		return
	}
	cl.mu.Unlock()
	run()
}

// Close stops the timers. Servers are to be stopped before.
func (cl *Cluster) Close() {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	cl.closed = true
	for _, s := range cl.sessions {
		s.stopTimers()
	}
}

func (s *state) stopTimers() {
	for _, t := range []*time.Timer{s.willTimer, s.endTimer} {
		if t != nil {
			t.Stop()
		}
	}
	s.willTimer, s.endTimer = nil, nil
}

// SessionInfo describes a session for tests.
type SessionInfo struct {
	Epoch     uint64
	Connected bool
	ExpiryS   uint32
	Filters   []string
	// Inbox are the sequences that are not acknowledged, Awaiting the inbound
	// QoS 2 ids.
	Inbox    []uint64
	Awaiting []uint16
	SentTo   uint64
}

// Session returns what the cluster knows of a session.
func (cl *Cluster) Session(clientID string) (SessionInfo, bool) {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	s := cl.sessions[command.SessionKey{ClientID: clientID}]
	if s == nil {
		return SessionInfo{}, false
	}
	info := SessionInfo{Epoch: s.epoch, Connected: s.owner != nil, ExpiryS: s.expiryS, SentTo: s.sentTo}
	for f := range s.subs {
		info.Filters = append(info.Filters, f)
	}
	for i := range s.inbox {
		info.Inbox = append(info.Inbox, s.inbox[i].seq)
	}
	for pid := range s.inbound {
		info.Awaiting = append(info.Awaiting, pid)
	}
	return info, true
}

// Fetches returns how many reads of inboxes and retained messages there were.
func (cl *Cluster) Fetches() int {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	return cl.fetches
}

// HoldReplays lets pages of Replay wait in front of their effect until the
// returned function is called.
func (cl *Cluster) HoldReplays() (release func()) { return cl.hold(&cl.gate) }

// HoldReads lets reads of retained messages wait until the returned function is called.
func (cl *Cluster) HoldReads() (release func()) { return cl.hold(&cl.readGate) }

// HoldPages lets retained messages that were read wait until the returned function is called.
func (cl *Cluster) HoldPages() (release func()) { return cl.hold(&cl.pageGate) }

func (cl *Cluster) hold(at *chan struct{}) (release func()) {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	gate := make(chan struct{})
	*at = gate
	return func() {
		cl.mu.Lock()
		defer cl.mu.Unlock()
		if *at == gate {
			*at = nil // else another one has followed
		}
		close(gate)
	}
}

// passGate waits while a gate is held.
func (cl *Cluster) passGate(ctx context.Context, at *chan struct{}) {
	cl.mu.Lock()
	gate := *at
	cl.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
		}
	}
}

// Misfits returns how many pages of Replay did not stand where their replay does.
func (cl *Cluster) Misfits() int {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	return cl.misfits
}

// Replays returns how many pages of retained messages were added to inboxes.
func (cl *Cluster) Replays() int {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	return cl.replays
}

// Published returns how many messages were routed.
func (cl *Cluster) Published() int {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	return cl.published
}

// Publish routes a message from nowhere, as another node would.
func (cl *Cluster) Publish(m command.Message) {
	cl.route("", &m)
}

// Kick tells every node that an epoch is over.
func (cl *Cluster) Kick(clientID string, epoch uint64, code mqtt.ReasonCode) {
	cl.mu.Lock()
	nodes := append([]*Node(nil), cl.nodes...)
	cl.mu.Unlock()
	for _, n := range nodes {
		n.Server.Kick(command.SessionKey{ClientID: clientID}, epoch, code)
	}
}

// NextSeq makes the inbox sequence of a session jump, to test what happens when
// packet ids come round.
func (cl *Cluster) NextSeq(clientID string, seq uint64) {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	cl.sessions[command.SessionKey{ClientID: clientID}].next = seq
}

func clone(m *command.Message) command.Message {
	n := *m
	n.Topic, n.Payload, n.Props = bytes.Clone(m.Topic), bytes.Clone(m.Payload), bytes.Clone(m.Props)
	return n
}

// check panics on what a backend must never be asked.
func check(ok bool, format string, args ...any) {
	if !ok {
		panic("sessiontest: " + fmt.Sprintf(format, args...))
	}
}
