// Package bench is the load generator: it publishes messages that say who sent
// them, as which one, and when, and proves at the other end what came, what
// did not, what came twice and what came out of order.
//
// # What it owns
//
// The payload header, the plan of who publishes and subscribes where, the
// counting of losses, latency histograms, the report.
//
// # What it must not know
//
// Flags, terminals, exit codes. It writes progress lines to a function.
//
// # Goroutines
//
// One per publisher, plus two per connection (see package mqttc), plus one per
// connection that reconnects it, plus one for progress. Run joins all of them.
//
// # Lock order
//
// tracker.mu is taken alone. Histograms belong to one connection's reader and
// are merged after it has ended.
package bench
