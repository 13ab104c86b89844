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

// patience is how long a test waits for what must happen and has no time of its own: above any pause of a machine whose cores and
// disk others use, too.
const patience = time.Minute

// standstill is what such a machine may add to a promised time. The load does not show it: who waits for a disk or a stolen core
// does not count.
const standstill = 20 * time.Second

// fullForm tells whether a long form runs, which wants a machine of its own.
func fullForm() bool {
	return fullScenario() || os.Getenv("FLOTILLA_FAULTS") != "" || os.Getenv("FLOTILLA_MONITORING") != ""
}

// allowance is what limits of time in a history leave to the machine: nothing in the full forms.
func allowance() time.Duration {
	if fullForm() {
		return 0
	}
	return standstill
}

// slack is the time that a promise may take in a test. The full forms hold it to the promise, unless other work has the cores;
// elsewhere one that holds late is no broken one, and one that does not hold at all is found all the same.
func slack(promise time.Duration) time.Duration {
	if fullForm() && harness.Load() < busyMachine {
		return promise
	}
	return promise + standstill
}
