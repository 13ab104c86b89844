package sim

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/integration/checker"
)

const (
	// seedsDefault is how many seeds a plain go test plays.
	seedsDefault = 10
	faultTime    = 20 * time.Second
	// progressEvery is how often a long run says how far it is.
	progressEvery = time.Minute
)

// TestSeeds plays seeds, as many at a time as there are processors: FLOTILLA_SIM_SEED is the first one, FLOTILLA_SIM_SEEDS how many
// (one if the first is given). After a failure no other one begins.
func TestSeeds(t *testing.T) {
	run := newSeedRun(t)
	if run.count > seedsDefault {
		stop := run.progress()
		defer stop()
	}
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), run.count) {
		workers.Go(func() {
			for {
				seed, ok := run.take(t)
				if !ok {
					return
				}
				if !t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) { run.play(t, seed) }) {
					t.Errorf("seed %d failed: FLOTILLA_SIM_SEED=%d go test -run '^TestSeeds$' ./integration/sim", seed, seed)
				}
			}
		})
	}
	workers.Wait()
}

// seedRun is the seeds of a run, and what came of them.
type seedRun struct {
	first uint64
	count int
	begun time.Time

	mu      sync.Mutex
	started int    // guarded by mu
	done    int    // guarded by mu
	acked   [3]int // guarded by mu, by QoS
	faults  int    // guarded by mu
}

func newSeedRun(t *testing.T) *seedRun {
	r := &seedRun{first: 1, count: seedsDefault, begun: time.Now()}
	number := func(name string, bits int) (uint64, bool) {
		v := os.Getenv(name)
		if v == "" {
			return 0, false
		}
		n, err := strconv.ParseUint(v, 10, bits)
		if err != nil || n == 0 {
			t.Fatalf("%s is %q, not a number from 1 on", name, v)
		}
		return n, true
	}
	if n, ok := number("FLOTILLA_SIM_SEED", 64); ok {
		r.first, r.count = n, 1
	}
	if n, ok := number("FLOTILLA_SIM_SEEDS", 31); ok {
		r.count = int(n)
	}
	return r
}

func (r *seedRun) take(t *testing.T) (seed uint64, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.started == r.count || t.Failed() {
		return 0, false
	}
	r.started++
	return r.first + uint64(r.started-1), true
}

func (r *seedRun) play(t *testing.T, seed uint64) {
	begun := time.Now()
	bubble(t, seed, func(t *testing.T, o Options) {
		if seed%3 == 0 {
			o.CrashVoters = 10
		}
		w := NewWorld(t, o)
		w.Run(faultTime)
		r.note(report(t, w))
	})
	t.Logf("seed %d: %v of real time", seed, time.Since(begun).Round(time.Millisecond))
}

func (r *seedRun) note(rep *checker.Report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done++
	if rep == nil {
		return
	}
	r.faults += rep.Faults
	for qos, n := range rep.Acked {
		r.acked[qos] += n
	}
}

// progress says now and then how far the run is, until stop is called, and then what came of it.
func (r *seedRun) progress() (stop func()) {
	tick, end := time.NewTicker(progressEvery), make(chan struct{})
	go func() {
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				fmt.Fprintf(os.Stderr, "%v; about %v to go\n", r, r.left())
			case <-end:
				return
			}
		}
	}()
	return func() {
		close(end)
		fmt.Fprintln(os.Stderr, r)
	}
}

func (r *seedRun) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return fmt.Sprintf("%d of %d seeds from %d on in %v: %d faults, %d acknowledged with QoS 1, %d with QoS 2",
		r.done, r.count, r.first, time.Since(r.begun).Round(time.Second), r.faults, r.acked[1], r.acked[2])
}

// left is how long the rest will take, if it takes as long as what is done.
func (r *seedRun) left() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return (time.Since(r.begun) / time.Duration(max(r.done, 1)) * time.Duration(r.count-r.done)).Round(time.Minute)
}
