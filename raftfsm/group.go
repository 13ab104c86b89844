package raftfsm

import "context"

// Group is one replica of one Raft group.
type Group struct{}

// ID returns the group's number.
func (g *Group) ID() uint32 { panic("todo") }

// Propose appends entry to the group's log. done is called exactly once, from any goroutine and
// possibly before Propose returns, and must not block: with the machine's results and the entry's
// index once it is applied here, or with ErrNotLeader, ErrBusy, ErrTooLarge, ErrEmpty or ErrClosed
// (certainly not appended), or with ErrUnknownOutcome (it may or may not commit). Entries of calls
// that follow one another commit in that order. The group owns entry from the call on.
func (g *Group) Propose(entry []byte, done func(results any, index uint64, err error)) { panic("todo") }

// ReadIndex returns an index such that a replica which has applied it serves a linearizable read.
func (g *Group) ReadIndex(ctx context.Context) (uint64, error) { panic("todo") }

// WaitApplied returns once this replica has applied index.
func (g *Group) WaitApplied(ctx context.Context, index uint64) error { panic("todo") }

// Leader returns the leader's node id ("" if unknown) and the current term.
func (g *Group) Leader() (nodeID string, term uint64) { panic("todo") }

// IsLeader says whether this replica leads and admits proposals.
func (g *Group) IsLeader() bool { panic("todo") }

// TransferLeadership hands leadership to a voter ("" = the most advanced one).
func (g *Group) TransferLeadership(ctx context.Context, to string) error { panic("todo") }

// AddVoter makes id a voter, after it has caught up as a non-voter.
func (g *Group) AddVoter(ctx context.Context, id string) error { panic("todo") }

// AddNonvoter adds id as a replica without a vote. A voter stays one.
func (g *Group) AddNonvoter(ctx context.Context, id string) error { panic("todo") }

// DemoteVoter takes the vote of id away.
func (g *Group) DemoteVoter(ctx context.Context, id string) error { panic("todo") }

// RemoveServer removes id from the group.
func (g *Group) RemoveServer(ctx context.Context, id string) error { panic("todo") }

// Members returns the latest membership, which may not be committed yet.
func (g *Group) Members() []Member { panic("todo") }

// Snapshot takes a snapshot and truncates the log behind it.
func (g *Group) Snapshot(ctx context.Context) error { panic("todo") }

// Status returns the group's figures.
func (g *Group) Status() Status { panic("todo") }

// Close stops the replica in order: pending proposals get ErrUnknownOutcome, the machine writes back.
// It changes no membership and is idempotent.
func (g *Group) Close() error { panic("todo") }

// Kill stops the replica as a crash would: no write back, no goodbye.
func (g *Group) Kill() { panic("todo") }
