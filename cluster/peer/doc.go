// Package peer owns the frames between nodes: one ordered, multiplexed link
// per pair of nodes and direction of dialling.
//
// A node sends to another through its outgoing link: one connection, dialled
// when there is something to send, redialled with a backoff. Requests and
// one-way frames go out on it, replies come back on it. What the other node
// wants to send goes through a link of its own.
//
// # Promises
//
//   - Frames of one link arrive in the order in which Send and Call took them,
//     one at a time, also across a reconnect: the connection that a newer one
//     replaces is at its end before a frame of the newer one is handled.
//   - Nothing is sent twice. When a link breaks, what was queued or under way
//     is dropped: calls fail with ErrLinkDown exactly once, one-way frames are
//     counted. Who needs more numbers his frames (lanes do).
//   - A frame on an idle link leaves at once; frames that come while one is
//     being written leave together, in one write.
//   - Queues are bounded: Send and Call fail with ErrBusy when the queue to a
//     node is full; a server stops reading requests while its replies queue up.
//   - A payload's declared length is checked before anything is allocated.
//
// # What it must not know
//
// What the payloads mean, sessions, Raft, and how nodes are found: the Dialer
// comes from package cluster, and its connections are past their preamble.
//
// # Goroutines
//
// Per outgoing link one (Links.run: dials, then writes) and, while connected,
// one that reads. Per incoming connection the caller of Serve, which reads and
// calls handlers, and one that writes. Close ends and joins all of them.
// A call that is refused at once (queue full, closed) gets its done from a
// goroutine of its own, which does nothing else.
//
// # Locks
//
// Links.mu, then link.mu, then outbox.mu. None is held during I/O, a blocking
// channel operation, a handler or a callback.
package peer
