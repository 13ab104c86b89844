// Package router owns the grammar of MQTT topics and topic filters, the
// subscription trie, the mapping of keys to slots, and the route table that
// tells a gateway where a publish has to go.
//
// It knows nothing of connections, sessions, Raft or the network, and does no
// I/O. Two structures carry it:
//
//   - [Trie] maps topic filters to small sets of (key, value). It is the index
//     of the replicated state machines, of the local subscribers of a node and
//     of the route table. It is not safe for concurrent use.
//   - [Table] is the route table of a gateway. It holds one record per (shard,
//     tenant, filter), is fed by Apply and Reset, and answers Match for every
//     publish of the node.
//
// # Goroutines
//
// The package starts none.
//
// # Locks
//
// Only Table has locks: applyMu before mu. applyMu makes changes one after the
// other; mu guards the records. mu is held for at most a few hundred records at
// a time, so that a large change does not stall publishes. A Match that hits
// the result cache takes no lock. No function of a caller runs under a lock.
package router
