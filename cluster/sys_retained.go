package cluster

import (
	"bytes"
	"sort"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/router"
)

// retained answers a new subscriber from the table: up to limit values that
// match filter, in the order of their topics behind after, and where to go on.
// It never waits. The messages must not be changed.
func (s *sysTopics) retained(filter, after string, limit int) ([]command.Message, string) {
	all := s.table.Load().messages
	from := sort.Search(len(all), func(i int) bool { return bytes.Compare(all[i].Topic, []byte(after)) > 0 })
	var out []command.Message
	for i := from; i < len(all); i++ {
		if !router.Matches(filter, all[i].Topic) {
			continue
		}
		if len(out) == limit {
			return out, string(out[limit-1].Topic)
		}
		out = append(out, all[i])
	}
	return out, ""
}
