package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/urfave/cli/v2"

	"github.com/flotilla-mqtt/flotilla/cmd/flotilla/config"
	"github.com/flotilla-mqtt/flotilla/cmd/flotilla/mqttc"
	"github.com/flotilla-mqtt/flotilla/router"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// reconnectPause is how long sub waits before it connects again.
const reconnectPause = 500 * time.Millisecond

func (a *app) subCommand() *cli.Command {
	return &cli.Command{
		Name: "sub", Usage: "subscribe and print messages", Category: categoryMQTT,
		Description: "A lost connection is made again. With --session-expiry and a fixed -i nothing is missed in between.\n\n" +
			"  flotilla sub -t 'plant/#' -q 1 -v\n  flotilla sub -t plant/7 -C 1 -W 5s\n" +
			"  flotilla sub -t 'plant/#' -q 1 -i recorder --session-expiry 1h -o json >> plant.jsonl",
		Flags: mqttFlags(
			&cli.StringSliceFlag{Name: "topic", Aliases: []string{"t"}, Usage: "topic `FILTER` (required); may be repeated"},
			qosFlag(),
			&cli.StringFlag{Name: "id", Aliases: []string{"i"}, Usage: "client `ID`"},
			&cli.IntFlag{Name: "count", Aliases: []string{"C"}, Usage: "end after `COUNT` messages"},
			&cli.StringFlag{Name: "wait", Aliases: []string{"W"}, Usage: "end after this `TIME`; exit 7 if -C is not reached"},
			&cli.StringFlag{Name: "session-expiry", Usage: "keep the session for `TIME` after a disconnect"},
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Value: "text", Usage: "`FORMAT`: text, or json (an object per line)"},
			&cli.BoolFlag{Name: "verbose", Aliases: []string{"v"}, Usage: "print the topic before the payload"},
			&cli.BoolFlag{Name: "no-retained", Usage: "do not ask for retained messages (MQTT 5)"},
		),
		Action: action(0, 0, a.sub),
	}
}

// subRun is a sub in progress. Its fields are the reader's while a client is
// open.
type subRun struct {
	app     *app
	filters []mqtt.SubscribeFilter
	opt     mqttc.Options
	urls    []string
	count   int // 0: no end
	format  string
	verbose bool

	mu      sync.Mutex
	held    map[uint16]bool // under mu: QoS 2 packet ids that were printed and await PUBREL
	printed int
	failed  error         // of printing
	reached chan struct{} // closed when count is reached or printing failed
}

func (a *app) sub(c *cli.Context) error {
	s, patience, err := a.newSub(c)
	if err != nil {
		return err
	}
	ctx := c.Context
	if patience > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, patience)
		defer cancel()
	}
	err = s.run(ctx)
	switch {
	case s.failed != nil:
		return failf(exitFailed, "print: %w", s.failed)
	case err == nil:
		return nil
	case c.Context.Err() != nil:
		return c.Context.Err()
	case ctx.Err() != nil:
		if s.count > 0 {
			return failf(exitTimeout, "%d of %d messages came in %s", s.printed, s.count, patience)
		}
		return nil // -W alone says how long to listen
	default:
		return err
	}
}

func (a *app) newSub(c *cli.Context) (s *subRun, patience time.Duration, err error) {
	s = &subRun{app: a, count: c.Int("count"), format: c.String("output"), verbose: c.Bool("verbose"), reached: make(chan struct{}), held: map[uint16]bool{}}
	if s.urls, err = brokers(c); err != nil {
		return nil, 0, err
	}
	if s.opt, err = mqttOptions(c); err != nil {
		return nil, 0, err
	}
	qos, err := qosOf(c)
	if err != nil {
		return nil, 0, err
	}
	if len(c.StringSlice("topic")) == 0 {
		return nil, 0, &codedError{code: exitUsage, err: errors.New("sub needs a topic filter: -t FILTER"), usage: "flotilla sub"}
	}
	if s.format != "text" && s.format != "json" {
		return nil, 0, usagef("--output %s: use text or json", s.format)
	}
	for _, f := range c.StringSlice("topic") {
		if err := router.CheckFilter(f, 0, 0); err != nil { // the broker may have lower limits
			return nil, 0, usagef("-t %q: %w", f, err)
		}
		sf := mqtt.SubscribeFilter{Filter: f, QoS: qos}
		if c.Bool("no-retained") {
			sf.RetainHandling = 2
		}
		s.filters = append(s.filters, sf)
	}
	if patience, err = timeFlag(c, "wait"); err != nil {
		return nil, 0, err
	}
	expiry, err := seconds(c, "session-expiry")
	if err != nil {
		return nil, 0, err
	}
	if expiry > 0 && c.String("id") == "" {
		return nil, 0, usagef("--session-expiry needs a client id that stays: -i ID")
	}
	s.opt.ClientID, s.opt.SessionExpiry, s.opt.Clean = c.String("id"), expiry, expiry == 0
	s.opt.Session, s.opt.OnMessage, s.opt.OnPacket, s.opt.ManualAck = mqttc.NewSession(), s.onMessage, s.onPacket, true
	return s, patience, nil
}

// timeFlag reads a time; a bare number is seconds.
func timeFlag(c *cli.Context, name string) (time.Duration, error) {
	text := c.String(name)
	if text == "" {
		return 0, nil
	}
	if last := text[len(text)-1]; last >= '0' && last <= '9' && text != "0" {
		text += "s"
	}
	d, err := config.ParseDuration(text)
	if err != nil {
		return 0, usagef("--%s: %w", name, err)
	}
	return d, nil
}

// run connects, subscribes and waits, again and again.
func (s *subRun) run(ctx context.Context) error {
	for first := true; ; first = false {
		err := s.once(ctx)
		if err == nil || ctx.Err() != nil {
			if err == nil {
				return nil
			}
			return ctx.Err()
		}
		var refused *mqttc.RefusedError
		var coded *codedError
		if first && !errors.Is(err, mqttc.ErrLost) || errors.As(err, &refused) || errors.As(err, &coded) {
			return err
		}
		fmt.Fprintf(s.app.errOut, "flotilla: %s: connecting again\n", err)
		t := time.NewTimer(reconnectPause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
		}
	}
}

// once lives for one connection. It returns nil when the count is reached.
func (s *subRun) once(ctx context.Context) error {
	c, err := dialFirst(ctx, s.urls, s.opt)
	if err != nil {
		return err
	}
	if !c.SessionPresent() {
		s.forget()
		codes, err := c.Subscribe(ctx, s.filters...)
		if err != nil {
			_ = c.Close() // err says more
			return err
		}
		for i, code := range codes {
			if code.Failed() {
				_ = c.Close()
				return failf(exitFailed, "the broker refused the filter %s: %s (0x%02x)", s.filters[i].Filter, code, byte(code))
			}
		}
	}
	select {
	case <-s.reached:
		return s.leave(c)
	case <-ctx.Done():
		_ = s.leave(c)
		return ctx.Err()
	case <-c.Done():
		return c.Err()
	}
}

// settleTime is how long sub waits for the end of QoS 2 handshakes.
const settleTime = 2 * time.Second

// leave disconnects after the last message was acknowledged.
func (s *subRun) leave(c *mqttc.Client) error {
	ctx, cancel := context.WithTimeout(context.Background(), mqttDialTimeout)
	defer cancel()
	s.settle(ctx, c)
	if err := c.Ping(ctx); err == nil { // the acknowledgements are on their way then
		_ = c.Disconnect(ctx, mqtt.Success) // all was printed
	}
	return c.Close()
}

// settle waits until no printed QoS 2 message awaits its PUBREL.
func (s *subRun) settle(ctx context.Context, c *mqttc.Client) {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	poll := time.NewTicker(2 * time.Millisecond)
	defer poll.Stop()
	for s.holding() > 0 {
		select {
		case <-ctx.Done():
			return
		case <-c.Done():
			return
		case <-poll.C:
		}
	}
}

func (s *subRun) holding() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.held)
}

// onMessage prints a message and acknowledges it: what was not printed stays
// in a durable session. It runs on the client's reader.
func (s *subRun) onMessage(c *mqttc.Client, p *mqtt.Publish) {
	if p.QoS == 2 && s.holds(p.PacketID) {
		_ = c.Ack(p.QoS, p.PacketID, mqtt.Success) // a lost connection brings it again
		return
	}
	if s.failed != nil || (s.count > 0 && s.printed >= s.count) {
		return
	}
	if s.format == "json" {
		s.failed = printJSON(s.app.out, p)
	} else {
		s.failed = s.printText(p)
	}
	if s.failed == nil {
		s.printed++
		if p.QoS == 2 {
			s.hold(p.PacketID, true)
		}
		if p.QoS > 0 {
			_ = c.Ack(p.QoS, p.PacketID, mqtt.Success)
		}
	}
	if s.failed != nil || s.printed == s.count {
		close(s.reached)
	}
}

// onPacket sees when a QoS 2 packet id is free for another message.
func (s *subRun) onPacket(_ *mqttc.Client, p mqtt.Packet) bool {
	if rel, ok := p.(*mqtt.Pubrel); ok {
		s.hold(rel.PacketID, false)
	}
	return false
}

func (s *subRun) hold(id uint16, held bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if held {
		s.held[id] = true
		return
	}
	delete(s.held, id)
}

func (s *subRun) holds(id uint16) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held[id]
}

// forget is for a session that the broker does not know any more.
func (s *subRun) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.held)
}

func (s *subRun) printText(p *mqtt.Publish) error {
	line := make([]byte, 0, len(p.Topic)+len(p.Payload)+2)
	if s.verbose {
		line = append(append(line, p.Topic...), ' ')
	}
	line = append(append(line, p.Payload...), '\n')
	_, err := s.app.out.Write(line)
	return err
}

// printedMessage is a line of sub -o json.
type printedMessage struct {
	Topic         string         `json:"topic"`
	Payload       *string        `json:"payload,omitempty"`
	PayloadBase64 *string        `json:"payload_base64,omitempty"`
	QoS           byte           `json:"qos"`
	Retain        bool           `json:"retain"`
	Dup           bool           `json:"dup"`
	ExpiryS       *uint32        `json:"expiry_s,omitempty"`
	Properties    map[string]any `json:"properties,omitempty"`
	ReceivedAt    time.Time      `json:"received_at"`
}

func printJSON(w io.Writer, p *mqtt.Publish) error {
	m := printedMessage{Topic: string(p.Topic), QoS: p.QoS, Retain: p.Retain, Dup: p.Dup, ReceivedAt: time.Now().UTC()}
	text := string(p.Payload)
	if utf8.ValidString(text) {
		m.Payload = &text
	} else {
		text = base64.StdEncoding.EncodeToString(p.Payload)
		m.PayloadBase64 = &text
	}
	if p.HasExpiry {
		expiry := p.Expiry
		m.ExpiryS = &expiry
	}
	m.Properties = printedProperties(p.Props)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(m)
}

func printedProperties(wire []byte) map[string]any {
	props, err := mqtt.ParseMessageProps(wire)
	if err != nil || len(wire) == 0 {
		return nil // the codec has checked them already
	}
	out := map[string]any{}
	if props.PayloadIsUTF8 {
		out["payload_is_utf8"] = true
	}
	if props.ContentType != "" {
		out["content_type"] = props.ContentType
	}
	if props.ResponseTopic != "" {
		out["response_topic"] = props.ResponseTopic
	}
	if props.Correlation != nil {
		out["correlation_data_base64"] = base64.StdEncoding.EncodeToString(props.Correlation)
	}
	if len(props.UserProperties) > 0 {
		user := make([][2]string, len(props.UserProperties))
		for i, u := range props.UserProperties {
			user[i] = [2]string{u.Key, u.Value}
		}
		out["user"] = user
	}
	return out
}
