package peer

import (
	"errors"
	"fmt"
)

var (
	// ErrLinkDown means that there is no link, or that it broke. Whether the
	// other node has handled the frame is unknown.
	ErrLinkDown = errors.New("peer: link is down")
	// ErrBusy means that the queue to the node is full; nothing was sent.
	ErrBusy = errors.New("peer: queue to this node is full")
	// ErrTooLarge means that a payload exceeds MaxPayload. If it was that of
	// the request, nothing was sent.
	ErrTooLarge = errors.New("peer: payload too large")
	// ErrClosed means that the links were closed, or the link was dropped with
	// Disconnect. Calls that fail for it match ErrLinkDown as well.
	ErrClosed = errors.New("peer: closed")
	// ErrUnknownKind means that the other node has no handler for this kind.
	ErrUnknownKind = errors.New("peer: kind is unknown to the other node")
	// ErrProtocol means that the other side broke the rules of the link.
	ErrProtocol = errors.New("peer: protocol violation")
	// ErrSuperseded ends Serve when the other node has dialled anew.
	ErrSuperseded = errors.New("peer: replaced by a newer connection")
)

var (
	// errClosedDown is what pending calls get from Close and Disconnect.
	errClosedDown = fmt.Errorf("%w: %w", ErrLinkDown, ErrClosed)
)

// RemoteError is the error that the other node's handler replied with.
type RemoteError struct{ Message string }

func (e *RemoteError) Error() string { return "peer: remote: " + e.Message }
