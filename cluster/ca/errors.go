package ca

import "errors"

var (
	// ErrInvalid means that what was asked for makes no sense: a node id, a cluster id, a lifetime, a signing request.
	ErrInvalid = errors.New("ca: invalid")
	// ErrDamaged means that certificate and key of an authority are not what this package has made.
	ErrDamaged = errors.New("ca: not the authority of a cluster")
	// ErrExists means that a file is there that would be overwritten.
	ErrExists = errors.New("ca: exists already")
)
