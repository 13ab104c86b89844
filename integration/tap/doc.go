// Package tap turns what goes over an MQTT client's connection into the events of a history.
//
// It owns: a net.Conn that reads along in both directions, for any client library, and per client id the state that outlives
// a connection (packet ids of publishes and deliveries that are not acknowledged). The recorded times are those of the wire.
//
// It must not know: the broker's packages. Its frame reader is its own, because what is to be proved includes the codec.
//
// Goroutines: none. Locks: Conn.writing, held over a Write so that the history has the order of the wire, then Client.mu, a leaf
// that is held while bytes are looked at and never across I/O.
package tap
