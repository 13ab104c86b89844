package conformance

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/cluster"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt/mqtttest"
)

func TestDupIsNotHandedOn_v5_MQTT_3_3_1_3_MQTT_3_3_1_1(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]func(*setup){"transient": nil, "durable": {durable}} {
		topic := own("d")
		sub, pub := connect(t, v5, opts...), connect(t, v5)
		sub.subscribe(topic, 2)
		pub.send("3A [('%s') 0001 [] '1']", topic)
		expect[*mqtt.Puback](pub)
		pub.send("3C [('%s') 0002 [] '2']", topic)
		expect[*mqtt.Pubrec](pub)
		pub.send("62 [0002]")
		expect[*mqtt.Pubcomp](pub)
		for range 2 {
			if m := sub.message(); m.Dup {
				t.Errorf("%s: DUP came through with %s", name, m.Payload)
			}
		}
	}
}

func TestResponseInformation_v5_MQTT_3_1_2_28(t *testing.T) {
	t.Parallel()
	if c := connect(t, v5); c.ack.ResponseInfo != "" {
		t.Errorf("response information %q for a client that did not ask", c.ack.ResponseInfo)
	}
	c := dial(t, v5)
	c.send("10 [('MQTT') 05 02 0000 [19 00] ('%s')]", own("c"))
	if a := expect[*mqtt.Connack](c); a.ResponseInfo != "" {
		t.Errorf("response information %q for a client that wants none", a.ResponseInfo)
	}
	one := connect(t, v5, func(s *setup) { s.RequestResponseInfo = true })
	two := connect(t, v5, func(s *setup) { s.RequestResponseInfo = true })
	if one.ack.ResponseInfo == "" || one.ack.ResponseInfo == two.ack.ResponseInfo {
		t.Errorf("response information %q and %q", one.ack.ResponseInfo, two.ack.ResponseInfo)
	}
}

// TestRequestAndResponse: section 4.10, from the response information to the correlated answer.
func TestRequestAndResponse(t *testing.T) {
	t.Parallel()
	topic := own("request")
	asks, answers := connect(t, v5, func(s *setup) { s.RequestResponseInfo = true }), connect(t, v5)
	back := asks.ack.ResponseInfo + "answer"
	asks.subscribe(back, 1)
	answers.subscribe(topic, 1)
	props, err := (&mqtt.MessageProps{ResponseTopic: back, Correlation: []byte{0, 7}}).Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	asks.publish(topic, "question", 1, func(p *mqtt.Publish) { p.Props = props })
	got, err := mqtt.ParseMessageProps(answers.message().Props)
	if err != nil {
		t.Fatal(err)
	}
	props, err = (&mqtt.MessageProps{Correlation: got.Correlation}).Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	answers.publish(got.ResponseTopic, "answer", 1, func(p *mqtt.Publish) { p.Props = props })
	if m := asks.message(); string(m.Payload) != "answer" || string(m.Props) != string(props) {
		t.Errorf("got %q with % X", m.Payload, m.Props)
	}
}

// TestPayloadFormat: a payload that is said to be text and is not gets 0x99.
func TestPayloadFormat(t *testing.T) {
	t.Parallel()
	topic := own("f")
	sub, c := watch(t, topic, 2), connect(t, v5)
	c.send("32 [('%s') 0001 [01 01] FF]", topic)
	if a := expect[*mqtt.Puback](c); a.Code != mqtt.PayloadFormatInvalid {
		t.Errorf("PUBACK %s", a.Code)
	}
	c.send("34 [('%s') 0002 [01 01] EDA080]", topic)
	if a := expect[*mqtt.Pubrec](c); a.Code != mqtt.PayloadFormatInvalid {
		t.Errorf("PUBREC %s", a.Code)
	}
	c.send("32 [('%s') 0003 [01 00] FF] 32 [('%s') 0004 [01 01] 'text']", topic, topic)
	for range 2 {
		if a := expect[*mqtt.Puback](c); a.Code != mqtt.Success {
			t.Errorf("PUBACK %s", a.Code)
		}
	}
	sub.payloads("\xFF", "text")
	sub.quiet()
	brokenConnect(t, mqtt.PayloadFormatInvalid, "10 [('MQTT') 05 06 0000 [] ('a') [01 01] ('w') (FF)]")
}

// stopping stops a broker in good order and says when that is done.
func stopping(n *cluster.Node) <-chan error {
	ended := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		ended <- n.Stop(ctx)
	}()
	return ended
}

// TestServerShutsDown: every client is told, and wills of clients that are sent away are published as for any other end.
func TestServerShutsDown_v5_MQTT_3_14_2_1_MQTT_3_14_4_2(t *testing.T) {
	t.Parallel()
	n := newBroker(t, func(*cluster.Config) {})
	c := connect(t, v5, on(n))
	ended := stopping(n)
	d := expect[*mqtt.Disconnect](c)
	if d.Code != mqtt.ServerShuttingDown && d.Code != mqtt.AdministrativeAction && d.Code != mqtt.UseAnotherServer {
		t.Errorf("DISCONNECT %s", d.Code)
	}
	c.expectClosed()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestServerReference: clients that are sent away are told where to.
func TestServerReference(t *testing.T) {
	t.Parallel()
	n := newBroker(t, func(c *cluster.Config) { c.Session.Redirect = func() string { return "other.example:1883" } })
	c := connect(t, v5, on(n))
	ended := stopping(n)
	if d := expect[*mqtt.Disconnect](c); d.ServerReference != "other.example:1883" {
		t.Errorf("DISCONNECT %s, reference %q", d.Code, d.ServerReference)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestSwitchedOffFeatures: CONNACK says what is not there, and using it is answered with the code for that.
func TestSwitchedOffFeatures(t *testing.T) {
	t.Parallel()
	n := newBroker(t, func(c *cluster.Config) {
		c.Session.SharedAvailable, c.Session.WildcardAvailable, c.Session.SubscriptionIDsAvailable = false, false, false
	})
	c := connect(t, v5, on(n))
	if !c.ack.SharedUnavailable || !c.ack.WildcardUnavailable || !c.ack.SubscriptionIDsUnavailable {
		t.Errorf("CONNACK %+v", c.ack)
	}
	for wire, want := range map[string]mqtt.ReasonCode{
		"82 [0001 [] ('$share/g/a') 00]": mqtt.SharedSubscriptionsNotSupported,
		"82 [0001 [] ('a/+') 00]":        mqtt.WildcardSubscriptionsNotSupported,
		"82 [0001 [0B 01] ('a') 00]":     mqtt.SubscriptionIdentifiersNotSupported,
	} {
		c := connect(t, v5, on(n))
		c.send("%s", wire)
		switch a := c.next().(type) {
		case *mqtt.Suback:
			if a.Codes[0] != want {
				t.Errorf("%s: SUBACK %s, want %s", wire, a.Codes[0], want)
			}
		case *mqtt.Disconnect:
			if a.Code != want {
				t.Errorf("%s: DISCONNECT %s, want %s", wire, a.Code, want)
			}
		}
	}
	if c := connect(t, v5); c.ack.SharedUnavailable || c.ack.WildcardUnavailable || c.ack.SubscriptionIDsUnavailable || c.ack.RetainUnavailable {
		t.Errorf("CONNACK of a broker that has all: %+v", c.ack)
	}
}

// TestUserPropertiesEverywhere: they are accepted wherever a client may send them, in any number up to the limit.
func TestUserPropertiesEverywhere(t *testing.T) {
	t.Parallel()
	many := strings.Repeat("26 ('k') ('v')", 30)
	c := dial(t, v5)
	c.send("10 [('MQTT') 05 06 0000 [%[2]s] ('%[1]s') [%[2]s] ('w') ('x')]", own("c"), many)
	if a := expect[*mqtt.Connack](c); a.Code != mqtt.Success {
		t.Fatalf("CONNACK %s", a.Code)
	}
	topic := own("u")
	c.send("82 [0001 [%[2]s] ('%[1]s') 02] A2 [0002 [%[2]s] ('other')] 34 [('%[1]s') 0003 [%[2]s] 'x'] 62 [0003 00 [%[2]s]]", topic, many)
	seen := map[mqtt.Type]int{}
	var m *mqtt.Publish
	for len(seen) < 5 {
		p := c.next()
		seen[p.Type()]++
		if pub, ok := p.(*mqtt.Publish); ok {
			m = pub
		}
	}
	if want := mqtttest.Wire(many); string(m.Props) != string(want) {
		t.Errorf("%d bytes of properties, want %d", len(m.Props), len(want))
	}
	c.send("50 [%04X 00 [%s]]", m.PacketID, many)
	expect[*mqtt.Pubrel](c)
	c.send("70 [%04X 00 [%s]] E0 [04 [%s]]", m.PacketID, many, many)
	c.expectClosed()
}

// TestSlowPackets: a packet that never ends is ended by the keep-alive, and nobody else notices.
func TestSlowPackets_v5_MQTT_3_1_2_22(t *testing.T) {
	t.Parallel()
	c := connect(t, v5, func(s *setup) { s.KeepAlive = 1 })
	c.write([]byte{0x30, 0x7F, 0, 1, 'a'}) // and no more
	begin := time.Now()
	c.expectDisconnect(mqtt.KeepAliveTimeout)
	if took := time.Since(begin); took > 1500*time.Millisecond+patience {
		t.Errorf("that took %v", took)
	}
}

// TestWriteAndClose: what came before the end of a connection counts, whatever the client did not wait for.
func TestWriteAndClose(t *testing.T) {
	t.Parallel()
	topic := own("c")
	sub := watch(t, topic, 1)
	for i := range 5 {
		c := dial(t, v5)
		c.send("10 [('MQTT') 05 06 0000 [] ('%[2]s') [] ('%[1]s') ('will')] 32 [('%[1]s') 0001 [] 'x%[3]d'] E0 []", topic, own("c"), i)
		c.abort()
	}
	got := map[string]bool{}
	for len(got) < 5 {
		m := sub.message()
		if string(m.Payload) == "will" {
			t.Error("the will was published after DISCONNECT")
		}
		got[string(m.Payload)] = true
	}
	sub.quiet()
}
