package checker

import (
	"fmt"
	"slices"
	"sort"
	"time"
)

// share is one shared subscription: its members come and go. It is named by its whole filter, as the server does.
type share struct {
	filter  string
	topics  string
	members []*subscription
	clients []int32 // of members, each once
}

// Stall is a time in which a share had a new message and a connected member, and no member received anything.
type Stall struct {
	Share string
	For   time.Duration
	// Fault tells that something was done to a node shortly before or meanwhile.
	Fault bool
}

// String is the stall in one line.
func (s Stall) String() string {
	text := s.For.Round(time.Millisecond).String()
	if s.Fault {
		text += " (fault)"
	}
	return text
}

const (
	// stallLimit is how long a share with a live member may stand still (I16), stallFault the same when a node failed: its
	// lease and 2 s.
	stallLimit = int64(5e9)
	stallFault = int64(7e9)
	// stallsKept is how many of the longest a report keeps.
	stallsKept = 5
	// faultReach is how long before a stall a fault may lie and still be its reason.
	faultReach = int64(10e9)
)

// enter makes a subscription a member if its filter is a shared one.
func (x *index) enter(s *subscription, ci int32) {
	s.client = ci
	inner, shared := splitShare(s.filter)
	if !shared {
		return
	}
	s.topics = inner
	g := x.shares[s.filter]
	if g == nil {
		g = &share{filter: s.filter, topics: inner}
		x.shares[s.filter] = g
	}
	s.share = g
	g.members = append(g.members, s)
	if !slices.Contains(g.clients, ci) {
		g.clients = append(g.clients, ci)
	}
}

// own tells whether a client gets a topic by a subscription of its own, for which the order is promised.
func (x *index) own(ci int32, topic string) bool {
	list := x.candidates(ci, topic)
	return len(list) == 0 || slices.ContainsFunc(list, func(s *subscription) bool { return s.share == nil })
}

// fact is one message as a share saw it.
type fact struct {
	pub   *publish
	first int64 // first reception by any member, 0: none
}

// checkShares holds I16.
func (x *index) checkShares(r *Report, seen map[receptionKey]*reception) {
	names := make([]string, 0, len(x.shares))
	for name := range x.shares {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		g := x.shares[name]
		var facts []fact
		for pi := range x.pubs {
			p := &x.pubs[pi]
			if p.QoS == 0 || !matches(g.topics, p.Topic) {
				continue
			}
			list := x.receivers(g, seen, int32(pi))
			x.shareTwice(r, g, p, list)
			x.shareLost(r, g, p, list)
			f := fact{pub: p}
			if len(list) > 0 {
				f.first = list[0].rec.first.T
			}
			facts = append(facts, f)
		}
		x.shareStalls(r, g, facts)
	}
}

// receiver is a member that received a message by its share.
type receiver struct {
	client *client
	rec    *reception
}

// receivers lists them by the time of the first reception. A member that also has a subscription of its own to the topic is
// left out: nobody can tell which of the two a delivery follows from.
func (x *index) receivers(g *share, seen map[receptionKey]*reception, pi int32) []receiver {
	var list []receiver
	for _, ci := range g.clients {
		rec := seen[receptionKey{ci, pi}]
		if rec != nil && !x.own(ci, x.pubs[pi].Topic) {
			list = append(list, receiver{x.clients[ci], rec})
		}
	}
	slices.SortFunc(list, func(a, b receiver) int { return int(min(max(a.rec.first.T-b.rec.first.T, -1), 1)) })
	return list
}

// shareTwice: what a member received with QoS 2 no other member may receive; with QoS 1 there must be a reason.
func (x *index) shareTwice(r *Report, g *share, p *publish, list []receiver) {
	for i := 1; i < len(list); i++ {
		before, now := list[i-1], list[i]
		d := now.rec.first
		if p.wrong {
			r.ClientFault++
			continue
		}
		slice := []*Event{p.Event, before.rec.first, d}
		if end := before.client.endBetween(before.rec.first.T, d.T); end != nil {
			slice = append(slice, end)
		}
		if before.rec.first.QoS == 2 {
			if d.QoS < 2 && x.heldUp(now.client, d, before.rec.first.T) {
				r.Duplicates["share: a copy that was held up"]++
				continue
			}
			r.add("I16", fmt.Sprintf("%s of %s went to %s with QoS 2 and then to %s", message(d), g.filter, before.client.name, now.client.name), slice...)
			continue
		}
		if f := before.client.fenceAfter(before.rec, d); f != nil && !p.again {
			if d.QoS < 2 && x.heldUp(now.client, d, before.rec.first.T) {
				r.Duplicates["share: a copy that was held up"]++
				continue
			}
			r.add("I16", fmt.Sprintf("%s of %s went to %s after %s had acknowledged it before a fence", message(d), g.filter, now.client.name, before.client.name), append(slice, f)...)
			continue
		}
		switch {
		case p.again:
			r.Duplicates["share: publisher sent it again"]++
		case before.client.endBetween(before.rec.first.T, d.T) != nil:
			r.Duplicates["share: the first member left"]++
		case x.faultIn(before.rec.first.T-failoverReach, d.T):
			r.Duplicates["share: failover"]++
		default:
			r.add("I16", fmt.Sprintf("%s of %s went to %s and to %s without a reason", message(d), g.filter, before.client.name, now.client.name), slice...)
		}
	}
}

// heldUp tells whether d is a copy that a network held up: with QoS 1 to a member whose session the server took for ended
// before it gave the message to another, at since. The connection is older than that, a fault explains why its end was not
// seen, and nothing that the server said since came on it: no answer, and no message that was published later.
func (x *index) heldUp(c *client, d *Event, since int64) bool {
	at := slices.IndexFunc(c.conns, func(e *Event) bool { return e.Conn == d.Conn })
	if at < 0 || c.conns[at].End > since || !x.faultIn(c.conns[at].T, d.T) {
		return false
	}
	if slices.ContainsFunc(c.fences[d.Conn], func(e *Event) bool { return e.T > since }) {
		return false
	}
	for i := sort.Search(len(x.events), func(i int) bool { return x.events[i].T >= since }); i < len(x.events); i++ {
		e := &x.events[i]
		if e.Kind != Deliver || e.Client != c.name || e.Conn != d.Conn {
			continue
		}
		if pi, known := x.pubOf[msgKey{e.Publisher, e.Topic, e.Seq}]; known && x.pubs[pi].T > since {
			return false
		}
	}
	return true
}

// endBetween finds an end of a connection, or an UNSUBSCRIBE, of a client in a span of time.
func (c *client) endBetween(from, to int64) *Event {
	for _, e := range c.closed {
		if e.T >= from && e.T <= to {
			return e
		}
	}
	for _, s := range c.subs {
		if s.ending >= from && s.ending <= to {
			return s.ev
		}
	}
	return nil
}

// shareLost: an acknowledged message is received and acknowledged by a member, as long as one durable member was there all the
// time and has drained.
func (x *index) shareLost(r *Report, g *share, p *publish, list []receiver) {
	if !p.acked() || p.Code >= refused || p.will {
		return
	}
	var anchor *subscription
	excused := false
	for _, s := range g.members {
		if s.qos == 0 {
			return // a member that only takes QoS 0 may be given the message and lose it
		}
		drained := x.clients[s.client].drained
		if s.sure < p.T && s.ending == forever && drained != nil && drained.T > p.End {
			anchor = s
		}
		excused = excused || p.QoS == 2 && s.qos == 2 && s.born <= p.End && s.gone != forever && s.gone >= p.T
	}
	if anchor == nil {
		return
	}
	r.ShareMust++
	processed := slices.ContainsFunc(list, func(v receiver) bool { return v.rec.ackedAt != 0 || !v.client.acks })
	switch {
	case processed:
	case excused:
		r.Excused++
	case len(list) == 0:
		r.add("I16", fmt.Sprintf("no member of %s received %s, which was acknowledged with 0x%02x", g.filter, message0(p), p.Code), p.Event, anchor.ev)
	default:
		r.add("I16", fmt.Sprintf("%s received %s of %s, and nobody finished it", list[0].client.name, message0(p), g.filter), p.Event, list[0].rec.first)
	}
}

// message0 names a publish as message names its deliveries.
func message0(p *publish) string { return fmt.Sprintf("%s/%s#%d", p.Client, p.Topic, p.Seq) }

// shareStalls looks at the times between two first receptions: a message that was acknowledged in between, and that a member
// received later, had to wait. A message that waits longer than others went to a member that is away: that is no stall.
func (x *index) shareStalls(r *Report, g *share, facts []fact) {
	var received []int64
	for _, f := range facts {
		if f.first != 0 {
			received = append(received, f.first)
		}
	}
	slices.Sort(received)
	waiting := slices.DeleteFunc(facts, func(f fact) bool { return f.first == 0 || !f.pub.acked() || f.first < f.pub.End })
	slices.SortFunc(waiting, func(a, b fact) int { return int(min(max(a.pub.End-b.pub.End, -1), 1)) })
	next := 0
	for i := 0; i+1 < len(received); i++ {
		from, to := received[i], received[i+1]
		for next < len(waiting) && waiting[next].pub.End < from {
			next++
		}
		if next == len(waiting) {
			return
		}
		f := waiting[next]
		if f.pub.End >= to {
			continue
		}
		live := x.liveSince(g, to)
		x.stall(r, g, f.pub, max(f.pub.End, live), to)
	}
}

// liveSince is since when one and the same member has been connected at a time; that time itself if there is none.
func (x *index) liveSince(g *share, at int64) int64 {
	since := at
	for _, s := range g.members {
		if s.sure > at || s.gone < at {
			continue
		}
		c := x.clients[s.client]
		for _, e := range c.conns {
			if !answered(e) || e.End > at {
				continue
			}
			if end := c.closed[e.Conn]; end == nil || end.T >= at {
				since = min(since, max(e.End, s.sure))
			}
		}
	}
	return since
}

func (x *index) stall(r *Report, g *share, p *publish, from, to int64) {
	if to <= from {
		return
	}
	s := Stall{Share: g.filter, For: time.Duration(to - from), Fault: x.faultIn(from-faultReach, to)}
	limit := stallLimit
	if s.Fault {
		limit = stallFault
	}
	if int64(s.For) > limit+x.standstill {
		r.add("I16", fmt.Sprintf("%s stood still for %v although a member was connected and %s waited", g.filter, s.For.Round(time.Millisecond), message0(p)), p.Event)
	}
	r.Stalls = append(r.Stalls, s)
	slices.SortFunc(r.Stalls, func(a, b Stall) int { return int(min(max(b.For-a.For, -1), 1)) })
	r.Stalls = r.Stalls[:min(len(r.Stalls), stallsKept)]
}
