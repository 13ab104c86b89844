package integration

import (
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/integration/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Run(m)) }

// long skips a test that starts clusters when -short is given.
func long(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("starts processes: skipped with -short")
	}
}

// envInt reads a knob of a suite.
func envInt(t testing.TB, name string, def int) int {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		return def
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		t.Fatalf("%s=%q: %v", name, v, err)
	}
	return n
}

// newSeed is FLOTILLA_SEED or the time, printed so that a failing run can be repeated with the same schedule.
func newSeed(t testing.TB) uint64 {
	t.Helper()
	seed := uint64(envInt(t, "FLOTILLA_SEED", int(time.Now().UnixNano()&0x7FFFFFFF)))
	t.Logf("FLOTILLA_SEED=%d", seed)
	return seed
}

// slack is the time that a promise may take in a test: what is promised, and five times that while other work has the cores of
// this machine. A promise that holds late is no broken one there, and one that does not hold at all is found all the same.
func slack(promise time.Duration) time.Duration {
	if harness.Load() >= busyMachine {
		return 5 * promise
	}
	return promise
}
