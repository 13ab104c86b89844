package peer

import "errors"

var (
	// ErrLinkDown means that there is no link, or that it broke. Whether the other node has handled the frame is unknown.
	ErrLinkDown = errors.New("peer: link is down")
	// ErrBusy means that the queue to the node is full; nothing was sent.
	ErrBusy = errors.New("peer: queue to this node is full")
	// ErrTooLarge means that a payload exceeds MaxPayload; nothing was sent.
	ErrTooLarge = errors.New("peer: payload too large")
	// ErrClosed means that the links were closed. Calls that fail for it match ErrLinkDown as well.
	ErrClosed = errors.New("peer: closed")
	// ErrUnknownKind means that the other node has no handler for this kind.
	ErrUnknownKind = errors.New("peer: kind is unknown to the other node")
	// ErrProtocol means that the other side broke the rules of the link.
	ErrProtocol = errors.New("peer: protocol violation")
)

// RemoteError is the error that the other node's handler replied with.
type RemoteError struct{ Message string }

func (e *RemoteError) Error() string { return "peer: remote: " + e.Message }
