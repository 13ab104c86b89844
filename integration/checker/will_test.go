package checker

import "testing"

// willed connects a client with a will that an observer watches, and ends its connection.
func willed(delay uint32, bye bool) *story {
	s := new(story).connect("s", 1, 1, false)
	s.add(Event{Kind: Subscribe, T: 2, End: 3, Client: "s", Conn: 1, Topic: "will/#", QoS: 2, Code: 2})
	s.add(Event{Kind: Connect, T: 10, End: 12, Client: "w", Conn: 1, Expiry: Never, WillTopic: "will/w", WillSeq: 1, WillQoS: 2, WillDelay: delay})
	return s.add(Event{Kind: Closed, T: 50, Client: "w", Conn: 1, Err: "lost", Bye: bye})
}

func (s *story) willComes(at int64, id uint16) *story {
	return s.add(Event{Kind: Deliver, T: at, Client: "s", Conn: 1, Publisher: "w", Topic: "will/w", Seq: 1, QoS: 2, PacketID: id})
}

func (s *story) fault(at int64) *story { return s.add(Event{Kind: Fault, T: at, Err: "crash"}) }

func (s *story) back(at int64) *story {
	return s.add(Event{Kind: Connect, T: at, End: at + 1, Client: "w", Conn: 2, Expiry: Never, Present: true})
}

func TestWills(t *testing.T) {
	end := int64(60_000)
	for name, c := range map[string]struct {
		s    *story
		want []string
	}{
		"fired":                            {willed(0, false).willComes(51, 1), nil},
		"missing":                          {willed(0, false), []string{"I15"}},
		"twice":                            {willed(0, false).willComes(51, 1).willComes(52, 2), []string{"I2"}},
		"fired after goodbye":              {willed(0, true).willComes(51, 1), []string{"I15"}},
		"not fired after goodbye":          {willed(0, true), nil},
		"goodbye that may have been lost":  {willed(0, true).fault(49).willComes(51, 1), nil},
		"delayed, fired":                   {willed(5, false).willComes(6000, 1), nil},
		"delayed, missing":                 {willed(5, false), []string{"I15"}},
		"resumed in time":                  {willed(5, false).back(100), nil},
		"resumed in time, fired":           {willed(5, false).back(100).willComes(6000, 1), []string{"I15"}},
		"resumed perhaps in time":          {willed(5, false).back(5100).willComes(6000, 1), nil},
		"resumed too late, missing":        {willed(5, false).back(30_000), []string{"I15"}},
		"no delay, taken over, not fired":  {willed(0, false).back(100), []string{"I15"}},
		"no delay, taken over, fired once": {willed(0, false).back(100).willComes(101, 1), nil},
	} {
		t.Run(name, func(t *testing.T) {
			wantRules(t, c.s.drained(1, end), c.want...)
		})
	}
}
