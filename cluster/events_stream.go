package cluster

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// eventWait is how long a node waits for something to tell.
	eventWait = 5 * time.Second
	// eventRetry is the pause after a node did not answer.
	eventRetry = 500 * time.Millisecond
	// eventNodesEvery is how often a stream looks for nodes that are new.
	eventNodesEvery = time.Second
)

// eventPos is how far a stream has come with one node.
type eventPos struct {
	// Start is the process that the positions are of; 0: the node was never reached, and
	// Node is the time in unix ms from which its events are wanted.
	Start   uint64 `json:"start"`
	Node    uint64 `json:"node"`
	Clients uint64 `json:"clients"`
}

// eventVector is how far a stream has come with everything.
type eventVector struct {
	control uint64
	nodes   map[string]eventPos
}

// String is the id of an event: opaque to users.
func (v *eventVector) String() string {
	var b strings.Builder
	b.WriteString("1 " + strconv.FormatUint(v.control, 36))
	for _, id := range sortedKeys(v.nodes) {
		p := v.nodes[id]
		fmt.Fprintf(&b, " %s=%s.%s.%s", url.QueryEscape(id), strconv.FormatUint(p.Start, 36), strconv.FormatUint(p.Node, 36), strconv.FormatUint(p.Clients, 36))
	}
	return base64.RawURLEncoding.EncodeToString([]byte(b.String()))
}

// maxEventID bounds an id that a user sends.
const maxEventID = 64 << 10

func parseEventVector(id string) (eventVector, bool) {
	v := eventVector{nodes: map[string]eventPos{}}
	raw, err := base64.RawURLEncoding.DecodeString(id)
	parts := strings.Split(string(raw), " ")
	if err != nil || len(id) > maxEventID || len(parts) < 2 || parts[0] != "1" {
		return v, false
	}
	if v.control, err = strconv.ParseUint(parts[1], 36, 64); err != nil {
		return v, false
	}
	for _, part := range parts[2:] {
		name, nums, ok := strings.Cut(part, "=")
		three := strings.Split(nums, ".")
		node, err := url.QueryUnescape(name)
		if !ok || err != nil || len(three) != 3 {
			return v, false
		}
		var p eventPos
		for i, to := range []*uint64{&p.Start, &p.Node, &p.Clients} {
			if *to, err = strconv.ParseUint(three[i], 36, 64); err != nil {
				return v, false
			}
		}
		v.nodes[node] = p
	}
	return v, true
}

// eventQuery asks a node for what happened.
type eventQuery struct {
	Filter eventFilter `json:"filter"`
	// Pos is where to go on with the node; nil with Now: only where it stands.
	Pos *eventPos `json:"pos,omitempty"`
	Now bool      `json:"now,omitempty"`
	// Control asks for the control group's events behind it, nil for none.
	Control *uint64 `json:"control,omitempty"`
	WaitMS  int64   `json:"wait_ms,omitempty"`
}

// eventPage is the answer.
type eventPage struct {
	Pos     eventPos   `json:"pos"`
	Control uint64     `json:"control,omitempty"`
	Events  []Event    `json:"events,omitempty"`
	Gaps    []eventGap `json:"gaps,omitempty"`
	// At says for each event where its ring stands behind it: the ring, and the position.
	At []eventAt `json:"at,omitempty"`
	// ControlGap: the control group's events are not all here.
	ControlGap *eventGap `json:"control_gap,omitempty"`

	node string
}

type eventAt struct {
	Ring byte   `json:"r"`
	Pos  uint64 `json:"p"`
}

func (n *Node) answerEvents(ctx context.Context, body []byte) ([]byte, error) {
	var q eventQuery
	if err := json.Unmarshal(body, &q); err != nil {
		return nil, errFrame
	}
	return json.Marshal(n.events.page(ctx, &q))
}

// page answers when there is something to tell, or the time is over.
func (ev *events) page(ctx context.Context, q *eventQuery) *eventPage {
	wait := time.NewTimer(min(time.Duration(q.WaitMS)*time.Millisecond, eventWait))
	defer wait.Stop()
	if q.Now {
		return &eventPage{Pos: eventPos{Start: ev.start, Node: ev.local.end(), Clients: ev.clients.end()}, Control: ev.control.end()}
	}
	at := *q // what is passed over moves the position
	for {
		local, clients := ev.local.changed(), ev.clients.changed()
		var control <-chan struct{}
		if q.Control != nil {
			control = ev.control.changed()
		}
		p := ev.look(&at)
		if len(p.Events) > 0 || len(p.Gaps) > 0 || p.ControlGap != nil || q.WaitMS == 0 {
			return p
		}
		if q.Pos != nil {
			at.Pos = &p.Pos
		}
		if q.Control != nil {
			at.Control = &p.Control
		}
		select {
		case <-local:
		case <-clients:
		case <-control:
		case <-wait.C:
			return p
		case <-ctx.Done():
			return p
		}
	}
}

// look collects what there is now.
func (ev *events) look(q *eventQuery) *eventPage {
	p := &eventPage{Pos: eventPos{Start: ev.start}}
	var all []Event
	if q.Control != nil {
		var part []Event
		part, p.Control, p.ControlGap = ev.control.after(*q.Control, eventPageMax, &q.Filter)
		all = append(all, part...)
	}
	if q.Pos != nil {
		from := ev.from(q.Pos, p)
		for _, r := range []*eventRing{ev.local, ev.clients} {
			pos, to := from.Node, &p.Pos.Node
			if r == ev.clients {
				pos, to = from.Clients, &p.Pos.Clients
			}
			part, next, gap := r.after(pos, eventPageMax, &q.Filter)
			*to = next
			all = append(all, part...)
			if gap != nil {
				p.Gaps = append(p.Gaps, *gap)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b Event) int { return cmp.Compare(a.At.UnixNano(), b.At.UnixNano()) })
	for i := range all {
		p.At = append(p.At, eventAt{all[i].ring, all[i].pos})
		p.Events = append(p.Events, all[i].readable())
	}
	return p
}

// from is where to go on for somebody who has seen pos.
func (ev *events) from(pos *eventPos, p *eventPage) eventPos {
	switch pos.Start {
	case ev.start:
		return *pos
	case 0:
		at := time.UnixMilli(int64(pos.Node))
		return eventPos{Node: ev.local.since(at), Clients: ev.clients.since(at)}
	default:
		p.Gaps = append(p.Gaps, eventGap{Missed: -1, Reason: "the node has restarted: what its earlier process did not get rid of is gone"})
		return eventPos{}
	}
}

// EventQuery selects the events of a stream.
type EventQuery struct {
	// Types are names such as node.down, or kinds such as node. None: all.
	Types []string
	// Client selects what concerns a client id.
	Client string
	// After is the ID of an event: the stream goes on behind it. Empty: from now on.
	After string
}

// EventStream is the events of the whole cluster, as one reader gets them. Its methods
// are for one goroutine.
type EventStream struct {
	n      *Node
	filter eventFilter
	vec    eventVector
	pages  chan *eventPage // not buffered: who is slow leaves the events in the rings
	ctx    context.Context // of the stream; ends its goroutines
	cancel context.CancelFunc
	wg     sync.WaitGroup
	once   sync.Once
}

// OpenEvents begins a stream. Close it. Errors: *GuardError, ErrTooMany, ErrStopped.
func (n *Node) OpenEvents(ctx context.Context, q EventQuery) (*EventStream, error) {
	f, err := newEventFilter(q.Types, q.Client)
	if err != nil {
		return nil, err
	}
	vec := eventVector{nodes: map[string]eventPos{}}
	if q.After != "" {
		var ok bool
		if vec, ok = parseEventVector(q.After); !ok {
			return nil, refuse(GuardInvalid, "the id %.40q is not one of an event: leave Last-Event-ID out to begin now", q.After)
		}
	}
	if n.stopped.Load() {
		return nil, ErrStopped
	}
	if n.events.streams.Add(1) > eventStreamsMax {
		n.events.streams.Add(-1)
		return nil, fmt.Errorf("%w: this node serves %d event streams already: ask another node, or close some", ErrTooMany, eventStreamsMax)
	}
	n.events.met.streams.Inc()
	s := &EventStream{n: n, filter: f, vec: vec, pages: make(chan *eventPage)}
	s.ctx, s.cancel = context.WithCancel(n.ctx)
	if q.After == "" {
		s.beginNow(ctx)
	}
	s.run()
	return s, nil
}

// beginNow asks every node where it stands. One that does not answer is asked later for
// what is not older than now.
func (s *EventStream) beginNow(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, sysTimeout)
	defer cancel()
	now := eventPos{Node: uint64(s.n.now())}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for id, rec := range s.n.control.view().Nodes {
		if !rec.Up && id != s.n.id {
			continue // it begins anew when it comes up
		}
		wg.Go(func() {
			pos, control := now, uint64(0)
			if p, err := s.ask(ctx, id, &eventQuery{Now: true}); err == nil {
				pos, control = p.Pos, p.Control
			}
			mu.Lock()
			defer mu.Unlock()
			s.vec.nodes[id] = pos
			if id == s.n.id {
				s.vec.control = control
			}
		})
	}
	wg.Wait()
	if _, ok := s.vec.nodes[s.n.id]; !ok { // not a member yet
		p := s.n.events.page(ctx, &eventQuery{Now: true})
		s.vec.nodes[s.n.id], s.vec.control = p.Pos, p.Control
	}
}

func (s *EventStream) ask(ctx context.Context, node string, q *eventQuery) (*eventPage, error) {
	if node == s.n.id {
		return s.n.events.page(ctx, q), nil
	}
	p, err := askNode[eventPage](ctx, s.n, node, queryEvents, q, ErrUnreachable)
	if err == nil && len(p.At) != len(p.Events) {
		err = errFrame
	}
	return p, err
}

// run follows every node that is up, until the stream ends.
func (s *EventStream) run() {
	followed := map[string]bool{}
	follow := func(id string) {
		if followed[id] {
			return
		}
		followed[id] = true
		pos := s.vec.nodes[id] // none: all that the node still has
		if _, ok := s.vec.nodes[id]; !ok {
			pos = eventPos{}
		}
		control := s.vec.control
		s.wg.Go(func() { s.follow(id, pos, control) })
	}
	follow(s.n.id)
	for _, id := range otherNodesUp(s.n.control.view(), s.n.id) {
		follow(id)
	}
	s.wg.Go(func() {
		for sleep(s.ctx, eventNodesEvery) == nil {
			for _, id := range otherNodesUp(s.n.control.view(), s.n.id) {
				if !followed[id] {
					followed[id] = true
					s.wg.Go(func() { s.follow(id, eventPos{}, 0) })
				}
			}
		}
	})
}

// follow hands over the pages of one node. That of the stream's own node brings the
// control group's events along.
func (s *EventStream) follow(id string, pos eventPos, control uint64) {
	q := eventQuery{Filter: s.filter, Pos: &pos, WaitMS: eventWait.Milliseconds()}
	if id == s.n.id {
		q.Control = &control
	}
	for s.ctx.Err() == nil {
		p, err := s.ask(s.ctx, id, &q)
		if err != nil {
			if sleep(s.ctx, eventRetry) != nil {
				return
			}
			continue
		}
		if p.ControlGap != nil {
			s.mend(p, control)
		}
		p.node = id
		select {
		case s.pages <- p:
		case <-s.ctx.Done():
			return
		}
		pos = p.Pos
		if q.Control != nil {
			control = p.Control
		}
	}
}

// mend looks on other nodes for events of the control group that are not here any
// more: a node that has just started knows none.
func (s *EventStream) mend(p *eventPage, from uint64) {
	ctx, cancel := context.WithTimeout(s.ctx, sysTimeout)
	defer cancel()
	for _, id := range otherNodesUp(s.n.control.view(), s.n.id) {
		other, err := s.ask(ctx, id, &eventQuery{Filter: s.filter, Control: &from})
		if err != nil || other.ControlGap != nil || other.Control < from {
			continue
		}
		// The other's list replaces what this node had of it.
		var events []Event
		var at []eventAt
		for i := range p.Events {
			if p.At[i].Ring != ringControl {
				events, at = append(events, p.Events[i]), append(at, p.At[i])
			}
		}
		p.Events, p.At = append(other.Events, events...), append(other.At, at...)
		p.Control, p.ControlGap = other.Control, nil
		return
	}
}

// Next waits for events until ctx ends, and returns them with the id to go on from. An
// ended ctx is no error: there is nothing new, but the id may have moved. Errors: ErrStopped.
func (s *EventStream) Next(ctx context.Context) (list []Event, id string, err error) {
	select {
	case p := <-s.pages:
		return s.take(p), s.vec.String(), nil
	case <-ctx.Done():
		return nil, s.vec.String(), nil
	case <-s.ctx.Done():
		return nil, s.vec.String(), ErrStopped
	}
}

// take gives every event of a page its id, and tells of gaps before them.
func (s *EventStream) take(p *eventPage) []Event {
	pos := s.vec.nodes[p.node]
	if pos.Start != p.Pos.Start {
		pos = eventPos{Start: p.Pos.Start}
	}
	var out []Event
	gaps := p.Gaps
	if p.ControlGap != nil {
		gaps = append(gaps, *p.ControlGap)
	}
	s.vec.nodes[p.node] = pos
	for _, g := range gaps {
		data := map[string]any{"missed": nil}
		if g.Missed >= 0 {
			data["missed"] = g.Missed
			s.n.events.met.missed.Add(float64(g.Missed))
		}
		out = append(out, Event{ID: s.vec.String(), Type: EventLost, At: time.Now(), Node: p.node, Reason: g.Reason, Data: data})
	}
	for i := range p.Events {
		e := p.Events[i]
		switch at := p.At[i]; at.Ring {
		case ringControl:
			s.vec.control = at.Pos
		case ringNode:
			pos.Node = at.Pos
		case ringClients:
			pos.Clients = at.Pos
		}
		s.vec.nodes[p.node] = pos
		e.ID = s.vec.String()
		out = append(out, e)
	}
	s.vec.nodes[p.node] = p.Pos
	if p.node == s.n.id {
		s.vec.control = max(s.vec.control, p.Control)
	}
	return out
}

// Close ends the stream. It is idempotent.
func (s *EventStream) Close() {
	s.once.Do(func() {
		s.cancel()
		s.wg.Wait()
		s.n.events.streams.Add(-1)
		s.n.events.met.streams.Dec()
	})
}
