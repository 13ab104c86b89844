// Package config turns a YAML file, FLOTILLA_* variables and flags into one
// checked Config, and knows where each value came from.
//
// # What it owns
//
// The keys of INTERFACES section 2, their defaults, their units, the order of
// precedence (flag, environment, file, default) and errors that name file,
// line and column.
//
// # What it must not know
//
// The flag library, package cluster, sockets. It reads one file and no other.
//
// # Goroutines and locks
//
// None.
package config
