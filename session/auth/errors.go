package auth

import "errors"

var (
	// ErrUsersFile means that a users file cannot be used. The text names the line.
	ErrUsersFile = errors.New("users file")
	// ErrName means that a name cannot be that of a user.
	ErrName = errors.New("user name")
	// ErrIterations means that an iteration count is out of range.
	ErrIterations = errors.New("iteration count")

	// errExchange means that a SCRAM message is not what the exchange calls
	// for. It goes to the log: the client learns that it is not authorized.
	errExchange = errors.New("scram exchange")
	// errProof means that the client does not know the password.
	errProof = errors.New("scram proof does not fit")
)
