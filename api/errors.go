package api

import "errors"

// A Node reports what went wrong with these, wrapped. Anything else is a 500
// whose text is logged, not shown.
var (
	// ErrNotFound: there is no such thing. 404.
	ErrNotFound = errors.New("not found")
	// ErrInvalid: the request names something that cannot be. 422.
	ErrInvalid = errors.New("invalid")
	// ErrConflict: the thing is not in the state that the request needs. 409.
	ErrConflict = errors.New("conflict")
	// ErrLimitExceeded: refused by a limit. 429.
	ErrLimitExceeded = errors.New("limit exceeded")
	// ErrNodeUnreachable: the node that must answer cannot be reached. 502.
	ErrNodeUnreachable = errors.New("node unreachable")
	// ErrNoLeader: a group that must answer has no leader. 503.
	ErrNoLeader = errors.New("no leader")
	// ErrNotCaughtUp: this node has not restored or not caught up yet. 503.
	ErrNotCaughtUp = errors.New("not caught up")
	// ErrStorageFull: the disk has no room for it. 507.
	ErrStorageFull = errors.New("storage full")
	// ErrNotImplemented: this version does not have it. 501.
	ErrNotImplemented = errors.New("not implemented")
	errPanic          = errors.New("handler panicked")
)
