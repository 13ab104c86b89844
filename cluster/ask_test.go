package cluster

import (
	"context"
	"errors"
	"testing"
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
