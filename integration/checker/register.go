package checker

import (
	"fmt"
	"slices"
	"sort"
)

// A topic with retained messages is a register. Every value is written once, so whether its history is linearizable can be
// decided in almost linear time (Gibbons and Korach, Testing shared memories, 1997): a value and its reads form a zone, from the
// first return to the last invoke. A zone in which the first return comes first is a time in which the register surely held that
// value: two of them may not overlap, and no value may have come and gone inside of one.

// zone is one value of a register with its reads. From < To: the register surely held it in between.
type zone struct {
	value    uint64 // index of the publish + 1; 0: nothing was ever retained
	from, to int64  // the first return and the last invoke
	sample   *Event // a read, or the publish if there is none
}

// forward tells that the register surely held the value for a while.
func (z *zone) forward() bool { return z.from < z.to }

// checkRegisters holds I13 and I14.
func (x *index) checkRegisters(r *Report, seen map[receptionKey]*reception) {
	byTopic := map[string][]*Event{}
	for _, e := range x.reads {
		byTopic[e.Topic] = append(byTopic[e.Topic], e)
	}
	topics := make([]string, 0, len(byTopic))
	for t := range byTopic {
		topics = append(topics, t)
	}
	sort.Strings(topics)
	for _, t := range topics {
		r.Reads += len(byTopic[t])
		x.checkRegister(r, t, byTopic[t])
		x.checkGaps(r, seen, t, byTopic[t])
	}
}

func (x *index) checkRegister(r *Report, topic string, reads []*Event) {
	zones := map[uint64]*zone{0: {from: -1, to: -1}}
	for pi := range x.pubs {
		p := &x.pubs[pi]
		if p.Topic != topic || !p.Retain || p.End != 0 && p.Code >= refused {
			continue
		}
		end := p.End
		if end == 0 || p.Err != "" {
			end = forever
		}
		zones[uint64(pi)+1] = &zone{value: uint64(pi) + 1, from: end, to: p.T, sample: p.Event}
	}
	for _, e := range reads {
		z := zones[x.valueOf(e)]
		switch {
		case z == nil:
			r.add("I13", fmt.Sprintf("%s read %s from %s, which nobody published there", e.Client, message(e), topic), e)
			continue
		case z.value != 0 && e.End < x.pubs[z.value-1].T:
			r.add("I13", fmt.Sprintf("%s read %s before it was published", e.Client, message(e)), e, x.pubs[z.value-1].Event)
			continue
		}
		z.from = min(z.from, e.End)
		if e.T > z.to {
			z.to, z.sample = e.T, e
		}
	}
	list := make([]*zone, 0, len(zones))
	for _, z := range zones {
		list = append(list, z)
	}
	x.overlaps(r, topic, list)
}

// valueOf is the value that a read returned, as zones name it; one that nobody wrote is named by no zone.
func (x *index) valueOf(e *Event) uint64 {
	if e.Seq == 0 {
		return 0
	}
	pi, ok := x.pubOf[msgKey{e.Publisher, e.Topic, e.Seq}]
	if !ok {
		return ^uint64(0)
	}
	return uint64(pi) + 1
}

// overlaps finds what no order of the operations explains.
func (x *index) overlaps(r *Report, topic string, list []*zone) {
	slices.SortFunc(list, func(a, b *zone) int {
		return int(min(max(min(a.from, a.to)-min(b.from, b.to), -1), 1))
	})
	var held *zone // the forward zone that reaches furthest
	for _, z := range list {
		if held != nil && (z.forward() && z.from < held.to || !z.forward() && z.to > held.from && z.from < held.to) {
			r.add("I13", fmt.Sprintf("the reads of retained %s cannot be put into any order: %s was there from its publish or first read to its last read, and %s in the middle of it",
				topic, x.valueName(held), x.valueName(z)), x.writeOf(held), held.sample, x.writeOf(z), z.sample)
		}
		if z.forward() && (held == nil || z.to > held.to) {
			held = z
		}
	}
}

func (x *index) valueName(z *zone) string {
	if z.value == 0 {
		return "nothing"
	}
	return message0(&x.pubs[z.value-1])
}

func (x *index) writeOf(z *zone) *Event {
	if z.value == 0 {
		return nil
	}
	return x.pubs[z.value-1].Event
}

// liveSlack is how long before the end of a connection a message may have been acknowledged and still not have arrived.
const liveSlack = int64(9e9)

// checkGaps holds I14: whoever read a value gets every later one live, as long as the connection lasts, also what was published
// while it subscribed.
func (x *index) checkGaps(r *Report, seen map[receptionKey]*reception, topic string, reads []*Event) {
	for _, e := range reads {
		c := x.client(e.Client)
		end := c.closed[e.Conn]
		if end == nil {
			continue
		}
		after := int64(-1)
		if v := x.valueOf(e); v != 0 {
			if v > uint64(len(x.pubs)) || !x.pubs[v-1].acked() {
				continue
			}
			after = x.pubs[v-1].End
		}
		for pi := range x.pubs {
			p := &x.pubs[pi]
			if p.Topic != topic || !p.Retain || p.QoS == 0 || !p.acked() || p.T <= after || p.End+liveSlack > end.T {
				continue
			}
			if seen[receptionKey{x.clientOf[e.Client], int32(pi)}] == nil {
				r.add("I14", fmt.Sprintf("%s read retained %s and never saw the later %s, acknowledged %d ms before its connection ended", e.Client, message(e), message0(p), (end.T-p.End)/1e6), e, p.Event, end)
			}
		}
	}
}
