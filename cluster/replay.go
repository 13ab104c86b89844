package cluster

import (
	"context"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/session"
)

// replayBytes bounds the messages of one Replay command: a page may hold large
// messages, and a frame between nodes is bounded.
const replayBytes = 256 << 10

// Replay implements session.Inbox. A page is cut into commands in the same way
// each time, so that one whose outcome was unknown goes on where it stood.
func (n *Node) Replay(ctx context.Context, ref command.SessionRef, page session.ReplayPage) error {
	cmd := command.Replay{Ref: ref, Filter: page.Filter, After: page.After}
	size := 0
	for i := range page.Msgs {
		raw := page.Msgs[i].Append(nil)
		if size > 0 && size+len(raw) > replayBytes {
			cmd.Next = string(page.Msgs[i-1].Topic)
			if err := n.proposeReplay(ctx, &cmd); err != nil {
				return err
			}
			cmd.After, cmd.Messages, size = cmd.Next, nil, 0
		}
		cmd.Messages, size = append(cmd.Messages, raw), size+len(raw)
	}
	cmd.Next, cmd.Last = page.Next, page.Last
	return n.proposeReplay(ctx, &cmd)
}

func (n *Node) proposeReplay(ctx context.Context, cmd *command.Replay) error {
	shard := n.sessionShard(cmd.Ref.SessionKey)
	res, _, err := n.propose(ctx, shard, func(dst []byte) []byte { return command.AppendReplay(dst, cmd) }, nil)
	if err != nil {
		return err
	}
	if res.Code != command.OK && res.Code != command.Duplicate {
		return refusal(res.Code)
	}
	return nil
}

// pendingReplays are the replays that a session has not finished, with their
// subscriptions.
func pendingReplays(subs []command.Subscription, pending []command.PendingReplay) []session.Replay {
	var out []session.Replay
	for _, p := range pending {
		for i := range subs {
			if subs[i].Filter == p.Filter {
				out = append(out, session.Replay{Sub: subs[i], After: p.After})
			}
		}
	}
	return out
}
