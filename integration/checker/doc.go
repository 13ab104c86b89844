// Package checker records what clients did and saw, and decides whether a broker kept its promises.
//
// It owns: the history (events with one monotonic clock, written as JSON lines), the payload format that ties a delivery
// to one publish, and the rules I1, I2, I3, I4, I6, I7, I8, I10, I13, I14, I15, I16 and I17 over a history in (almost) linear time. A violation names the
// rule and prints the few events that show it.
//
// It must not know: MQTT libraries, processes, the network. The suites translate what their clients do into events.
//
// Goroutines: none. Recorder.mu is the only lock, a leaf.
package checker
