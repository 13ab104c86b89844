// Package mqtttest holds the test vectors of the MQTT codec: packets and their
// bytes on the wire, for each version, and bytes that a codec must refuse. It
// is imported by tests only. Goroutines: none. Locks: none.
package mqtttest
