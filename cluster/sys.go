package cluster

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
)

const (
	// sysRoot begins the topics that the broker itself publishes.
	sysRoot = "$SYS"
	// sysInterval is how often the values are taken and published: INTERFACES
	// section 9.
	sysInterval = 10 * time.Second
	// sysTimeout bounds the questions to other nodes. Who does not answer in
	// time counts with what it said last.
	sysTimeout = time.Second
)

// isSysFilter tells whether a filter asks for topics of the broker. One that
// begins with a wildcard never does (v5:MQTT-4.7.2-1).
func isSysFilter(filter string) bool {
	return filter == sysRoot || strings.HasPrefix(filter, sysRoot+"/")
}

// sysTopics publishes what the broker says of itself: INTERFACES section 9.
// Nothing of it goes through Raft, and nothing of it is asked on a hot path.
// After start, everything but table belongs to one goroutine.
type sysTopics struct {
	n       *Node
	began   time.Time
	metrics *prometheus.Registry // the session server's, to read them again
	met     *sysMetrics
	table   atomic.Pointer[sysTable]
	book    *sysBook
}

// sysTable are the current values in the order of their topics. It is replaced
// as a whole.
type sysTable struct{ messages []command.Message }

func newSysTopics(n *Node) *sysTopics {
	s := &sysTopics{n: n, began: time.Now(), metrics: prometheus.NewRegistry(), met: newSysMetrics(n.cfg.Registerer), book: newSysBook()}
	s.table.Store(&sysTable{})
	return s
}

// start fills the table with what this node knows by itself, so that the first
// client finds values, and keeps it current until the node stops.
func (s *sysTopics) start() {
	s.round(map[string]*sysSample{s.n.id: s.sample()})
	s.n.spawn(s.run)
}

func (s *sysTopics) run() {
	tick := time.NewTicker(sysInterval)
	defer tick.Stop()
	for {
		s.round(s.ask())
		s.publish()
		select {
		case <-s.n.ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// round takes samples into the book and makes the table anew.
func (s *sysTopics) round(samples map[string]*sysSample) {
	v := s.n.control.view()
	s.book.take(samples, v, time.Now())
	ctx, cancel := context.WithTimeout(s.n.ctx, 2*statusTimeout)
	defer cancel()
	var st Status
	if len(samples) > 1 || len(v.Nodes) <= 1 {
		st = s.n.Status(ctx)
	}
	s.table.Store(&sysTable{s.values(v, &st)})
}

// publish hands the values to the subscribers of this node.
func (s *sysTopics) publish() {
	now := s.n.now()
	for _, m := range s.table.Load().messages {
		m.PublishedAt, m.Retain = now, false
		s.n.server.Deliver("", &m)
	}
}

// ask takes a sample of every node that is up, this one first.
func (s *sysTopics) ask() map[string]*sysSample {
	samples := map[string]*sysSample{s.n.id: s.sample()}
	ctx, cancel := context.WithTimeout(s.n.ctx, sysTimeout)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, id := range otherNodesUp(s.n.control.view(), s.n.id) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			resp, err := s.n.query(ctx, id, querySys, nil)
			sample := new(sysSample)
			if err != nil || json.Unmarshal(resp, sample) != nil {
				return // its last values stand
			}
			mu.Lock()
			defer mu.Unlock()
			samples[id] = sample
		}()
	}
	wg.Wait()
	return samples
}

func otherNodesUp(v *state.ControlView, self string) []string {
	var ids []string
	for id, rec := range v.Nodes {
		if rec.Up && id != self {
			ids = append(ids, id)
		}
	}
	return ids
}
