// Package mqtttest holds the test vectors of the MQTT codec: packets and their
// bytes on the wire, for each version, and bytes that a codec must refuse. It
// is imported by tests only and must not know how the codec works. Goroutines:
// none. Locks: none.
package mqtttest
