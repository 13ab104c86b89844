package cluster

import (
	"strings"
	"sync/atomic"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
)

// sysRoot begins the topics that the broker itself publishes.
const sysRoot = "$SYS"

// isSysFilter tells whether a filter asks for topics of the broker. One that
// begins with a wildcard never does (v5:MQTT-4.7.2-1).
func isSysFilter(filter string) bool {
	return filter == sysRoot || strings.HasPrefix(filter, sysRoot+"/")
}

// sysTopics publishes what the broker says of itself: INTERFACES section 9.
// Nothing of it goes through Raft, and nothing of it is asked on a hot path.
type sysTopics struct {
	n     *Node
	table atomic.Pointer[sysTable] // replaced as a whole
}

// sysTable are the current values in the order of their topics.
type sysTable struct{ messages []command.Message }

func newSysTopics(n *Node) *sysTopics {
	s := &sysTopics{n: n}
	s.table.Store(&sysTable{})
	return s
}
