package cluster

import "errors"

var (
	// ErrBackupBusy means that another backup is being taken, or the cluster is not quiet enough for one: try again.
	ErrBackupBusy = errors.New("a backup cannot be taken now")
	// ErrConfig means that the configuration cannot be used (exit code 2).
	ErrConfig = errors.New("configuration")
	// ErrIdentity means that this data directory must not run under this
	// configuration: another node id, another cluster, a removed node, a newer
	// format (exit code 9).
	ErrIdentity = errors.New("identity")
	// ErrNoLeader means that a group has no leader that this node can reach.
	ErrNoLeader = errors.New("no leader")
	// ErrUnreachable means that a node that must answer does not.
	ErrUnreachable = errors.New("node unreachable")
	// ErrTooMany means that a limit of this node is reached.
	ErrTooMany = errors.New("limit exceeded")
	// ErrStopped means that the node is stopping.
	ErrStopped = errors.New("node is stopping")
	// ErrLeaseLost means that this node may not route or acknowledge now.
	ErrLeaseLost = errors.New("lease lost")
	// ErrLaneReset means that the outcome of a command is unknown, because the
	// node took a new incarnation while the command was under way.
	ErrLaneReset = errors.New("lane was reset, the outcome is unknown")
)
