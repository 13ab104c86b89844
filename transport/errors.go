package transport

import (
	"errors"
	"fmt"
	"net"
)

var (
	// ErrClosed is returned by operations on a port or layer that was closed. It matches net.ErrClosed.
	ErrClosed = fmt.Errorf("transport: %w", net.ErrClosed)
	// ErrConfig means that a port was opened with a configuration that it refuses.
	ErrConfig = errors.New("transport: invalid configuration")
	// ErrUnknownNode means that Resolve knows no address of a node.
	ErrUnknownNode = errors.New("transport: no address of this node is known")
	// ErrPreamble means that the other side does not speak the cluster port's protocol, or broke its rules.
	ErrPreamble = errors.New("transport: malformed preamble")
	// ErrVersion means that the two nodes have no preamble version in common.
	ErrVersion = errors.New("transport: preamble version not supported")
	// ErrWrongCluster means that the two nodes belong to different clusters.
	ErrWrongCluster = errors.New("transport: other cluster")
	// ErrWrongNode means that the node at this address is not the one that was called, or that the caller claims the called node's own identity.
	ErrWrongNode = errors.New("transport: other node")
	// ErrNotFormed means that the called node is not a member of a cluster yet.
	ErrNotFormed = errors.New("transport: node is not in a cluster yet")
	// ErrRemoved means that the caller was removed from the cluster. It must not come back under this identity.
	ErrRemoved = errors.New("transport: node was removed from the cluster")
	// ErrUnknownGroup means that the called node runs no replica of the Raft group.
	ErrUnknownGroup = errors.New("transport: group is not open on this node")
	// ErrBusy means that the called node has too many connections, or nobody who accepts them.
	ErrBusy = errors.New("transport: too many connections")
	// ErrCertificate means that a certificate does not prove the identity that its bearer claims.
	ErrCertificate = errors.New("transport: certificate does not prove this identity")
	// ErrTLSFiles means that the certificate files of a port cannot be used.
	ErrTLSFiles = errors.New("transport: certificate files")
	// errOverrun ends a client that sends more than is read before CONNECT.
	errOverrun = errors.New("transport: too many bytes before the connection is accepted")
	// errProxyHeader ends a connection of a proxy that breaks the PROXY protocol.
	errProxyHeader = errors.New("transport: PROXY header")
	// ErrRefused means that the called node refused for a reason of its own; see RefusedError.Message.
	ErrRefused = errors.New("transport: refused")
)

// Status is the answer to a preamble. Numbers are on the wire and never change.
type Status byte

// The statuses.
const (
	StatusOK           Status = 1
	StatusVersion      Status = 2
	StatusWrongCluster Status = 3
	StatusWrongNode    Status = 4
	StatusNotFormed    Status = 5
	StatusRemoved      Status = 6
	StatusUnknownGroup Status = 7
	StatusBusy         Status = 8
	StatusCertificate  Status = 9
	StatusRefused      Status = 10
)

// err returns the sentinel of a refusal.
func (s Status) err() error {
	switch s {
	case StatusVersion:
		return ErrVersion
	case StatusWrongCluster:
		return ErrWrongCluster
	case StatusWrongNode:
		return ErrWrongNode
	case StatusNotFormed:
		return ErrNotFormed
	case StatusRemoved:
		return ErrRemoved
	case StatusUnknownGroup:
		return ErrUnknownGroup
	case StatusBusy:
		return ErrBusy
	case StatusCertificate:
		return ErrCertificate
	}
	return ErrRefused
}

func (s Status) String() string {
	switch s {
	case StatusOK:
		return "ok"
	case StatusVersion:
		return "version"
	case StatusWrongCluster:
		return "wrong_cluster"
	case StatusWrongNode:
		return "wrong_node"
	case StatusNotFormed:
		return "not_formed"
	case StatusRemoved:
		return "removed"
	case StatusUnknownGroup:
		return "unknown_group"
	case StatusBusy:
		return "busy"
	case StatusCertificate:
		return "certificate"
	case StatusRefused:
		return "refused"
	}
	return fmt.Sprintf("status_%d", byte(s))
}

// RefusedError is what a dialler gets when the called node answered the
// preamble with a refusal. It unwraps to one of the sentinels above.
type RefusedError struct {
	// Status says why.
	Status Status
	// NodeID and ClusterID are what the called node says it is; both may be empty.
	NodeID, ClusterID string
	// Message is for people.
	Message string
}

func (e *RefusedError) Error() string {
	s := fmt.Sprintf("%v (answered by node %q of cluster %q)", e.Status.err(), e.NodeID, e.ClusterID)
	if e.Message != "" {
		s += ": " + e.Message
	}
	return s
}

// Refused says that the other node is there and wants no such connection.
func (e *RefusedError) Refused() bool { return true }

// Unwrap returns the sentinel that belongs to the status.
func (e *RefusedError) Unwrap() error { return e.Status.err() }

// rejection is an error that names the reason in the metrics.
type rejection struct {
	reason string
	err    error
}

func (r *rejection) Error() string { return r.err.Error() }

func (r *rejection) Unwrap() error { return r.err }
