// Package mqtt is the wire codec of MQTT 3.1, 3.1.1 and 5.0, for both directions.
//
// It owns the packets, their properties, the reason codes and what each packet
// may carry, the UTF-8 and integer rules, the limits on what a peer may send,
// and the classification of violations ([Error]). It must not know sessions,
// topics beyond their spelling, sockets, clocks or loggers: a [Reader] takes an
// io.Reader, and everything that is sent is appended to a byte slice.
//
// A server reads and answers like this:
//
//	r := mqtt.NewReader(conn, limits)       // limits: one mqtt.DefaultLimits() per server
//	for {
//		p, err := r.Next()
//		if err != nil {
//			var e *mqtt.Error
//			if errors.As(err, &e) && r.Version() == mqtt.V5 {
//				out, _ = mqtt.Append(out[:0], mqtt.V5, &mqtt.Disconnect{Code: e.Code})
//				conn.Write(out)
//			}
//			return err
//		}
//		switch p := p.(type) {
//		case *mqtt.Publish:                 // p and its slices live until the next Next
//			handle(p.Topic, p.Payload)
//			out = mqtt.AppendAck(out, r.Version(), mqtt.TypePuback, p.PacketID, mqtt.Success)
//		case *mqtt.Pingreq:
//			out, _ = mqtt.Append(out, r.Version(), &mqtt.Pingresp{})
//		}
//		if !r.Ready() {                     // the next Next may block: flush first
//			conn.Write(out)
//			out = out[:0]
//		}
//	}
//
// A client calls [Reader.SetVersion] before the first Next.
//
// Spec tags name a normative statement with its version: "v5:MQTT-3.1.2-22",
// "v311:MQTT-3.1.2-24", and "v31:3.1" for a section of MQTT 3.1, which has no
// numbered statements. A wire rule stands as a tag beside the code that holds
// it, in Error.Tag, and in the name of the test that proves it.
//
// Goroutines: none. Locks: none. A Reader belongs to one goroutine; everything
// else is a pure function. A BufferPool may be shared.
package mqtt
