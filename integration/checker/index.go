package checker

import (
	"fmt"
	"math"
	"slices"
	"sort"
)

// index is a history made searchable. Building it is one sort and one pass.
type index struct {
	standstill int64   // ns that the machine may have stood still
	events     []Event // sorted by T

	pubs  []publish
	pubOf map[msgKey]int32

	clients  []*client
	clientOf map[string]int32

	shares map[string]*share // by filter, $share included
	faults []*Event
	reads  []*Event
	// matching caches the subscriptions of a client that match a topic, interest the clients that have any.
	matching map[matchKey][]*subscription
	interest map[string][]int32
}

type msgKey struct {
	publisher, topic string
	seq              uint64
}

type matchKey struct {
	client int32
	topic  string
}

// publish is one message.
type publish struct {
	*Event
	again  bool     // its publisher sent it more than once
	resent []*Event // each time
	wrong  bool     // and broke the protocol in doing so
	will   bool     // the server publishes it, if at all
}

// overtakenBy tells whether the publisher itself sent q on one of its connections before p, which it sent again after that. It
// may: a client that has just reconnected may send something new before it sends again what was not acknowledged
// (eclipse/paho.mqtt.golang does when Publish and its resume meet), and the order in which the server gets them is the order
// that it keeps (v5:4.6).
func (p *publish) overtakenBy(q *publish) bool {
	for _, e := range append([]*Event{q.Event}, q.resent...) {
		before := func(s *Event) bool { return s.Conn == e.Conn && s.T < e.T }
		after := func(s *Event) bool { return s.T > e.T }
		if !before(p.Event) && !slices.ContainsFunc(p.resent, before) && slices.ContainsFunc(p.resent, after) {
			return true
		}
	}
	return false
}

// client is one session id over the whole run.
type client struct {
	name     string
	conns    []*Event // Connect events, by invoke
	verdicts []verdict
	closed   map[int32]*Event
	subs     []*subscription
	fences   map[int32][]*Event // per connection: subscribes that returned, by invoke
	acks     bool               // it records what it acknowledges
	drained  *Event
	model    sessionModel
}

// subscription is the life of one filter in one session. It may hold from born on and surely holds from sure on; it surely
// holds until ending and may hold until gone.
type subscription struct {
	ev         *Event
	filter     string
	topics     string // what filter matches: for a shared one the part after the share's name
	share      *share // nil: not shared
	client     int32
	qos        byte
	born, sure int64
	ending     int64
	gone       int64
}

const forever = math.MaxInt64

func newIndex(events []Event) (*index, error) {
	x := &index{events: slices.Clone(events), pubOf: map[msgKey]int32{}, clientOf: map[string]int32{}, matching: map[matchKey][]*subscription{}, interest: map[string][]int32{}, shares: map[string]*share{}}
	sort.SliceStable(x.events, func(i, j int) bool { return x.events[i].T < x.events[j].T })
	for i := range x.events {
		if err := x.add(&x.events[i]); err != nil {
			return nil, err
		}
	}
	return x, nil
}

func (x *index) client(name string) *client {
	i, ok := x.clientOf[name]
	if !ok {
		i = int32(len(x.clients))
		x.clientOf[name] = i
		x.clients = append(x.clients, &client{name: name, closed: map[int32]*Event{}, fences: map[int32][]*Event{}})
	}
	return x.clients[i]
}

func (x *index) add(e *Event) error {
	if e.End != 0 && e.End < e.T {
		return fmt.Errorf("history: %s of %s returned at %d before it was invoked at %d", e.Kind, e.Client, e.End, e.T)
	}
	switch e.Kind {
	case Publish:
		key := msgKey{e.Client, e.Topic, e.Seq}
		if _, twice := x.pubOf[key]; twice {
			return fmt.Errorf("history: publish %d of %s to %s stands there twice", e.Seq, e.Client, e.Topic)
		}
		x.pubOf[key] = int32(len(x.pubs))
		x.pubs = append(x.pubs, publish{Event: e})
	case Resent:
		i, ok := x.pubOf[msgKey{e.Client, e.Topic, e.Seq}]
		if !ok {
			return fmt.Errorf("history: %s sent %d to %s again, which it never sent", e.Client, e.Seq, e.Topic)
		}
		x.pubs[i].again, x.pubs[i].wrong = true, x.pubs[i].wrong || e.Err != ""
		x.pubs[i].resent = append(x.pubs[i].resent, e)
	case Connect:
		x.client(e.Client).connect(e)
		if e.WillTopic != "" {
			return x.addWill(e)
		}
	case Closed:
		x.client(e.Client).close(e)
	case Subscribe, Unsubscribe:
		c := x.client(e.Client)
		if s := c.subscribe(e); s != nil {
			x.enter(s, x.clientOf[e.Client])
		}
	case Deliver:
		x.client(e.Client)
	case Acked:
		x.client(e.Client).acks = true
	case Drained:
		x.client(e.Client).drained = e
	case RetainedRead:
		x.client(e.Client)
		x.reads = append(x.reads, e)
	case Fault:
		x.faults = append(x.faults, e)
	default:
		return fmt.Errorf("history: unknown kind %q", e.Kind)
	}
	return nil
}

// subscribe begins or ends subscriptions and returns the one that it begins. A new SUBSCRIBE to a filter replaces the granted
// QoS and leaves no gap.
func (c *client) subscribe(e *Event) *subscription {
	ok := e.End != 0 && e.Err == ""
	if e.Kind == Unsubscribe {
		for _, s := range c.subs {
			if s.filter == e.Topic && s.gone == forever {
				s.ending = min(s.ending, e.T)
				if ok {
					s.gone = e.End
				}
			}
		}
		return nil
	}
	if ok {
		c.fences[e.Conn] = append(c.fences[e.Conn], e)
	}
	if ok && e.Code >= refused {
		return nil
	}
	s := &subscription{ev: e, filter: e.Topic, topics: e.Topic, qos: e.Code, born: e.T, sure: forever, ending: forever, gone: forever}
	if ok {
		s.sure = e.End
	} else {
		s.qos = e.QoS
	}
	for _, old := range c.subs {
		if !ok || old.filter != s.filter || old.ending != forever {
			continue
		}
		old.ending, old.gone = e.T, e.End
		if old.qos > 0 {
			s.sure = min(s.sure, old.sure)
		}
	}
	c.subs = append(c.subs, s)
	return s
}

// connect ends the subscriptions of a session that this CONNECT found gone or discarded.
func (c *client) connect(e *Event) {
	verdict, surely := c.model.connect(e)
	c.verdicts = append(c.verdicts, verdict)
	c.conns = append(c.conns, e)
	if e.Clean || verdict == mustBeAbsent || verdict == mayBePresent && answered(e) && !e.Present {
		gone := e.End
		if gone == 0 {
			gone = forever
		}
		c.end(min(e.T, surely), gone)
	}
}

// close ends the subscriptions of a transient session with its connection. If it broke, nobody can say what had reached the
// client's side by then, so nothing was surely held.
func (c *client) close(e *Event) {
	c.closed[e.Conn] = e
	if c.model.close(e) {
		surely := e.T
		if e.Err != "" {
			surely = 0
		}
		c.end(surely, e.T)
	}
}

// end ends all subscriptions: they surely held until surely, and are gone from gone on.
func (c *client) end(surely, gone int64) {
	for _, s := range c.subs {
		s.ending, s.gone = min(s.ending, surely), min(s.gone, gone)
	}
}

func answered(e *Event) bool { return e.End != 0 && e.Err == "" }

// candidates returns the subscriptions of a client that match a topic.
func (x *index) candidates(ci int32, topic string) []*subscription {
	key := matchKey{ci, topic}
	if list, ok := x.matching[key]; ok {
		return list
	}
	var list []*subscription
	for _, s := range x.clients[ci].subs {
		if matches(s.topics, topic) {
			list = append(list, s)
		}
	}
	x.matching[key] = list
	return list
}

// interested returns the clients that ever had a subscription that matches a topic.
func (x *index) interested(topic string) []int32 {
	if list, ok := x.interest[topic]; ok {
		return list
	}
	var list []int32
	for ci := range x.clients {
		if len(x.candidates(int32(ci), topic)) > 0 {
			list = append(list, int32(ci))
		}
	}
	x.interest[topic] = list
	return list
}

// faultIn tells whether a fault lies between two times.
func (x *index) faultIn(from, to int64) bool {
	at := sort.Search(len(x.faults), func(i int) bool { return x.faults[i].T >= from })
	return at < len(x.faults) && x.faults[at].T <= to
}
