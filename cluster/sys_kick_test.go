package cluster

import (
	"fmt"
	"testing"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
)

// TestKickBookKeepsWhatRuns: however many kicks have ended since, one that is slow can be found and cancelled, and
// counts among those that run.
func TestKickBookKeepsWhatRuns(t *testing.T) {
	var b kickBook
	cancelled := false
	add := func(id string, st command.OperationState) bool {
		return b.add(&kickOperation{st: OperationStatus{ID: id, State: st.String()}, cancel: func() { cancelled = true }})
	}
	if !add("slow", command.OperationRunning) {
		t.Fatal("the first kick is refused")
	}
	for i := range 2 * kicksKept {
		if !add(fmt.Sprint(i), command.OperationDone) {
			t.Fatalf("kick %d is refused", i)
		}
	}
	if list := b.list(); len(list) != kicksKept || list[0].ID != fmt.Sprint(2*kicksKept-1) {
		t.Errorf("%d are kept, the newest is %s", len(list), list[0].ID)
	}
	if b.cancel("slow"); !cancelled {
		t.Error("the kick that runs was forgotten")
	}
	for i := 1; i < kicksRunning; i++ {
		if !add("running", command.OperationRunning) {
			t.Fatalf("%d run, and another is refused", i)
		}
	}
	if add("one more", command.OperationRunning) {
		t.Errorf("more than %d run", kicksRunning)
	}
}
