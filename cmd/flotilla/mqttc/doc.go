// Package mqttc is a small MQTT client over package transport/mqtt, for the
// commands pub, sub and bench, and for tests that must see and do what no
// polite client shows: packet ids, DUP flags, session present, late or missing
// acknowledgements, packets of their own making.
//
//	s := mqttc.NewSession()
//	c, err := mqttc.Dial(ctx, mqttc.Options{URL: url, ClientID: "a", Session: s, OnMessage: onMessage})
//	_, err = c.Subscribe(ctx, mqtt.SubscribeFilter{Filter: "a/#", QoS: 1})
//	pid, err := c.Send(ctx, &mqtt.Publish{Topic: []byte("a/b"), QoS: 1}, token) // pipelined, see OnAck
//	ack, err := c.Publish(ctx, &mqtt.Publish{Topic: []byte("a/b"), QoS: 2})     // waits
//	c.Close()                                                                    // as a crash does
//	c, err = mqttc.Dial(ctx, mqttc.Options{..., Session: s})
//	n, err := c.Resend(ctx)                                                      // what was in flight, DUP set
//
// # What it owns
//
// One connection, the client's half of a session (Session: packet ids,
// publishes in flight, QoS 2 packet ids received), coalesced writes.
//
// # What it must not know
//
// Brokers, clusters, the command line. It does not reconnect: the caller does.
//
// # Goroutines
//
// Two per Client: a reader, which runs all callbacks, and a writer. Both end
// when the connection does, and Close joins them. A callback must not call
// Close, Publish, Subscribe, Unsubscribe, Ping or a Send that may have to wait:
// the answers come through the goroutine that it holds up. It may call Abort,
// Ack and Write.
//
// # Lock order
//
// One lock, Session.mu: it guards the session and the output buffer of the
// client that has the session. It is not held across I/O or a callback.
package mqttc
