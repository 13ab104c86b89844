package state_test

import (
	"testing"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
)

// TestShareRoomIsWhatTheGatewaySays: a log without the field replays with the bound that
// it was written under; with it the field counts, below the Receive Maximum.
func TestShareRoomIsWhatTheGatewaySays(t *testing.T) {
	for _, c := range []struct {
		name                            string
		receiveMax, onJoin, onReconnect uint16
		joined, reconnected             string
	}{
		{"a log without it", 1000, 0, 0, "128", "128"},
		{"the gateway's bound", 1000, 512, 300, "512", "300"},
		{"the Receive Maximum is lower", 20, 512, 512, "20", "20"},
		{"a gateway that does not say after one that did", 1000, 512, 0, "512", "128"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newShareRig(t, state.Options{})
			edit := func(room uint16) func(*command.Connect) {
				return func(cmd *command.Connect) { cmd.ReceiveMax, cmd.ShareRoom, cmd.CleanStart = c.receiveMax, room, false }
			}
			ref := r.connect("a", edit(c.onJoin))
			r.one(command.OK, command.AppendSubscribe(nil, &command.Subscribe{Ref: ref, Subs: []command.Subscription{{Filter: work, QoS: 1}}, ShareRoom: c.onJoin}))
			r.carry()
			r.wantView(work + " 0/0 a:0/" + c.joined)
			r.connect("a", edit(c.onReconnect))
			r.carry()
			r.wantView(work + " 0/0 a:0/" + c.reconnected)
		})
	}
}
