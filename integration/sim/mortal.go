package sim

import (
	"time"

	"github.com/flotilla-mqtt/flotilla/integration/checker"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// willFilter is what the observer of all wills subscribes to.
const willFilter = "will/#"

// mortal is a session with a will. Its connections end with and without a goodbye, and those of delayed wills are sometimes
// resumed in time.
type mortal struct {
	*client
	delay time.Duration
	seq   uint64
}

// newMortals makes sessions whose wills go out at once, after a while, and at the end of a transient session.
func (w *World) newMortals() []*mortal {
	list := []*mortal{
		{client: w.newClient("will-now")},
		{client: w.newClient("will-late"), delay: 4 * time.Second},
		{client: w.newClient("will-end")},
	}
	list[2].transient = true
	for _, m := range list {
		m.edit = m.arm
	}
	return list
}

// arm gives the next connection a will of its own.
func (m *mortal) arm(ev *checker.Event, connect *mqtt.Connect) {
	m.seq++
	topic := topicName("will", m.name)
	ev.WillTopic, ev.WillSeq, ev.WillQoS, ev.WillDelay = topic, m.seq, 2, uint32(m.delay/time.Second)
	connect.Will = &mqtt.Will{
		Topic: topic, QoS: 2, Delay: ev.WillDelay,
		Payload: checker.AppendPayload(nil, checker.ID{Run: runName, Publisher: m.name, Topic: topic, Seq: m.seq}, 80),
	}
}

// run lives and dies until stop is closed. The last connection says goodbye.
func (m *mortal) run(stop <-chan struct{}) {
	for {
		mc := m.connect(nil)
		m.pause(either(mc.Done(), stop), 100*time.Millisecond, 4*time.Second)
		select {
		case <-stop:
			m.goodbye(mc)
			// A delayed will of an earlier connection was resumed or has fired; what was not noticed yet is.
			time.Sleep(m.delay + readPatience)
			return
		default:
		}
		m.end(mc)
		if m.rng.IntN(3) == 0 {
			m.pause(stop, 0, m.delay+3*time.Second)
		}
	}
}
