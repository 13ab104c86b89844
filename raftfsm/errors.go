package raftfsm

import "errors"

var (
	// ErrNotLeader says that this replica does not lead the group, or does not yet: a leader admits
	// proposals once it has applied everything that its predecessors committed. The entry was
	// certainly not appended; propose it again at the leader.
	ErrNotLeader = errors.New("replica is not the leader of the group")

	// ErrUnknownOutcome says that leadership or the replica ended while the entry was on its way.
	// It may or may not commit. Resend it under the same lane sequence.
	ErrUnknownOutcome = errors.New("outcome of the proposal is unknown")

	// ErrClosed says that the group or the host is closed.
	ErrClosed = errors.New("group is closed")

	// ErrBusy says that the group's bound on bytes or entries in flight is reached. The entry was
	// certainly not appended.
	ErrBusy = errors.New("too many proposals in flight")

	// ErrTooLarge says that an entry exceeds GroupConfig.MaxEntryBytes. It was not appended.
	ErrTooLarge = errors.New("entry is larger than the cap on entries")

	// ErrEmpty says that a proposal had no bytes: empty entries are the group's own barriers.
	ErrEmpty = errors.New("entry is empty")

	// ErrNotMember says that the named node is no member of the group.
	ErrNotMember = errors.New("node is not a member of the group")

	// ErrLastVoter says that a change would leave the group without a voter.
	ErrLastVoter = errors.New("change would leave the group without a voter")

	// ErrTransferFailed says that leadership stayed here after a transfer was tried.
	ErrTransferFailed = errors.New("leadership transfer did not happen")

	// ErrLocked says that another process uses the data directory.
	ErrLocked = errors.New("data directory is in use by another process")

	// ErrNoData says that a directory is not the data directory of a node.
	ErrNoData = errors.New("no data directory of a node")

	// ErrIdentity says that the data directory must not run: a part of it is missing, is older than
	// another part, belongs to another node or has a newer format. Starting it could break promises
	// that this identity has made.
	ErrIdentity = errors.New("data directory must not run")

	// ErrCorrupt says that stored bytes do not match their checksum or their format.
	ErrCorrupt = errors.New("stored data is corrupt")

	// ErrFailStop wraps every cause given to HostConfig.Fatal: the process must end before it
	// acknowledges anything more.
	ErrFailStop = errors.New("storage can no longer be trusted")

	// errSuperseded refuses a snapshot that is older than the one that is there.
	errSuperseded = errors.New("a newer snapshot was installed meanwhile")
	// ErrDivergent is the cause of a fail-stop whose cure is a restart: the replica's log conflicts
	// with an installed snapshot and is dropped at the next start.
	ErrDivergent = errors.New("log conflicts with the installed snapshot")
)
