package cluster

import (
	"bytes"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/session"
)

// topicOrder stores a retained message before its subscribers are looked up, and keeps what is
// published to the same topic meanwhile behind it (I14, I4).
//
// A subscriber learns of the past by a read of the topic's shard that follows its SUBACK. If a
// retained message went to its shard and to the subscribers at the same time, a subscription could
// begin after the subscribers were looked up and read before the message was stored: it would get
// the message in neither way. Whoever read before the commit had its routes in force before that, so
// a look-up that follows the commit finds it.
//
// A message of its queue is stored at once, unless something is in front that is not retained; it
// goes to its subscribers when everything in front of it has gone.
type topicOrder struct {
	net  orderNet
	busy atomic.Int64 // messages in queues

	mu     sync.Mutex
	queues map[topicKey]*topicQueue
}

// orderNet is what topicOrder needs of its node. Neither call blocks.
type orderNet interface {
	// storeFirst sends a message to the shard of its topic. done is called exactly once, when it
	// was applied there or surely never will be by this process, unless storeFirst fails.
	storeFirst(o *outgoing, done doneFn) error
	// routeOrdered sends a message to its subscribers, as they are now.
	routeOrdered(o *outgoing, done func(session.Outcome))
}

type topicKey struct{ tenant, topic string }

type topicQueue struct {
	list    []*orderedMessage
	running bool // somebody takes the next steps
}

// orderedMessage owns its bytes.
type orderedMessage struct {
	outgoing
	done     func(session.Outcome)
	answered atomic.Bool
	limit    *time.Timer // nil: nobody is owed an answer in time
	retained bool
	stage    orderStage
	refused  error // of the topic's shard: nobody gets it
}

type orderStage byte

const (
	orderWaiting orderStage = iota
	orderStoring
	orderStored
	orderFailed
)

func newTopicOrder(net orderNet) *topicOrder {
	return &topicOrder{net: net, queues: map[topicKey]*topicQueue{}}
}

// add takes a retained message. done is told the outcome, after limit at the latest if that is not
// 0: what comes of the message later is then nobody's business, but it keeps its place.
func (t *topicOrder) add(o *outgoing, limit time.Duration, done func(session.Outcome)) {
	t.put(o, true, limit, done)
}

// behind takes a message that is not to be retained, if a retained one of its topic is under way.
func (t *topicOrder) behind(o *outgoing, limit time.Duration, done func(session.Outcome)) bool {
	return t.busy.Load() > 0 && t.put(o, false, limit, done)
}

func (t *topicOrder) put(o *outgoing, retained bool, limit time.Duration, done func(session.Outcome)) bool {
	key := topicKey{o.tenant, string(o.msg.Topic)}
	t.mu.Lock()
	q := t.queues[key]
	if q == nil {
		if !retained {
			t.mu.Unlock()
			return false
		}
		q = &topicQueue{}
		t.queues[key] = q
	}
	m := &orderedMessage{outgoing: *o, done: done, retained: retained}
	m.own()
	if limit > 0 {
		m.limit = time.AfterFunc(limit, func() { m.tell(session.Outcome{Err: ErrNoLeader}) })
	}
	t.busy.Add(1)
	q.list = append(q.list, m)
	t.runLocked(key, q)
	return true
}

// own copies what belongs to the caller.
func (m *orderedMessage) own() {
	msg := *m.msg
	msg.Topic, msg.Payload, msg.Props = bytes.Clone(msg.Topic), bytes.Clone(msg.Payload), bytes.Clone(msg.Props)
	m.raw, m.msg, m.match = bytes.Clone(m.raw), &msg, nil
}

// answer tells the caller the outcome.
func (m *orderedMessage) answer(out session.Outcome) {
	if m.limit != nil {
		m.limit.Stop()
	}
	m.tell(out)
}

// tell tells the caller the first outcome that there is.
func (m *orderedMessage) tell(out session.Outcome) {
	if m.answered.CompareAndSwap(false, true) {
		m.done(out)
	}
}

// runLocked takes the steps of a queue that are possible now, one after the other and without the
// lock, and unlocks. A step that becomes possible meanwhile is taken by whoever is at it.
func (t *topicOrder) runLocked(key topicKey, q *topicQueue) {
	if q.running {
		t.mu.Unlock()
		return
	}
	q.running = true
	for {
		m := q.nextLocked()
		if m == nil {
			break
		}
		store := m.stage == orderStoring
		t.mu.Unlock()
		if !store {
			t.route(m)
			t.busy.Add(-1)
		} else if err := t.net.storeFirst(&m.outgoing, func(res command.Result, _ uint64, err error) { t.stored(key, q, m, res, err) }); err != nil {
			t.stored(key, q, m, command.Result{}, err)
		}
		t.mu.Lock()
	}
	q.running = false
	if len(q.list) == 0 {
		delete(t.queues, key)
	}
	t.mu.Unlock()
}

// route sends a message to its subscribers, unless its shard refused it: an acknowledgement would not
// be true, or a newer connection of its publisher has sent it again.
func (t *topicOrder) route(m *orderedMessage) {
	if m.refused != nil {
		m.answer(session.Outcome{Err: m.refused})
		return
	}
	t.net.routeOrdered(&m.outgoing, m.answer)
}

// nextLocked is the message that is to be stored now, or that goes to its subscribers now.
func (q *topicQueue) nextLocked() *orderedMessage {
	for _, m := range q.list {
		if !m.retained {
			break
		}
		if m.stage == orderWaiting {
			m.stage = orderStoring
			return m
		}
	}
	if len(q.list) == 0 {
		return nil
	}
	m := q.list[0]
	if m.retained && m.stage != orderStored {
		return nil
	}
	q.list[0] = nil
	q.list = q.list[1:]
	return m
}

// stored takes the answer of the topic's shard. After an error everything behind fails, too: it was
// sent later, and what its publishers send again must not come behind it.
func (t *topicOrder) stored(key topicKey, q *topicQueue, m *orderedMessage, res command.Result, err error) {
	var failed []*orderedMessage
	t.mu.Lock()
	if m.stage != orderStoring {
		t.mu.Unlock()
		return
	}
	m.stage, m.full, m.refused = orderStored, res.Code == command.Full, notStored(res.Code)
	if err != nil {
		for i, o := range q.list {
			if o == m {
				failed = append(failed, q.list[i:]...)
				clear(q.list[i:])
				q.list = q.list[:i]
				break
			}
		}
		for _, o := range failed {
			o.stage = orderFailed
		}
		t.busy.Add(-int64(len(failed)))
	}
	t.runLocked(key, q)
	for _, o := range failed {
		o.answer(session.Outcome{Err: err})
	}
}
