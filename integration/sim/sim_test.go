package sim

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
)

const (
	// seedsDefault is how many seeds a plain go test plays.
	seedsDefault = 10
	faultTime    = 20 * time.Second
	// realLimit is how long a seed may take in real time: a wedged cluster spins in fake time for ever.
	realLimit = 4 * time.Minute
)

// bubble runs fn in a bubble, with a watchdog in real time.
func bubble(t *testing.T, seed uint64, fn func(t *testing.T, o Options)) {
	t.Helper()
	o := Options{Seed: seed, Dir: t.TempDir(), Progress: new(atomic.Int64)}
	dog := time.AfterFunc(realLimit, func() {
		_ = pprof.Lookup("goroutine").WriteTo(os.Stderr, 2) // the panic follows in any case
		panic(fmt.Sprintf("seed %d hangs: the history ends %v after the start in fake time, see the goroutines above", seed, time.Duration(o.Progress.Load())))
	})
	defer dog.Stop()
	synctest.Test(t, func(t *testing.T) {
		if os.Getenv("FLOTILLA_SIM_LOG") != "" {
			lg, err := zap.NewDevelopment()
			if err != nil {
				t.Fatal(err)
			}
			o.Log = lg
		}
		fn(t, o)
	})
}

func TestWithoutFaults(t *testing.T) {
	bubble(t, 2, func(t *testing.T, o Options) {
		w := NewWorld(t, o)
		w.Run(0)
		report(t, w)
	})
}

func TestSeeds(t *testing.T) {
	first, n := uint64(1), seedsDefault
	if v := os.Getenv("FLOTILLA_SIM_SEEDS"); v != "" {
		n, _ = strconv.Atoi(v)
	}
	if v := os.Getenv("FLOTILLA_SIM_SEED"); v != "" {
		first, _ = strconv.ParseUint(v, 10, 64)
		if os.Getenv("FLOTILLA_SIM_SEEDS") == "" {
			n = 1
		}
	}
	for seed := first; seed < first+uint64(n); seed++ {
		real := time.Now()
		bubble(t, seed, func(t *testing.T, o Options) {
			if seed%3 == 0 {
				o.CrashVoters = 10
			}
			w := NewWorld(t, o)
			w.Run(faultTime)
			report(t, w)
		})
		t.Logf("seed %d: %v of real time", seed, time.Since(real).Round(time.Millisecond))
		if t.Failed() {
			t.Fatalf("seed %d failed: FLOTILLA_SIM_SEED=%d go test -run TestSeeds ./integration/sim", seed, seed)
		}
	}
}

func report(t *testing.T, w *World) {
	r, err := w.Verdict()
	if r != nil {
		t.Log(r.String())
	}
	if dir := os.Getenv("FLOTILLA_SIM_HISTORY"); dir != "" {
		if err := w.rec.Save(filepath.Join(dir, fmt.Sprintf("%s-%d.jsonl", t.Name(), w.opt.Seed))); err != nil {
			t.Error(err)
		}
	}
	if err != nil {
		t.Errorf("seed %d:\n%v", w.opt.Seed, err)
	}
}
