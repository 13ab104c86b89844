package cluster

import (
	"errors"
	"testing"

	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
)

func TestOlderProgramDoesNotStart(t *testing.T) {
	for level, want := range map[uint32]error{0: nil, knownFeatureLevel: nil, knownFeatureLevel + 1: ErrIdentity} {
		if err := understands(&state.ControlView{FeatureLevel: level}); !errors.Is(err, want) {
			t.Errorf("level %d: %v", level, err)
		}
	}
}
