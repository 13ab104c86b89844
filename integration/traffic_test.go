package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/integration/checker"
	"github.com/flotilla-mqtt/flotilla/integration/harness"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// traffic is a population of durable clients that publish and subscribe while a suite hurts the cluster.
type traffic struct {
	t    testing.TB
	rec  *checker.Recorder
	run  string
	seed uint64

	publishers, subscribers []*person
	passers                 []*person // transient members of the share
	endpoints               []endpoint

	// ignoreProps leaves the properties of messages unchecked.
	ignoreProps bool

	stopPublishing sync.Once
	cancel         context.CancelFunc
	wg             sync.WaitGroup
}

// plan says how much traffic there is.
type plan struct {
	// name keeps its clients and topics apart from those of other plans on the same cluster.
	name        string
	publishers  []library
	subscribers []library
	// members of one share, which gets the same messages.
	members []library
	// transient members of the same share, besides.
	transient int
	// interval between two publishes of one publisher.
	interval time.Duration
	size     int
}

// mixedPlan uses every library on both sides; QoS alternates between 1 and 2.
func mixedPlan(interval time.Duration) plan {
	return plan{
		publishers:  []library{raw, raw, raw3, raw, paho311, paho311, paho5, paho5},
		subscribers: []library{raw, raw3, paho311, paho5, raw},
		interval:    interval, size: 256,
	}
}

// faultPlan is the plan of the fault suites: the long runs have a share, too (TestSharesUnderKills has it in every run).
func faultPlan(interval time.Duration) plan {
	p := mixedPlan(interval)
	if os.Getenv("FLOTILLA_FAULTS") != "" {
		p = p.withShare()
		p.transient = 2
	}
	return p
}

// sharedTraffic is the share of the members of a plan.
const sharedTraffic = "$share/pool/w/#"

// root is the first level of the topics of a plan.
func (p plan) root() string { return "w" + p.name }

// withShare adds eight durable members of one share, of all libraries.
func (p plan) withShare() plan {
	p.members = []library{raw, raw3, paho311, paho5, raw, raw3, paho311, paho5}
	return p
}

func clusterEndpoints(c *harness.Cluster) []endpoint {
	var list []endpoint
	for _, n := range c.Nodes {
		list = append(list, endpoint{n.ID, n.MQTTAddr})
	}
	return list
}

// newTraffic subscribes everybody, waits until all subscriptions are granted, and starts the publishers.
func newTraffic(t testing.TB, endpoints []endpoint, seed uint64, p plan) *traffic {
	t.Helper()
	tr := &traffic{t: t, rec: checker.NewRecorder(), run: fmt.Sprintf("r%d", seed), seed: seed, endpoints: endpoints}
	for i, lib := range p.subscribers {
		s := newPerson(tr.rec, tr.run, fmt.Sprintf("sub%s-%s-%d", p.name, lib, i+1), lib, endpoints, seed+uint64(i))
		s.first = i
		s.filters = []mqtt.SubscribeFilter{{Filter: p.root() + "/#", QoS: byte(2 - i%2)}}
		tr.subscribers = append(tr.subscribers, s)
	}
	for i, lib := range p.members {
		s := newPerson(tr.rec, tr.run, fmt.Sprintf("member-%s-%d", lib, i+1), lib, endpoints, seed+50+uint64(i))
		s.first = i
		s.filters = []mqtt.SubscribeFilter{{Filter: sharedTraffic, QoS: 2}}
		tr.subscribers = append(tr.subscribers, s)
	}
	for i, lib := range p.publishers {
		s := newPerson(tr.rec, tr.run, fmt.Sprintf("pub%s-%s-%d", p.name, lib, i+1), lib, endpoints, seed+100+uint64(i))
		s.first = i
		s.topic, s.qos, s.interval, s.size = fmt.Sprintf("%s/%s/t", p.root(), s.ID()), byte(1+i%2), p.interval, p.size
		tr.publishers = append(tr.publishers, s)
	}
	ctx, cancel := context.WithCancel(context.Background())
	tr.cancel = cancel
	t.Cleanup(tr.end)
	tr.start(ctx, tr.subscribers)
	tr.startTransient(ctx, p.transient)
	harness.Wait(t, patience, "all subscribers to have their SUBACK", func(context.Context) error { return tr.subscribed() })
	tr.start(ctx, tr.publishers)
	harness.Wait(t, patience, "every publisher to have an acknowledgement", func(context.Context) error {
		for _, p := range tr.publishers {
			if p.Acked() == 0 {
				return fmt.Errorf("%s has none", p.ID())
			}
		}
		return nil
	})
	return tr
}

func (tr *traffic) start(ctx context.Context, people []*person) {
	for _, p := range people {
		tr.wg.Go(func() { p.live(ctx, tr.t) })
	}
}

// startTransient adds members of the share whose sessions end with their connections. Nobody waits for them to drain.
func (tr *traffic) startTransient(ctx context.Context, count int) {
	for i := range count {
		s := newPerson(tr.rec, tr.run, fmt.Sprintf("passer-by-%d", i+1), raw, tr.endpoints, tr.seed+80+uint64(i))
		s.first = i + 1
		s.filters = []mqtt.SubscribeFilter{{Filter: sharedTraffic, QoS: 1}}
		tr.passers = append(tr.passers, s)
		tr.wg.Go(func() {
			s.liveTransient(ctx)
			s.drop()
		})
	}
}

func (tr *traffic) subscribed() error {
	granted := map[string]int{}
	for _, e := range tr.rec.Events() {
		if e.Kind == checker.Subscribe && e.End != 0 && e.Code < 0x80 {
			granted[e.Client]++
		}
	}
	for _, s := range tr.subscribers {
		if granted[s.ID()] < len(s.filters) {
			return fmt.Errorf("%s has %d of %d", s.ID(), granted[s.ID()], len(s.filters))
		}
	}
	return nil
}

// fault notes what was done to a node.
func (tr *traffic) fault(node, what string) {
	tr.rec.Add(checker.Event{Kind: checker.Fault, Node: node, Err: what})
}

const (
	// quiet is how long nothing may have come before a subscriber counts as drained.
	quiet = 3 * time.Second
	// silences is how many of them must pass before what is missing counts as lost: one may be that of a machine that stands still.
	silences = 6
)

// drain stops publishing, waits until every publish has its answer and every subscriber has read what there is, and checks
// the history.
func (tr *traffic) drain(timeout time.Duration) *checker.Report {
	tr.t.Helper()
	tr.stopPublishing.Do(func() {
		for _, p := range tr.publishers {
			close(p.stop)
		}
	})
	for _, p := range append(tr.publishers, tr.subscribers...) {
		p.back()
	}
	if err := harness.Until(tr.t.Context(), timeout, "all publishes to be answered", func(context.Context) error {
		var open []string
		for _, p := range tr.publishers {
			if n := p.Unanswered(); n > 0 {
				open = append(open, fmt.Sprintf("%s %d (connected %v)", p.ID(), n, p.Connected()))
			}
		}
		if len(open) > 0 {
			return fmt.Errorf("unanswered: %s", strings.Join(open, ", "))
		}
		return nil
	}); err != nil {
		tr.t.Error("I27: ", err)
	}
	tr.quieten(timeout)
	for range silences - 1 {
		if report, err := checker.CheckSlow(append(tr.rec.Events(), tr.drained()...), allowance()); err != nil || report.OK() {
			break
		}
		tr.quieten(timeout)
	}
	for _, e := range tr.drained() {
		tr.rec.Add(e)
	}
	tr.end()
	for _, p := range tr.publishers {
		p.Finish()
	}
	return tr.check()
}

// quieten waits until nothing has come to any subscriber for a while.
func (tr *traffic) quieten(timeout time.Duration) {
	tr.t.Helper()
	begin := tr.rec.Now()
	if err := harness.Until(tr.t.Context(), timeout, "all subscribers to drain", func(context.Context) error {
		for _, s := range tr.subscribers {
			since := time.Duration(tr.rec.Now() - max(s.LastDelivery(), begin))
			if !s.Connected() || since < quiet {
				return fmt.Errorf("%s: connected %v, last delivery %v ago", s.ID(), s.Connected(), since)
			}
		}
		return nil
	}); err != nil {
		tr.t.Error("I27: ", err)
	}
}

// drained lists an event for each subscriber that is connected.
func (tr *traffic) drained() (list []checker.Event) {
	for _, s := range tr.subscribers {
		if s.Connected() {
			list = append(list, s.Drained())
		}
	}
	return list
}

// end disconnects everybody and joins their goroutines.
func (tr *traffic) end() {
	tr.cancel()
	tr.wg.Wait()
}

// check holds the history against the rules; a bad one is kept.
func (tr *traffic) check() *checker.Report {
	tr.t.Helper()
	events := tr.rec.Events()
	if tr.ignoreProps {
		for i := range events {
			events[i].Props = ""
		}
	}
	report, err := checker.CheckSlow(events, allowance())
	if err != nil {
		tr.t.Fatal(err)
	}
	keep := os.Getenv("FLOTILLA_HISTORY")
	if !report.OK() && keep == "" {
		keep = filepath.Join(os.TempDir(), fmt.Sprintf("flotilla-history-%s.jsonl", tr.run))
	}
	if keep != "" {
		if err := tr.rec.Save(keep); err != nil {
			tr.t.Error(err)
		}
		tr.t.Logf("history kept in %s", keep)
	}
	if !report.OK() {
		tr.t.Errorf("seed %d: %s", tr.seed, report)
	} else {
		tr.t.Logf("seed %d: %s", tr.seed, report)
	}
	if len(report.Undrained) > 0 {
		tr.t.Errorf("sessions that never drained: %v", report.Undrained)
	}
	return report
}

// acked counts the acknowledged publishes until now.
func (tr *traffic) acked() (n uint64) {
	for _, p := range tr.publishers {
		n += p.Acked()
	}
	return n
}

var errTooFew = errors.New("too few acknowledgements yet")
