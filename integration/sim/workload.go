package sim

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/flotilla-mqtt/flotilla/integration/checker"
)

func topicName(parts ...any) string {
	s := make([]string, len(parts))
	for i, p := range parts {
		s[i] = fmt.Sprint(p)
	}
	return strings.Join(s, "/")
}

// after returns a channel that is closed when some time has passed.
func after(d time.Duration) <-chan struct{} {
	ch := make(chan struct{})
	time.AfterFunc(d, func() { close(ch) })
	return ch
}

// Workload is the clients of a run.
type Workload struct {
	w       *World
	pubs    []*publisher
	subs    []*subscriber
	probers []*prober
	readers []*reader
	mortals []*mortal

	stop, hurry, leave chan struct{}
	publishing, rest   sync.WaitGroup
}

// NewWorkload makes two publishers of each QoS, three sessions that subscribe, the members of a share, a prober, registers of
// retained messages with writers and readers, and sessions with wills.
func NewWorkload(w *World) *Workload {
	l := &Workload{w: w, stop: make(chan struct{}), hurry: make(chan struct{}), leave: make(chan struct{})}
	for i := range 2 {
		for qos := byte(1); qos <= 2; qos++ {
			name := fmt.Sprintf("p%d-%d", qos, i+1)
			l.pubs = append(l.pubs, w.newPublisher(name, topicName("q", qos, name), qos, 80*time.Millisecond))
		}
	}
	l.subs = []*subscriber{w.newSubscriber("s-all", "q/#", 2), w.newSubscriber("s-two", "q/2/+", 2), w.newSubscriber("s-one", "q/+/p1-1", 1)}
	l.subs[1].twin, l.subs[1].forgets = true, true
	l.subs = append(l.subs, w.newCrew()...)
	l.subs = append(l.subs, w.newSubscriber("s-will", willFilter, 2))
	l.probers = []*prober{w.newProber("probe")}
	l.pubs = append(l.pubs, w.newWriters()...)
	l.readers = []*reader{w.newReader("r-1"), w.newReader("r-2")}
	l.mortals = w.newMortals()
	return l
}

// Start lets the sessions subscribe, and then everybody do as they like.
func (l *Workload) Start() {
	for _, s := range l.subs {
		l.rest.Go(func() { s.run(l.stop, l.leave) })
	}
	late := after(readyLimit)
	for _, s := range l.subs {
		select {
		case <-s.ready:
		case <-late:
			l.w.Failf("I27: %s cannot subscribe", s.name)
		}
	}
	for _, p := range l.pubs {
		l.publishing.Go(func() { p.run(l.stop, l.hurry) })
	}
	for _, p := range l.probers {
		l.rest.Go(func() { p.run(l.stop, l.leave) })
	}
	for _, r := range l.readers {
		l.rest.Go(func() { r.run(l.stop) })
	}
	for _, m := range l.mortals {
		l.publishing.Go(func() { m.run(l.stop) })
	}
}

// Finish stops publishing, lets every session drain, and ends the clients. The nodes are up.
func (l *Workload) Finish() {
	close(l.stop)
	late := time.AfterFunc(readyLimit, func() { close(l.hurry) })
	l.publishing.Wait()
	late.Stop()
	if err := l.drain(); err != nil {
		l.w.Failf("I27: sessions do not drain: %v", err)
	}
	for _, c := range l.sessions() {
		l.w.rec.Add(checker.Event{Kind: checker.Drained, T: l.w.hist.now(), Client: c.name})
	}
	close(l.leave)
	l.rest.Wait()
}

func (l *Workload) sessions() []*client {
	var cs []*client
	for _, s := range l.subs {
		cs = append(cs, s.client)
	}
	for _, p := range l.probers {
		cs = append(cs, p.sub.client)
	}
	return cs
}

// quietFor is how long no session may receive anything before it counts as drained.
const quietFor = 2 * time.Second

// drain waits until every inbox is empty on every replica and nothing was received for a while.
func (l *Workload) drain() error {
	var since time.Time
	last := -1
	return l.w.until(drainLimit, func() error {
		got := 0
		for _, s := range l.subs {
			got += s.in.count()
		}
		for _, p := range l.probers {
			got += p.sub.in.count()
			if n := len(p.pub.session.InFlight()); n > 0 {
				return fmt.Errorf("%d publishes of %s have no answer", n, p.pub.name)
			}
		}
		if got != last {
			last, since = got, time.Now()
		}
		if time.Since(since) < quietFor {
			return fmt.Errorf("messages still come")
		}
		return l.inboxes()
	})
}

func (l *Workload) inboxes() error {
	for _, m := range l.w.nodes {
		n := l.w.running(m)
		if n == nil {
			return fmt.Errorf("%s is down", m.id)
		}
		shares, _, err := n.Shares(l.w.tb.Context(), "", 100)
		if err != nil {
			return err
		}
		for _, s := range shares {
			if s.Queue != 0 {
				return fmt.Errorf("%s: share %s of %s has %d messages, members %+v", m.id, s.Name, s.Filter, s.Queue, s.Members)
			}
		}
		for _, c := range l.sessions() {
			st, ok, err := n.Session(l.w.tb.Context(), c.name)
			switch {
			case err != nil:
				return err
			case !ok:
				return fmt.Errorf("%s knows no session %s", m.id, c.name)
			case st.InboxDepth != 0 || !st.Connected:
				return fmt.Errorf("%s: session %s has %d messages, connected %v, owner %v", m.id, c.name, st.InboxDepth, st.Connected, st.Owner)
			}
		}
	}
	return nil
}

// Run is one whole run: form, publish under faults for a time, heal, drain, compare, end.
func (w *World) Run(duration time.Duration) {
	if err := w.form(); err != nil {
		w.Failf("the cluster does not form: %v", err)
		w.Close(false)
		return
	}
	l := NewWorkload(w)
	l.Start()
	if duration > 0 {
		end := time.Now().Add(duration)
		for lane := range uint64(2) {
			f := &faults{w: w, rng: rand.New(rand.NewPCG(w.opt.Seed, 100+lane)), end: end}
			w.wg.Add(1)
			go func() { defer w.wg.Done(); f.run() }()
		}
		w.wg.Wait()
	} else {
		time.Sleep(3 * time.Second)
	}
	w.finish(l)
}

// finish heals the cluster and holds it against what must be true then.
func (w *World) finish(l *Workload) {
	w.Heal()
	if err := w.WaitReady(); err != nil {
		w.Failf("I27: not ready after the faults: %v", err)
	}
	l.Finish()
	if err := w.Equal(); err != nil {
		w.Failf("I27: replicas do not meet: %v", err)
	}
	w.Close(w.opt.Seed%2 == 0)
}
