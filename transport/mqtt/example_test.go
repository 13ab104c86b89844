package mqtt_test

import (
	"bytes"
	"fmt"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

func Example() {
	var network bytes.Buffer
	client := func(p mqtt.Packet) {
		if err := mqtt.WritePacket(&network, mqtt.V5, p); err != nil {
			fmt.Println(err)
		}
	}
	props, _ := (&mqtt.MessageProps{ContentType: "text/plain"}).Append(nil)
	client(&mqtt.Connect{ClientID: "c1", CleanStart: true, KeepAlive: 60, RequestProblemInfo: true})
	client(&mqtt.Publish{QoS: 1, PacketID: 7, Topic: []byte("a/b"), Payload: []byte("hello"), Props: props})

	var answer []byte
	r := mqtt.NewReader(&network, mqtt.DefaultLimits())
	for {
		p, err := r.Next()
		if err != nil {
			fmt.Println(err)
			break
		}
		switch p := p.(type) {
		case *mqtt.Connect:
			fmt.Println("client", p.ClientID, "speaks", r.Version())
			answer, _ = mqtt.Append(answer, r.Version(), &mqtt.Connack{TopicAliasMaximum: 32})
		case *mqtt.Publish:
			m, _ := mqtt.ParseMessageProps(p.Props)
			fmt.Printf("%s: %s (%s)\n", p.Topic, p.Payload, m.ContentType)
			answer = mqtt.AppendAck(answer, r.Version(), mqtt.TypePuback, p.PacketID, mqtt.NoMatchingSubscribers)
		}
		if !r.Ready() {
			fmt.Printf("flush % X\n", answer)
			answer = answer[:0]
		}
	}
	// Output:
	// client c1 speaks 5.0
	// a/b: hello (text/plain)
	// flush 20 06 00 00 03 22 00 20 40 03 00 07 10
	// EOF
}
