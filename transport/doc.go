// Package transport owns the bytes between processes up to the point where
// somebody else's protocol begins: listeners, the two multiplexed ports, TLS,
// WebSocket, preambles, and one stream layer per Raft group.
//
// There are two ports.
//
// The cluster port ([ClusterPort]) is spoken by nodes only. Every connection
// begins with a preamble (preamble.go) that names the kind of stream, the Raft
// group, the cluster, and both nodes, and is answered before anything else is
// sent: a byte from a stranger or from another cluster never reaches raft
// (guard G7, I31). With TLS both sides prove with a certificate that they are
// the node of this cluster that the preamble says (certificate.go).
//
// The client port ([ClientPort]) tells MQTT from HTTP by the first byte. HTTP
// is there for WebSocket only. What [ClientPort.Accept] returns is always a
// stream of MQTT bytes.
//
// # What it must not know
//
// The semantics of MQTT, of Raft, and of peer frames.
//
// # The way of an accepted connection
//
//	root accept loop        keeps the connect rate, accepts, tracks, waits for a
//	                        pending place (intake.go, admission.go)
//	  prepare goroutine     PROXY header (proxy_header.go), TLS handshake
//	    cmux                first bytes, under the handshake deadline (mux.go)
//	      cluster: preamble goroutine, then GroupLayer.Accept or AcceptPeer
//	      client:  ClientPort.Accept, or http.Server, WebSocket upgrade, Accept
//
// Everything before the last step is bounded by one deadline per connection,
// counted from its accept, by the bytes that are read of it, and by the pending
// places: while all are taken, whoever keeps the node waiting longest makes room.
//
// # Goroutines
//
// Per port: one root accept loop, cmux's Serve, one loop per matched listener,
// http.Server's loop on a client port, and one that looks at its certificates. Per connection that is not handed over
// yet: one (at times two, while cmux hands over). Per handed over connection:
// none. Close ends and joins all of them; it closes every tracked connection,
// handed over or not.
//
// # Locks
//
// All mutexes are leaves: they guard maps and flags, and none is held across
// I/O, a channel operation that can block, or a call out of the package.
package transport
