package sim

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/flotilla-mqtt/flotilla/integration/checker"
)

// realLimit is how long a seed may take in real time: a wedged cluster spins in fake time for ever.
const realLimit = 4 * time.Minute

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

// report judges a run, and keeps its history if that is wanted or something is wrong with it.
func report(t *testing.T, w *World) *checker.Report {
	r, err := w.Verdict()
	if r != nil {
		t.Log(r.String())
	}
	if err != nil {
		t.Errorf("seed %d:\n%v", w.opt.Seed, err)
	}
	dir := os.Getenv("FLOTILLA_SIM_HISTORY")
	if dir == "" && t.Failed() {
		dir = os.TempDir()
	}
	if dir != "" {
		test, _, _ := strings.Cut(t.Name(), "/")
		name := filepath.Join(dir, fmt.Sprintf("%s-%d.jsonl", test, w.opt.Seed))
		if err := w.rec.Save(name); err != nil {
			t.Error(err)
		}
		t.Logf("the history is in %s", name)
	}
	return r
}
