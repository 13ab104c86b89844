package cluster

import (
	"errors"
	"testing"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/session"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// TestRefusals: what a machine refuses reaches the client with its own code.
func TestRefusals(t *testing.T) {
	for code, want := range map[command.ResultCode]mqtt.ReasonCode{
		command.Full: mqtt.QuotaExceeded, command.WrongUser: mqtt.ClientIdentifierNotValid, command.Invalid: mqtt.ImplementationSpecificError,
	} {
		var refused *session.RefusedError
		if err := refusal(code); !errors.As(err, &refused) || refused.Code != want {
			t.Errorf("%v yields %v, want code %v", code, err, want)
		}
	}
	for code, want := range map[command.ResultCode]error{
		command.StaleEpoch: session.ErrStale, command.UnknownSession: session.ErrStale, command.Gap: session.ErrUnavailable,
	} {
		if err := refusal(code); !errors.Is(err, want) {
			t.Errorf("%v yields %v, want %v", code, err, want)
		}
	}
}
