// Command flotilla is the one program of the project: it starts nodes, is the
// client of their HTTP API, and brings MQTT clients for trying out and for
// measuring.
//
// # What it owns
//
// The command tree, flags and their order, output, exit codes, signals, the
// logger's form. One function starts a node from a Config: cluster.Start.
//
// # What it must not know
//
// Raft, sessions, state machines. Guards live in the server, not here.
//
// # Goroutines
//
// Commands run on the goroutine of main. start adds one for the admin API and
// one that listens for signals; dev adds two per child; pub, sub and bench add
// those of their clients. All are joined before run returns, but for a second
// signal, which ends the process at once.
//
// # Lock order
//
// Only leaves: the log limiter's and the output's own locks.
package main
