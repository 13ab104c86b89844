// Package transporttest is a network in memory for tests, made for
// testing/synctest.
//
// A [Hub] is the network; a [Node] is one process on it and implements
// transport.Network. Between two nodes lie two directed links, each of which
// can be cut, delayed, slowed down, and healed. It behaves like TCP as far as
// tests of a cluster need it:
//
//   - Connections are buffered without a bound: writes never block.
//   - A cut link holds its bytes, and connection attempts, until it heals.
//   - Close delivers what was written before, then the end of the stream.
//   - Kill is the death of a process: the others see a reset, behind the data
//     that was on its way. PowerOff is the death of a machine: silence.
//   - What a dead process still does is void: its Node neither listens nor
//     dials any more. The restarted process takes a new one with Hub.Node.
//
// All waiting is on channels and timers, so a bubble of testing/synctest knows
// when it is idle. Mutexes are leaves and are never held while waiting. The
// package owns no goroutines; deadlines use time.AfterFunc.
package transporttest
