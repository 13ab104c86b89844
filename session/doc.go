// Package session is the broker core of one node: what happens between a
// client's connection and the cluster.
//
// # What it owns
//
//   - the handshake: versions, client ids, authentication, CONNACK;
//   - one Conn per client: a reader, an outbox, a pump;
//   - the flows of QoS 0, 1 and 2 in both directions, their quotas and order;
//   - the trie of the filters of connected sessions, for QoS 0 messages and for
//     sessions that end with their connection, and the local members of shares;
//   - the replay of retained messages to new subscriptions, and its pace;
//   - takeover within the node, keep-alive, slow consumers, draining;
//   - the hooks of authentication and authorisation (session/auth has the built-in ones);
//   - the tables from errors to the codes of each protocol version.
//
// # What it must not know
//
// Raft, shards, other nodes, HTTP. What it needs of them it asks for through
// the interfaces of backend.go, which package cluster implements.
//
// # Goroutines
//
// All are counted in Server.wg and joined by Stop.
//
//   - the reader: one per connection, for its whole life. It decodes, handles
//     and at the end tears down;
//   - the writer: one per connection while its outbox has bytes;
//   - the pump: one per connection while inbox, queue or a replay of retained
//     messages has something that the client's Receive Maximum has room for;
//   - the keep-alive wheel: one per server while a connection has a keep-alive.
//
// # Lock order
//
// Conn.mu, then wheel.mu. Server.mu, the locks of registry, trie and shares are
// leaves, and none of them is held together with Conn.mu. No lock is held across
// a blocking channel operation, a call of the backend, a hook or I/O
// (Authorizer.MayReceive, which must not block, is the exception). Completions
// of the backend may arrive on any goroutine; they take Conn.mu only.
package session
