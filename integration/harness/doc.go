// Package harness starts the real binary as one to five processes and hurts them.
//
// It owns: building the binary once per test process, data directories and ports of nodes, start, stop, kill -9, SIGSTOP
// and SIGCONT, restart on the same ports, logs per node (kept when the test fails), readiness, digests and
// metrics through the admin API, memory from /proc, a TCP proxy that can cut, stall and delay, and wait functions that say what they waited for.
//
// It must not know: packages of the broker. A node is a process with flags, log events, HTTP and MQTT.
//
// Goroutines: per process one that copies stderr and one that waits for the exit, per proxied connection two. Stop,
// Kill and Close join them; a test's cleanup ends whatever the test left running.
//
// Locks: Node.mu and Proxy.mu are leaves; neither is held across I/O, a signal or a wait.
package harness
