// Package api serves the HTTP admin API of a node: /api/v1, health, metrics,
// the OpenAPI document and, for administrators, the profiler.
//
// # What it owns
//
// Paths, query parameters, JSON bodies (declared in api/client, shared with
// the client), problem bodies, the table from errors to HTTP statuses, and the
// gate: who calls, and the table of what each role may.
//
// # What it must not know
//
// Raft, sessions, sockets of clients, the command line. It asks a Node, which
// package cluster implements through an adapter.
//
// # Goroutines
//
// Server.Serve runs net/http's accept loop on the caller's goroutine; net/http
// owns one goroutine per connection. Server.Shutdown ends and joins them.
// Handlers of health never wait for another node.
//
// # Lock order
//
// failures.mu and answers.mu are leaves.
package api
