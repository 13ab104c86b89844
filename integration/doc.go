// Package integration is the proof side of Flotilla: black-box suites against real processes of the binary, and the
// house rules that a test can hold (layering, file and function sizes, presence of doc.go).
//
// It owns: the suites (publish, session, restart, failover, catch-up, backlog, five nodes, errors), package harness (real
// processes, ports, signals, a fault proxy, wait functions), package checker (histories and the rules that they must obey).
//
// It must not know: anything of the broker that a user cannot see. The suites speak MQTT, HTTP and the command line, and
// read log events; the one in-process import is the raw MQTT client of the binary. Production code never imports it.
//
// Goroutines: a process of the harness has one that copies its log and one that waits for its exit; both end with the
// process, and each test ends the processes that it started. Locks are leaves: none is held while another is taken.
package integration
