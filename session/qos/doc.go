// Package qos owns the bookkeeping of QoS 1 and 2 on one connection: packet
// ids, the window of what was sent and is not acknowledged, the order of
// acknowledgements, the ids of inbound QoS 2 publishes, both Receive Maximum
// quotas, and topic aliases.
//
//   - outbound: [Window] (inbox deliveries by sequence, connection-scoped
//     deliveries by [IDs]), [AliasOut].
//   - inbound: [Inbound] (Receive Maximum and the QoS 2 ids), [AckRing]
//     (acknowledgements leave in the order of their packets), [AliasIn].
//
// The outbound quota is no counter beside the truth: what is in flight is
// counted from the entries themselves, so that no path can forget to give back.
// Inbound, an acknowledgement gives back what its publish took, once, and a
// QoS 2 id remembers whether it took something.
//
// It knows nothing of packets beyond their ids, and must not do I/O, read a
// clock or start a goroutine.
//
// # Goroutines and locks
//
// None. No type is safe for concurrent use; the connection that owns it has the
// lock.
package qos
