// Package conformance holds the broker against the numbered statements of MQTT 3.1.1 and 5.0.
//
// It owns: the list of the statements (statements/*.txt), TRACEABILITY.md at the root (which statement is proved by which
// test, or why by none), and tests that speak raw packets with a broker in this process. It must not know how the broker
// does what it does: tests see nothing but bytes on a connection.
//
// # How a test proves a statement
//
// By its name, in any package of the repository: TestXxx_v5_MQTT_3_1_2_24 proves v5:MQTT-3.1.2-24, and
// TestXxx_v5_MQTT_3_1_2_24_v311_MQTT_3_1_2_19_MQTT_3_1_2_20 proves three: a version holds until the next one. Names of
// subtests do not count. A test that begins with knownBug(t, "...") proves nothing, and the table says so.
//
//	make trace    # writes TRACEABILITY.md again
//
// TestTraceabilityTableIsCurrent fails when the file is stale, when a test names a statement that does not exist, when
// a statement that binds a server has neither a test nor a reason, and when it has both.
//
// # How to write a test here
//
// Every test runs in parallel on one broker (or on the one cluster of three), so client ids and topics are its own:
//
//		func TestDupIsNotHandedOn_v5_MQTT_3_3_1_3(t *testing.T) {
//			t.Parallel()
//			sub, pub := connect(t, v5), connect(t, v5)       // CONNECT, CONNACK 0x00, an own client id
//			topic := sub.topic("a")                          // a topic of this test only
//			sub.subscribe(topic, 1)                          // SUBSCRIBE, SUBACK
//			pub.send("3A [(", topic, ") 0001 [] 'x']")       // bytes, in the notation of mqtttest.Wire
//			expect[*mqtt.Puback](pub)                        // the next packet, of that type
//			if m := expect[*mqtt.Publish](sub); m.Dup {
//				t.Error("DUP came through")
//			}
//		}
//
//	  - connect takes options: connect(t, v311, as("id"), func(c *mqtt.Connect) { c.CleanStart = false }); on(n) connects to
//	    another broker; dial only opens the connection, handshake sends any CONNECT and returns the CONNACK.
//	  - put sends packets of the codec, send anything, publish and subscribe do their whole exchange.
//	  - expect returns the next packet; expectDisconnect wants that code and then the end; expectEnd wants the end, whatever
//	    came before; quiet shows by PINGREQ that nothing else came.
//	  - broker(t) is the shared broker, trio(t) the three nodes of the shared cluster, newBroker starts one with a
//	    configuration of its own.
//
// Goroutines: those of the brokers, which TestMain stops. Locks: none.
package conformance
