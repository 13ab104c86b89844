package cluster

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flotilla-mqtt/flotilla/cluster/peer"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
)

// TestDecisionsTravel: what the control leader decides reaches the node that asked it in the form that nodes of other
// releases read; a refusal keeps its code, and an outcome that is not known is an error.
func TestDecisionsTravel(t *testing.T) {
	ctx := t.Context()
	says := func(a memberReply, err error) func(context.Context, memberRequest) (memberReply, error) {
		return func(_ context.Context, req memberRequest) (memberReply, error) {
			if req.Do != memberDrain || req.Node != "n1" {
				t.Errorf("it was asked %+v", req)
			}
			return a, err
		}
	}
	asked := []byte(`{"do":"drain","node":"n1"}`)
	for _, c := range []struct {
		name string
		a    memberReply
		err  error
		want string
	}{
		{"nothing to tell", memberReply{}, nil, `{}`},
		{"an answer", memberReply{Token: &TokenStatus{ID: "t"}}, nil, `{"token":{"id":"t","uses":0,"expires_at":null}}`},
		{"a refusal", memberReply{}, refuse(GuardBusy, "wait"), `{"guard":{"code":"operation-in-progress","detail":"wait"}}`},
	} {
		if got, err := answerDecide(ctx, asked, says(c.a, c.err)); err != nil || string(got) != c.want {
			t.Errorf("%s: %s, %v; want %s", c.name, got, err, c.want)
		}
	}
	if got, err := answerDecide(ctx, asked, says(memberReply{}, ErrNoLeader)); !errors.Is(err, ErrNoLeader) || got != nil {
		t.Errorf("an outcome that is not known: %s, %v", got, err)
	}
	if _, err := answerDecide(ctx, []byte("{"), says(memberReply{}, nil)); !errors.Is(err, errFrame) {
		t.Errorf("half a question: %v", err)
	}
	for _, c := range []struct {
		reply any
		judge func() ([]byte, error)
		want  string
	}{
		{keyReply{}, func() ([]byte, error) {
			return answerDecide(ctx, []byte("{}"), func(context.Context, keyRequest) (keyReply, error) { return keyReply{}, refuse(GuardLimit, "many") })
		}, `{"guard":{"code":"limit-exceeded","detail":"many"}}`},
		{settingsReply{}, func() ([]byte, error) {
			return answerDecide(ctx, []byte("{}"), func(context.Context, settingsRequest) (settingsReply, error) {
				return settingsReply{Changed: []SettingStatus{}}, nil
			})
		}, `{"changed":[]}`},
	} {
		if got, err := c.judge(); err != nil || string(got) != c.want {
			t.Errorf("%T: %s, %v; want %s", c.reply, got, err, c.want)
		}
	}
}

// TestDecideWaits checks that a decision waits for a leader as long as nobody can have decided, and
// no longer than it says.
func TestDecideWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &Node{control: &control{mach: state.NewControl()}}
		judge := func(context.Context, memberRequest) (memberReply, error) {
			t.Error("somebody decided")
			return memberReply{}, nil
		}
		start := time.Now()
		_, err := decide(t.Context(), n, queryMember, memberRequest{}, judge)
		if took := time.Since(start); !errors.Is(err, ErrNoLeader) || took < decideWait || took > 2*decideWait {
			t.Errorf("%v after %s", err, took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		start = time.Now()
		if _, err := decide(ctx, n, queryMember, memberRequest{}, judge); !errors.Is(err, ErrNoLeader) || time.Since(start) > time.Second {
			t.Errorf("the caller's end: %v after %s", err, time.Since(start))
		}
	})
	for _, c := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{ErrNoLeader, false},
		{peer.ErrLinkDown, false}, // the question may have arrived
		{refuse(GuardBusy, "wait"), false},
		{fmt.Errorf("%w: %w", ErrNoLeader, errNotControlLeader), true},
		{fmt.Errorf("ask: %w", &peer.RemoteError{Message: "no leader: " + errNotControlLeader.Error()}), true},
		{fmt.Errorf("ask: %w", &peer.RemoteError{Message: "replica is not the leader of the group"}), false},
	} {
		if got := nobodyDecided(c.err); got != c.want {
			t.Errorf("%v: %v", c.err, got)
		}
	}
}
