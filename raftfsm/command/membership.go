package command

// The commands of the control group that concern who may join and what operators asked for.
const (
	KindPutToken     Kind = 70
	KindDropToken    Kind = 71
	KindAdmit        Kind = 72
	KindPutOperation Kind = 73
)

// JoinToken is a permission to join, as the cluster keeps it: never the secret itself.
type JoinToken struct {
	// ID is shown to operators; it tells nothing of the secret.
	ID string
	// Hash is the SHA-256 of the secret.
	Hash []byte
	// ExpiresAt is in unix ms of the group's clock, 0 for never.
	ExpiresAt int64
	// Uses is how many nodes may still join with it.
	Uses uint32
}

// PutToken adds a token. Results: OK, Duplicate (the id or the secret is in use), Invalid.
type PutToken struct {
	Token JoinToken
}

// DropToken takes a token back. Results: OK, NoMatch.
type DropToken struct {
	ID string
}

// Admit makes a node that has never been in the cluster a member of it, in state
// joining. Results: OK; Duplicate (it was admitted before and has not come up
// since: it may try again); Invalid (the id is that of a member, or of one that
// was removed); Denied (the token is unknown, expired or used up).
type Admit struct {
	Node Node
	// TokenHash is the SHA-256 of the secret that the node has shown. Empty: the
	// proposer wants none.
	TokenHash []byte
}

// OperationState says how far an operation has come.
type OperationState uint32

// The states of an operation.
const (
	OperationRunning   OperationState = 1
	OperationDone      OperationState = 2
	OperationFailed    OperationState = 3
	OperationCancelled OperationState = 4
)

// String is the name of the state in the API.
func (s OperationState) String() string {
	switch s {
	case OperationRunning:
		return "running"
	case OperationDone:
		return "done"
	case OperationFailed:
		return "failed"
	case OperationCancelled:
		return "cancelled"
	}
	return "invalid"
}

// Operation is something that an operator asked for and that takes long.
type Operation struct {
	// ID sorts by the time of its beginning.
	ID string
	// Kind is remove, drain, replace or rebalance.
	Kind string
	// Node is the node that it concerns, Other the one that replaces it.
	Node, Other string
	State       OperationState
	// Progress is a sentence for operators; Done of Total steps are behind it.
	Progress    string
	Done, Total uint32
	Error       string
	// StartedAt and UpdatedAt are in unix ms of the proposer's clock.
	StartedAt, UpdatedAt int64
}

// PutOperation adds or replaces an operation. The oldest that have ended are
// forgotten. Results: OK, Invalid; Full if it would be a second one that runs.
type PutOperation struct {
	Operation Operation
}
