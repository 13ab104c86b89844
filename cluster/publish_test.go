package cluster

import (
	"errors"
	"testing"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/session"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// TestPublishOutcome checks that only a message that is where it belongs counts as committed (I1).
func TestPublishOutcome_I1(t *testing.T) {
	for _, c := range []struct {
		res  command.Result
		err  error
		code mqtt.ReasonCode
		want error
	}{
		{res: command.Result{}},
		{res: command.Result{Code: command.OK}},
		{res: command.Result{Code: command.NoMatch}},
		{res: command.Result{Code: command.Duplicate}},
		{res: command.Result{Code: command.Full}, code: mqtt.QuotaExceeded},
		{res: command.Result{Code: command.Invalid}, want: session.ErrUnavailable},
		{res: command.Result{Code: command.StaleEpoch}, want: session.ErrStale},
		{err: ErrNoLeader, want: ErrNoLeader},
		{res: command.Result{Code: command.Invalid}, err: ErrLaneReset, want: ErrLaneReset},
	} {
		var got session.Outcome
		p := &pendingPublish{done: func(out session.Outcome) { got = out }}
		p.left.Store(2)
		p.stored(c.res, 1, c.err)
		p.part(command.Result{}, nil)
		if got.Code != c.code || !errors.Is(got.Err, c.want) {
			t.Errorf("%v, %v: %+v", c.res.Code, c.err, got)
		}
	}
}
