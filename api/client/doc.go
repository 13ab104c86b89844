// Package client is the Go client of the HTTP admin API, and the home of the
// JSON bodies that the API sends: package api answers with the same structs,
// so that server and client cannot drift apart.
//
// # What it owns
//
// The wire types of /api/v1, problem bodies (RFC 9457) as Go errors, the order
// in which endpoints are tried, and joining the pages of a list.
//
// # What it must not know
//
// The command line, how output is printed, and any package of the broker.
//
// # Goroutines and locks
//
// None of its own: calls run on the caller's goroutine. A Client may be used
// by several goroutines at a time.
package client
