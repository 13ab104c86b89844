package command

import "errors"

var (
	// ErrMalformed means that bytes are not what this package would have written.
	ErrMalformed = errors.New("malformed command bytes")
	// ErrVersion means that an entry was written by a format that this program does not know.
	ErrVersion = errors.New("unknown entry version")
	// ErrTooMany means that a decoder met more elements than its caller allows.
	ErrTooMany = errors.New("more elements than allowed")
)
