package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/flotilla-mqtt/flotilla/cmd/flotilla/mqttc"
	"github.com/flotilla-mqtt/flotilla/router"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

const (
	mqttDialTimeout = 10 * time.Second
	maxLine         = 1 << 20 // of pub -l, the default of max_packet_size
)

func (a *app) pubCommand() *cli.Command {
	return &cli.Command{
		Name: "pub", Usage: "publish messages", Category: categoryMQTT,
		Description: "It exits 0 only after the acknowledgement: with -q 1 and -q 2 the message is then committed.\n\n" +
			"  flotilla pub -t plant/7 -q 1 -m 21.5\n  flotilla pub -t plant/7/config -r -f config.json -D content-type=application/json\n" +
			"  seq 1000 | flotilla pub -t numbers -q 1 -l\n  flotilla pub -t plant/7 -D user.trace=4711 -D message-expiry=60s -m x",
		Flags: mqttFlags(
			&cli.StringFlag{Name: "topic", Aliases: []string{"t"}, Usage: "`TOPIC` (required)"},
			qosFlag(),
			&cli.StringFlag{Name: "id", Aliases: []string{"i"}, Usage: "client `ID`"},
			&cli.StringFlag{Name: "message", Aliases: []string{"m"}, Usage: "`TEXT` of the message"},
			&cli.StringFlag{Name: "file", Aliases: []string{"f"}, Usage: "`FILE` that is the message; - is stdin"},
			&cli.BoolFlag{Name: "lines", Aliases: []string{"l"}, Usage: "a message per line of stdin"},
			&cli.BoolFlag{Name: "retain", Aliases: []string{"r"}, Usage: "retain the message"},
			&cli.StringSliceFlag{Name: "property", Aliases: []string{"D"}, Usage: "MQTT 5 property `NAME=VALUE`; may be repeated"},
			&cli.StringFlag{Name: "timeout", Value: "10s", Usage: "wait this `TIME` for an acknowledgement"},
		),
		Action: action(0, 0, a.pub),
	}
}

func (a *app) pub(c *cli.Context) error {
	urls, err := brokers(c)
	if err != nil {
		return err
	}
	opt, err := mqttOptions(c)
	if err != nil {
		return err
	}
	msg, payloads, err := a.pubMessage(c, opt.Version)
	if err != nil {
		return err
	}
	timeout, err := timeFlag(c, "timeout")
	if err != nil {
		return err
	}
	p := &pubRun{app: a, msg: msg, timeout: timeout}
	opt.ClientID, opt.Clean, opt.OnAck = c.String("id"), true, p.onAck
	client, err := dialFirst(c.Context, urls, opt)
	if err != nil {
		return err
	}
	if err := p.send(c.Context, client, payloads); err != nil {
		_ = client.Close() // err says more
		return err
	}
	if err := client.Disconnect(c.Context, mqtt.Success); err != nil && !errors.Is(err, mqttc.ErrClosed) {
		return err
	}
	return p.result()
}

// pubMessage reads the flags into a message without payload, and where the
// payloads come from: nil at the end.
func (a *app) pubMessage(c *cli.Context, v mqtt.Version) (mqtt.Publish, func() ([]byte, error), error) {
	var msg mqtt.Publish
	qos, err := qosOf(c)
	if err != nil {
		return msg, nil, err
	}
	if c.String("topic") == "" {
		return msg, nil, &codedError{code: exitUsage, err: errors.New("pub needs a topic: -t TOPIC"), usage: "flotilla pub"}
	}
	if err := router.CheckTopic([]byte(c.String("topic")), 0, 0); err != nil {
		return msg, nil, usagef("-t %q: %w", c.String("topic"), err)
	}
	alias, list, err := topicAlias(c.StringSlice("property"))
	if err != nil {
		return msg, nil, err
	}
	props, expiry, hasExpiry, err := properties(list)
	if err != nil {
		return msg, nil, err
	}
	if v != mqtt.V5 && len(c.StringSlice("property")) > 0 {
		return msg, nil, usagef("-D needs --mqtt-version 5")
	}
	msg = mqtt.Publish{
		Topic: []byte(c.String("topic")), QoS: qos, Retain: c.Bool("retain"), Props: props, Expiry: expiry, HasExpiry: hasExpiry, TopicAlias: alias,
	}
	payloads, err := a.payloads(c)
	return msg, payloads, err
}

func (a *app) payloads(c *cli.Context) (func() ([]byte, error), error) {
	given := 0
	for _, f := range []string{"message", "file", "lines"} {
		if c.IsSet(f) {
			given++
		}
	}
	switch {
	case given != 1:
		return nil, &codedError{code: exitUsage, err: errors.New("pub needs one of -m TEXT, -f FILE or -l"), usage: "flotilla pub"}
	case c.IsSet("message"):
		return once([]byte(c.String("message"))), nil
	case c.IsSet("file"):
		return a.filePayload(c.String("file"))
	}
	s := bufio.NewScanner(a.in)
	s.Buffer(make([]byte, 64<<10), maxLine)
	return func() ([]byte, error) {
		if !s.Scan() {
			return nil, s.Err()
		}
		return append(make([]byte, 0, len(s.Bytes())), s.Bytes()...), nil
	}, nil
}

func (a *app) filePayload(name string) (func() ([]byte, error), error) {
	var b []byte
	var err error
	if name == "-" {
		b, err = io.ReadAll(a.in)
	} else {
		b, err = os.ReadFile(name)
	}
	if err != nil {
		return nil, failf(exitUsage, "-f: %w", err)
	}
	return once(b), nil
}

// once returns b at its first call, and then nothing.
func once(b []byte) func() ([]byte, error) {
	if b == nil {
		b = []byte{}
	}
	return func() ([]byte, error) {
		out := b
		b = nil
		return out, nil
	}
}

// pubRun sends messages and looks at what becomes of them.
type pubRun struct {
	app       *app
	msg       mqtt.Publish
	timeout   time.Duration
	acked     atomic.Uint64
	unmatched atomic.Uint64
	refusal   atomic.Pointer[mqttc.Ack] // the first
}

func (p *pubRun) onAck(_ *mqttc.Client, a mqttc.Ack) {
	switch {
	case a.Code.Failed():
		p.refusal.CompareAndSwap(nil, &a)
	case a.Code == mqtt.NoMatchingSubscribers:
		p.unmatched.Add(1)
	}
	p.acked.Add(1)
}

func (p *pubRun) send(ctx context.Context, c *mqttc.Client, payloads func() ([]byte, error)) error {
	for {
		payload, err := payloads()
		if err != nil {
			return failf(exitFailed, "read the messages: %w", err)
		}
		if payload == nil {
			return p.settle(ctx, c)
		}
		p.msg.Payload = payload
		if _, err := c.Send(ctx, &p.msg, 0); err != nil {
			return fmt.Errorf("publish: %w", err)
		}
	}
}

// settle waits until everything is acknowledged, or for QoS 0 written.
func (p *pubRun) settle(ctx context.Context, c *mqttc.Client) error {
	if p.msg.QoS == 0 {
		return c.Flush(ctx)
	}
	poll := time.NewTicker(2 * time.Millisecond)
	defer poll.Stop()
	before, since := p.acked.Load(), time.Now()
	for c.Session().Len() > 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.Done():
			return fmt.Errorf("%d messages have no acknowledgement: %w", c.Session().Len(), c.Err())
		case <-poll.C:
		}
		if now := p.acked.Load(); now != before {
			before, since = now, time.Now()
		} else if time.Since(since) > p.timeout {
			return failf(exitTimeout, "%d messages have no acknowledgement after %s", c.Session().Len(), p.timeout)
		}
	}
	return nil
}

func (p *pubRun) result() error {
	if a := p.refusal.Load(); a != nil {
		return failf(exitFailed, "the broker refused the message: %s (0x%02x)", a.Code, byte(a.Code))
	}
	if n := p.unmatched.Load(); n > 0 {
		fmt.Fprintf(p.app.errOut, "flotilla: no subscription matched %d of %d messages\n", n, p.acked.Load())
	}
	return nil
}

// dialFirst connects to the first broker that accepts.
func dialFirst(ctx context.Context, urls []string, opt mqttc.Options) (*mqttc.Client, error) {
	var errs []error
	for _, u := range urls {
		opt.URL = u
		dialing, cancel := context.WithTimeout(ctx, mqttDialTimeout)
		c, err := mqttc.Dial(dialing, opt)
		cancel()
		if err == nil {
			return c, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		errs = append(errs, fmt.Errorf("connect to %s: %w", u, err))
	}
	return nil, errors.Join(errs...)
}
