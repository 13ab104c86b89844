// Package sessiontest is what tests of package session, and of what is built on
// it, need: a backend with real inbox semantics in memory ([Cluster]), a
// buffered in-memory connection ([Pipe]) and a scripted client ([Client]).
//
// It must not be imported by production code. It works inside testing/synctest:
// nothing sleeps but by timers, no lock is held across a blocking operation.
//
// Goroutines: none of its own but the timers of wills and expiries, which
// Cluster.Close stops. Locks: Cluster.mu is taken before nothing else; servers
// are called without it.
package sessiontest
