// Package transporttest is a network in memory for tests, made for
// testing/synctest: connections with buffers and delivery times, directed
// links that can be cut, healed and delayed, nodes that can be killed or
// lose power.
package transporttest
