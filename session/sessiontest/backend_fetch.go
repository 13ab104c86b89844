package sessiontest

import (
	"context"
	"slices"
	"time"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/session"
)

// failRead counts down Faults.FailFetches.
func (cl *Cluster) failRead() bool {
	cl.fetches++
	if cl.faults.FailFetches > 0 {
		cl.faults.FailFetches--
		return true
	}
	return false
}

// Fetch implements session.Inbox.
func (n *Node) Fetch(ctx context.Context, ref command.SessionRef, cursor uint64, maxMsgs, maxBytes int) (session.Page, error) {
	check(maxMsgs > 0 && maxBytes > 0, "fetch of %d messages, %d bytes", maxMsgs, maxBytes)
	n.cl.mu.Lock()
	defer n.cl.mu.Unlock()
	if n.cl.failRead() {
		return session.Page{}, session.ErrUnavailable
	}
	s := n.cl.current(ref)
	if s == nil {
		return session.Page{}, session.ErrStale
	}
	p := session.Page{Floor: s.next, Next: max(cursor, 1), Now: time.Now().UnixMilli()}
	if len(s.inbox) > 0 {
		p.Floor = s.inbox[0].seq
	}
	for i := range s.inbox {
		e := &s.inbox[i]
		if e.seq < cursor {
			continue
		}
		if e.seq > s.sendLimit() { // as the machine does
			p.Clamped, p.Next = true, e.seq
			break
		}
		maxBytes -= len(e.msg.Topic) + len(e.msg.Payload)
		if len(p.Deliveries) == maxMsgs || maxBytes < 0 && len(p.Deliveries) > 0 {
			p.More = true
			break
		}
		d := session.Delivery{Seq: e.seq, Msg: e.msg, QoS: e.qos, Retain: e.retain, SubIDs: e.ids, State: session.Queued,
			Dup: e.seq <= s.dupTo, ExpiresAt: e.expiresAt}
		if e.received {
			d.State = session.Received
		}
		p.Deliveries = append(p.Deliveries, d)
		p.Next = e.seq + 1
	}
	return p, ctx.Err()
}

// Ack implements session.Inbox. While completions are held, its effect is, too:
// an acknowledgement takes a commit like everything else.
func (n *Node) Ack(ref command.SessionRef, a session.Ack, done func(error)) {
	a.Done, a.Received = slices.Clone(a.Done), slices.Clone(a.Received)
	n.cl.finish("ack", 0, func() {
		err := n.cl.acked(ref, a)
		if done != nil {
			done(err)
		}
	})
}

func (cl *Cluster) acked(ref command.SessionRef, a session.Ack) error {
	cl.mu.Lock()
	var wakes []wake
	defer func() { cl.mu.Unlock(); cl.wakeAll(wakes) }()
	s := cl.current(ref)
	if s == nil {
		return session.ErrStale
	}
	s.sentTo = max(s.sentTo, a.SentTo)
	s.inbox = slices.DeleteFunc(s.inbox, func(e entry) bool { return slices.Contains(a.Done, e.seq) })
	for i := range s.inbox {
		if slices.Contains(a.Received, s.inbox[i].seq) {
			s.inbox[i].received = true
		}
	}
	wakes = cl.assign()
	return nil
}
