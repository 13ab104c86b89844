package mqtt_test

import (
	"strings"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// gen draws valid packets. Optional strings and data are never empty where the
// empty one is sent as absent, so that a round trip is an identity.
type gen struct {
	t *rapid.T
	v mqtt.Version
}

func (g gen) rune(label string) rune {
	return rapid.OneOf(
		rapid.RuneFrom([]rune("abcXYZ019 /$-_")),
		rapid.RuneFrom([]rune{1, 0x1F, 0x7F, 0x80, 0x9F, 0xE9, 0x7FF, 0x800, 0xD7FF, 0xE000, 0xFEFF, 0xFFFF, 0x10000, utf8.MaxRune}),
		rapid.Rune().Filter(func(r rune) bool { return r != 0 && utf8.ValidRune(r) }),
	).Draw(g.t, label)
}

func (g gen) text(label string, minRunes int) string {
	var s []rune
	for range rapid.IntRange(minRunes, 24).Draw(g.t, label+" length") {
		s = append(s, g.rune(label))
	}
	return string(s)
}

func (g gen) optText(label string) string {
	if g.bool(label + " present") {
		return g.text(label, 1)
	}
	return ""
}

func (g gen) topic(label string) string {
	return strings.NewReplacer("+", "/", "#", "/").Replace(g.text(label, 1))
}

func (g gen) bool(label string) bool  { return rapid.Bool().Draw(g.t, label) }
func (g gen) u16(label string) uint16 { return rapid.Uint16().Draw(g.t, label) }
func (g gen) u32(label string) uint32 { return rapid.Uint32().Draw(g.t, label) }
func (g gen) id(label string) uint16  { return rapid.Uint16Range(1, 65535).Draw(g.t, label) }
func (g gen) qos(label string) byte   { return rapid.ByteRange(0, 2).Draw(g.t, label) }

func (g gen) data(label string, least int) []byte {
	return rapid.SliceOfN(rapid.Byte(), least, 200).Draw(g.t, label)
}

func (g gen) users() []mqtt.UserProperty {
	var out []mqtt.UserProperty
	for range rapid.IntRange(0, 3).Draw(g.t, "user properties") {
		out = append(out, mqtt.UserProperty{Key: g.text("key", 0), Value: g.text("value", 0)})
	}
	return out
}

func (g gen) code(t mqtt.Type) mqtt.ReasonCode {
	var codes []mqtt.ReasonCode
	for c := range 256 {
		if code := mqtt.ReasonCode(c); code.ValidIn(t) && (g.v == mqtt.V5 || !code.Failed()) {
			codes = append(codes, code)
		}
	}
	if g.v != mqtt.V5 {
		return mqtt.Success
	}
	return rapid.SampledFrom(codes).Draw(g.t, "code")
}

// props draws what travels with a message, in any order.
func (g gen) props() []byte {
	if g.v != mqtt.V5 {
		return nil
	}
	m := mqtt.MessageProps{
		PayloadIsUTF8: g.bool("payload format"),
		ContentType:   g.optText("content type"),
		UserProperties: []mqtt.UserProperty{
			{Key: g.text("key", 0), Value: g.text("value", 0)},
			{Key: g.text("key", 0), Value: g.text("value", 0)},
		},
	}
	if g.bool("response topic present") {
		m.ResponseTopic = g.topic("response topic")
	}
	if g.bool("correlation data present") {
		m.Correlation = g.data("correlation data", 1)
	}
	b, err := m.Append(nil)
	if err != nil {
		g.t.Fatal(err)
	}
	var parts [][]byte
	rest := b
	err = mqtt.ReadProps(b, func(p mqtt.Property) bool {
		n := 3 + len(p.Value)
		switch p.ID {
		case mqtt.PropPayloadFormat:
			n = 2
		case mqtt.PropUser:
			n = 5 + len(p.Key) + len(p.Value)
		}
		parts, rest = append(parts, rest[:n]), rest[n:]
		return true
	})
	if err != nil || len(rest) > 0 {
		g.t.Fatal(err, rest)
	}
	var out []byte
	for _, part := range rapid.Permutation(parts).Draw(g.t, "order") {
		out = append(out, part...)
	}
	return out
}

func (g gen) packet() mqtt.Packet {
	types := []mqtt.Type{1, 2, 3, 3, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14}
	if g.v == mqtt.V5 {
		types = append(types, mqtt.TypeAuth)
	}
	return g.packetOf(rapid.SampledFrom(types).Draw(g.t, "type"))
}

func (g gen) packetOf(t mqtt.Type) mqtt.Packet {
	switch t {
	case mqtt.TypeConnect:
		return g.connect()
	case mqtt.TypeConnack:
		return g.connack()
	case mqtt.TypePublish:
		return g.publish()
	case mqtt.TypePuback:
		return g.ack(t)
	case mqtt.TypePubrec:
		return (*mqtt.Pubrec)(g.ack(t))
	case mqtt.TypePubrel:
		return (*mqtt.Pubrel)(g.ack(t))
	case mqtt.TypePubcomp:
		return (*mqtt.Pubcomp)(g.ack(t))
	case mqtt.TypeSubscribe:
		return g.subscribe()
	case mqtt.TypeSuback:
		return g.suback()
	case mqtt.TypeUnsubscribe:
		return g.unsubscribe()
	case mqtt.TypeUnsuback:
		return g.unsuback()
	case mqtt.TypePingreq:
		return &mqtt.Pingreq{}
	case mqtt.TypePingresp:
		return &mqtt.Pingresp{}
	case mqtt.TypeDisconnect:
		return g.disconnect()
	}
	return g.auth()
}

func (g gen) connect() *mqtt.Connect {
	c := &mqtt.Connect{
		Version: g.v, CleanStart: g.bool("clean start"), KeepAlive: g.u16("keep alive"), ClientID: g.text("client id", 1),
		HasUsername: g.bool("has user name"), ReceiveMaximum: 65535, RequestProblemInfo: true,
	}
	if c.HasUsername {
		c.Username = g.text("user name", 0)
	}
	if c.HasUsername || g.v == mqtt.V5 {
		c.HasPassword = g.bool("has password")
	}
	if c.HasPassword {
		c.Password = g.data("password", 0)
	}
	if g.bool("has will") {
		c.Will = g.will()
	}
	if g.v != mqtt.V5 {
		return c
	}
	if c.HasSessionExpiry = g.bool("has session expiry"); c.HasSessionExpiry {
		c.SessionExpiry = g.u32("session expiry")
	}
	c.ReceiveMaximum = g.id("receive maximum")
	c.TopicAliasMaximum = g.u16("topic alias maximum")
	c.MaximumPacketSize = g.u32("maximum packet size")
	c.RequestResponseInfo = g.bool("request response information")
	c.RequestProblemInfo = g.bool("request problem information")
	c.AuthMethod, c.AuthData = g.authPair()
	c.UserProps = g.users()
	return c
}

func (g gen) authPair() (string, []byte) {
	if !g.bool("has authentication method") {
		return "", nil
	}
	if !g.bool("has authentication data") {
		return g.text("authentication method", 1), nil
	}
	return g.text("authentication method", 1), g.data("authentication data", 1)
}

func (g gen) will() *mqtt.Will {
	w := &mqtt.Will{Topic: g.topic("will topic"), Payload: g.data("will payload", 0), QoS: g.qos("will QoS"), Retain: g.bool("will retain")}
	if g.v == mqtt.V5 {
		w.Delay = g.u32("will delay")
		if w.HasExpiry = g.bool("has will expiry"); w.HasExpiry {
			w.Expiry = g.u32("will expiry")
		}
		w.Props = g.props()
	}
	return w
}

func (g gen) connack() *mqtt.Connack {
	c := &mqtt.Connack{Code: g.code(mqtt.TypeConnack), ReceiveMaximum: 65535}
	if g.v != mqtt.V5 {
		rcs := []mqtt.ReasonCode{mqtt.Success, mqtt.UnsupportedProtocolVersion, mqtt.ClientIdentifierNotValid,
			mqtt.ServerUnavailable, mqtt.BadUserNameOrPassword, mqtt.NotAuthorized}
		c.Code = rapid.SampledFrom(rcs).Draw(g.t, "return code")
	}
	if c.Code == mqtt.Success && g.v != mqtt.V31 {
		c.SessionPresent = g.bool("session present")
	}
	if g.v != mqtt.V5 {
		return c
	}
	if c.HasSessionExpiry = g.bool("has session expiry"); c.HasSessionExpiry {
		c.SessionExpiry = g.u32("session expiry")
	}
	if c.HasMaximumQoS = g.bool("has maximum QoS"); c.HasMaximumQoS {
		c.MaximumQoS = rapid.ByteRange(0, 1).Draw(g.t, "maximum QoS")
	}
	if c.HasServerKeepAlive = g.bool("has keep alive"); c.HasServerKeepAlive {
		c.ServerKeepAlive = g.u16("keep alive")
	}
	c.ReceiveMaximum = g.id("receive maximum")
	c.RetainUnavailable = g.bool("retain unavailable")
	c.MaximumPacketSize = g.u32("maximum packet size")
	c.AssignedClientID = g.optText("assigned client id")
	c.TopicAliasMaximum = g.u16("topic alias maximum")
	c.ReasonString = g.optText("reason string")
	c.UserProps = g.users()
	c.WildcardUnavailable = g.bool("wildcards unavailable")
	c.SubscriptionIDsUnavailable = g.bool("subscription ids unavailable")
	c.SharedUnavailable = g.bool("shares unavailable")
	c.ResponseInfo = g.optText("response information")
	c.ServerReference = g.optText("server reference")
	c.AuthMethod, c.AuthData = g.authPair()
	return c
}

func (g gen) publish() *mqtt.Publish {
	p := &mqtt.Publish{Retain: g.bool("retain"), QoS: g.qos("QoS"), Topic: []byte(g.topic("topic")), Payload: g.data("payload", 0)}
	if p.QoS > 0 {
		p.PacketID, p.Dup = g.id("packet id"), g.bool("dup")
	}
	if g.v != mqtt.V5 {
		return p
	}
	if g.bool("has alias") {
		p.TopicAlias = g.id("alias")
		if g.bool("alias only") {
			p.Topic = nil
		}
	}
	if p.HasExpiry = g.bool("has expiry"); p.HasExpiry {
		p.Expiry = g.u32("expiry")
	}
	p.SubscriptionIDs = rapid.SliceOfN(rapid.Uint32Range(1, mqtt.MaxRemaining), 0, 3).Draw(g.t, "subscription ids")
	p.Props = g.props()
	return p
}

func (g gen) ack(t mqtt.Type) *mqtt.Puback {
	p := &mqtt.Puback{PacketID: g.id("packet id"), Code: g.code(t)}
	if g.v == mqtt.V5 {
		p.ReasonString, p.UserProps = g.optText("reason string"), g.users()
	}
	return p
}

func (g gen) subscribe() *mqtt.Subscribe {
	s := &mqtt.Subscribe{PacketID: g.id("packet id")}
	if g.v == mqtt.V5 {
		s.SubscriptionID = rapid.Uint32Range(0, mqtt.MaxRemaining).Draw(g.t, "subscription id")
		s.UserProps = g.users()
	}
	for range rapid.IntRange(1, 5).Draw(g.t, "filters") {
		f := mqtt.SubscribeFilter{Filter: g.text("filter", 1), QoS: g.qos("QoS")}
		if g.v == mqtt.V5 {
			f.NoLocal, f.RetainAsPublished = g.bool("no local"), g.bool("retain as published")
			f.RetainHandling = rapid.ByteRange(0, 2).Draw(g.t, "retain handling")
		}
		s.Filters = append(s.Filters, f)
	}
	return s
}

func (g gen) suback() *mqtt.Suback {
	s := &mqtt.Suback{PacketID: g.id("packet id")}
	for range rapid.IntRange(1, 5).Draw(g.t, "codes") {
		c := g.code(mqtt.TypeSuback)
		if g.v != mqtt.V5 {
			c = rapid.SampledFrom([]mqtt.ReasonCode{0, 1, 2, 0x80}).Draw(g.t, "code")
		}
		s.Codes = append(s.Codes, c)
	}
	if g.v == mqtt.V5 {
		s.ReasonString, s.UserProps = g.optText("reason string"), g.users()
	}
	return s
}

func (g gen) unsubscribe() *mqtt.Unsubscribe {
	u := &mqtt.Unsubscribe{PacketID: g.id("packet id")}
	for range rapid.IntRange(1, 5).Draw(g.t, "filters") {
		u.Filters = append(u.Filters, g.text("filter", 1))
	}
	if g.v == mqtt.V5 {
		u.UserProps = g.users()
	}
	return u
}

func (g gen) unsuback() *mqtt.Unsuback {
	u := &mqtt.Unsuback{PacketID: g.id("packet id")}
	if g.v == mqtt.V5 {
		for range rapid.IntRange(1, 5).Draw(g.t, "codes") {
			u.Codes = append(u.Codes, g.code(mqtt.TypeUnsuback))
		}
		u.ReasonString, u.UserProps = g.optText("reason string"), g.users()
	}
	return u
}

func (g gen) disconnect() *mqtt.Disconnect {
	d := &mqtt.Disconnect{}
	if g.v != mqtt.V5 {
		return d
	}
	d.Code = g.code(mqtt.TypeDisconnect)
	if d.HasSessionExpiry = g.bool("has session expiry"); d.HasSessionExpiry {
		d.SessionExpiry = g.u32("session expiry")
	}
	d.ReasonString, d.ServerReference, d.UserProps = g.optText("reason string"), g.optText("server reference"), g.users()
	return d
}

func (g gen) auth() *mqtt.Auth {
	a := &mqtt.Auth{Code: g.code(mqtt.TypeAuth), AuthMethod: g.text("authentication method", 1), ReasonString: g.optText("reason string"), UserProps: g.users()}
	if g.bool("has authentication data") {
		a.AuthData = g.data("authentication data", 1)
	}
	return a
}

func drawVersion(t *rapid.T) mqtt.Version {
	return rapid.SampledFrom([]mqtt.Version{mqtt.V31, mqtt.V311, mqtt.V5}).Draw(t, "version")
}
