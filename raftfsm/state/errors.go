package state

import "errors"

var (
	// ErrNotFound is what a Store answers for a key that it does not have.
	ErrNotFound = errors.New("key not found in the state store")
	// ErrStaleEpoch means that the session has another owner by now, or is gone.
	ErrStaleEpoch = errors.New("the session has a newer epoch or has ended")
	// ErrNotYet means that this replica has not applied that epoch yet.
	ErrNotYet = errors.New("this replica has not applied that epoch yet")
	// ErrCorrupt means that the state store holds what this program cannot have written.
	ErrCorrupt = errors.New("corrupt record in the state store")
	// ErrDiverged means that this replica's digest differs from the leader's at the
	// same index (guard G8). The process must end.
	ErrDiverged = errors.New("this replica has diverged from the leader")
	// ErrUnknownKind means that the log holds a command that this program does
	// not know and may not ignore. The process must end.
	ErrUnknownKind = errors.New("unknown command that must not be ignored")
	// ErrNotLoaded means that Apply or WriteBack was called before Load.
	ErrNotLoaded = errors.New("the machine was not loaded")
	// ErrReloaded means that a read met a reload of the machine and should be retried.
	ErrReloaded = errors.New("the machine was reloaded during the read")
)
