package checker

import (
	"fmt"
	"slices"
)

// addWill makes the will of a connection a publish: the server may send it, and not twice.
func (x *index) addWill(e *Event) error {
	key := msgKey{e.Client, e.WillTopic, e.WillSeq}
	if _, twice := x.pubOf[key]; twice {
		return fmt.Errorf("history: will %d of %s to %s stands there twice", e.WillSeq, e.Client, e.WillTopic)
	}
	x.pubOf[key] = int32(len(x.pubs))
	x.pubs = append(x.pubs, publish{will: true, Event: &Event{
		Kind: Publish, T: e.T, Client: e.Client, Conn: e.Conn, Topic: e.WillTopic, Seq: e.WillSeq, QoS: e.WillQoS,
	}})
	return nil
}

const (
	// willNotice is how much later than the client a server may notice that a connection has ended.
	willNotice = int64(15e9)
	// willFault is how near a fault may be that takes a DISCONNECT away.
	willFault = int64(10e9)
)

// fate is what must become of a will.
type fate byte

const (
	mayFire     fate = 1
	mustFire    fate = 2
	mustNotFire fate = 3
)

// checkWills holds I15, as the sessions see it that were subscribed all the time and have drained. That it does not fire twice
// is I2 and I3.
func (x *index) checkWills(r *Report, seen map[receptionKey]*reception) {
	for _, c := range x.clients {
		for i, e := range c.conns {
			if e.WillTopic == "" {
				continue
			}
			fate := x.fateOf(c, i)
			if fate == mayFire {
				continue
			}
			r.Wills++
			pi := x.pubOf[msgKey{c.name, e.WillTopic, e.WillSeq}]
			for _, ci := range x.interested(e.WillTopic) {
				x.checkWill(r, seen[receptionKey{ci, pi}], ci, c, e, fate)
			}
		}
	}
}

func (x *index) checkWill(r *Report, rec *reception, ci int32, c *client, e *Event, fate fate) {
	observer := x.clients[ci]
	watched := observer.drained != nil && slices.ContainsFunc(x.candidates(ci, e.WillTopic), func(s *subscription) bool {
		return s.share == nil && s.qos > 0 && s.sure < e.T && s.ending == forever
	})
	end := c.closed[e.Conn]
	switch {
	case fate == mustFire && rec == nil && watched && end.T+int64(e.WillDelay)*1e9+willNotice < observer.drained.T:
		r.add("I15", fmt.Sprintf("the will %s/%s#%d never reached %s, though its connection ended without a DISCONNECT", c.name, e.WillTopic, e.WillSeq, observer.name), e, end, observer.drained)
	case fate == mustNotFire && rec != nil:
		r.add("I15", fmt.Sprintf("the will %s/%s#%d reached %s, though the session went on or its client had said goodbye", c.name, e.WillTopic, e.WillSeq, observer.name), e, end, rec.first)
	}
}

// fateOf tells what must become of the will of a connection.
func (x *index) fateOf(c *client, i int) fate {
	e := c.conns[i]
	end := c.closed[e.Conn]
	if !answered(e) || end == nil {
		return mayFire
	}
	if end.Bye {
		if x.faultIn(end.T-willFault, end.T+willFault) {
			return mayFire // nobody knows whether the DISCONNECT arrived
		}
		return mustNotFire
	}
	delay := int64(e.WillDelay) * 1e9
	if delay == 0 || i+1 == len(c.conns) {
		return mustFire
	}
	// A later attempt resumes the session; one that has no answer may have.
	next := c.conns[i+1]
	switch {
	case next.Clean:
		return mayFire
	case answered(next) && next.End < e.T+delay:
		return mustNotFire
	case next.T > end.T+delay+willNotice:
		return mustFire
	}
	return mayFire
}
