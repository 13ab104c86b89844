package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/flotilla-mqtt/flotilla/cmd/flotilla/bench"
	"github.com/flotilla-mqtt/flotilla/cmd/flotilla/config"
)

func (a *app) benchCommand() *cli.Command {
	def := bench.DefaultConfig()
	kind := func(name, usage, example string, publishers, subscribers, topics int, fn func(context.Context, bench.Config) (*bench.Report, error)) *cli.Command {
		return &cli.Command{
			Name: name, Usage: usage, Description: example, Flags: benchFlags(def, publishers, subscribers, topics),
			Action: action(0, 0, func(c *cli.Context) error { return a.bench(c, fn) }),
		}
	}
	pubsub := func(mode string) func(context.Context, bench.Config) (*bench.Report, error) {
		return func(ctx context.Context, cfg bench.Config) (*bench.Report, error) {
			return bench.PubSub(ctx, mode, cfg)
		}
	}
	shared := func(ctx context.Context, cfg bench.Config) (*bench.Report, error) {
		cfg.Share = true
		return bench.PubSub(ctx, "share", cfg)
	}
	return &cli.Command{
		Name: "bench", Usage: "measure rate, latency and losses", Category: categoryMQTT,
		Subcommands: []*cli.Command{
			kind("pubsub", "publishers and subscribers over topics; exit 1 if an acknowledged message is lost",
				"Connections are spread over the brokers in turn, subscribers one further than publishers.\n\n"+
					"  flotilla bench pubsub --qos 1 --publishers 4 --subscribers 4 --topics 4 --durable --duration 30s\n"+
					"  flotilla bench pubsub -b mqtt://127.0.0.1:1883,mqtt://127.0.0.1:1884,mqtt://127.0.0.1:1885 --rate 500/s -o json", 1, 1, 1, pubsub("pubsub")),
			kind("fanout", "one publisher, many subscribers of one topic",
				"  flotilla bench fanout --subscribers 1000 --rate 100/s", 1, 100, 1, pubsub("fanout")),
			kind("fanin", "many publishers with a topic each, one subscriber of all",
				"  flotilla bench fanin --publishers 100 --topics 100 --qos 1 --rate 10000/s", 100, 1, 100, pubsub("fanin")),
			kind("share", "publishers, and subscribers that share the messages; exit 1 if an acknowledged one is lost",
				"All subscribers are members of one shared subscription of each topic: a message goes to one of them. Order is\n"+
					"counted per member; duplicated is what more than one got.\n\n"+
					"  flotilla bench share --qos 1 --publishers 4 --subscribers 8 --durable --rate 2000/s --duration 30s", 1, 8, 1, shared),
			kind("connect", "open connections and hold them",
				"  flotilla bench connect --subscribers 10000 --rate 1000/s --duration 30s", 0, 1000, 1, bench.Connect),
			kind("retained", "store retained messages and read all of them with a wildcard",
				"  flotilla bench retained --topics 10000 --subscribers 3 --qos 1", 1, 1, 1000, bench.Retained),
			kind("backlog", "queue messages for durable sessions without connection, then connect them",
				"  flotilla bench backlog --publishers 4 --subscribers 4 --topics 4 --count 200000", 1, 1, 1, bench.Backlog),
			kind("idle", "connections that do nothing but keep-alive; exit 1 if one cannot be made",
				"A process has as many connections as it has file descriptors; --sources spreads them over loopback\n"+
					"addresses, since one has 28,000 ports.\n\n"+
					"  flotilla bench idle --subscribers 15000 --durable --keep-alive 60s --duration 60s --sources 2", 0, 1000, 1, bench.Idle),
			a.benchTableCommand(),
		},
	}
}

// benchTableCommand lays reports side by side.
func (a *app) benchTableCommand() *cli.Command {
	return &cli.Command{
		Name: "table", Usage: "lay the reports of several brokers side by side", ArgsUsage: "DIR",
		Description: "Reads DIR/BROKER--SHAPE.json, which flotilla bench -o json has written, and prints a Markdown table.\n\n" +
			"  flotilla bench pubsub --qos 1 -o json > out/flotilla--qos1.json\n" +
			"  flotilla bench pubsub --qos 1 -b mqtt://127.0.0.1:1884 -o json > out/mosquitto--qos1.json\n" +
			"  flotilla bench table --first flotilla out",
		Flags: []cli.Flag{&cli.StringFlag{Name: "first", Usage: "`BROKER[,BROKER...]` that come first, in this order"}},
		Action: action(1, 1, func(c *cli.Context) error {
			t, err := bench.ReadTable(c.Args().First(), strings.Split(c.String("first"), ","))
			if err != nil {
				return failf(exitFailed, "%w", err)
			}
			return t.Print(a.out)
		}),
	}
}

func benchFlags(def bench.Config, publishers, subscribers, topics int) []cli.Flag {
	return mqttFlags(
		qosFlag(),
		&cli.IntFlag{Name: "publishers", Value: publishers, Usage: "number `N` of publishers"},
		&cli.IntFlag{Name: "subscribers", Value: subscribers, Usage: "number `N` of subscribers"},
		&cli.IntFlag{Name: "topics", Value: topics, Usage: "number `N` of topics"},
		&cli.IntFlag{Name: "size", Value: def.Size, Usage: "`BYTES` of a payload, 28 at least"},
		&cli.IntFlag{Name: "window", Value: def.Window, Usage: "`N` QoS 1 and 2 publishes in flight per publisher"},
		&cli.IntFlag{Name: "receive-maximum", Usage: "`N` QoS 1 and 2 messages that a subscriber takes at a time (MQTT 5); 0 is 65535"},
		&cli.StringFlag{Name: "rate", Value: "0", Usage: "messages a second of all publishers together, as `500/s`; 0 is as fast as it goes"},
		&cli.StringFlag{Name: "duration", Value: "10s", Usage: "publish for this `TIME`"},
		&cli.Uint64Flag{Name: "count", Usage: "end after `N` messages of all publishers together"},
		&cli.StringFlag{Name: "warmup", Value: "0", Usage: "leave the first `TIME` out of the latencies"},
		&cli.StringFlag{Name: "drain", Value: "5s", Usage: "wait for the rest until nothing came for this `TIME`"},
		&cli.BoolFlag{Name: "durable", Usage: "sessions that outlive their connections"},
		&cli.StringFlag{Name: "keep-alive", Value: "30s", Usage: "keep-alive `TIME` of all connections"},
		&cli.IntFlag{Name: "connecting", Value: def.Connecting, Usage: "open `N` connections at a time (connect and idle)"},
		&cli.IntFlag{Name: "sources", Usage: "connect from `N` addresses, 127.0.0.2 on; 0 leaves it to the system"},
		&cli.BoolFlag{Name: "retain", Usage: "set the retain flag"},
		&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Value: "text", Usage: "`FORMAT`: text or json"},
		&cli.BoolFlag{Name: "quiet", Usage: "no progress"},
	)
}

// benchMemory keeps the collector quiet: the generator shares the machine with
// what it measures.
const benchMemory = 400

func (a *app) bench(c *cli.Context, fn func(context.Context, bench.Config) (*bench.Report, error)) error {
	cfg, err := a.benchConfig(c)
	if err != nil {
		return err
	}
	format := c.String("output")
	if format != "text" && format != "json" {
		return usagef("--output %s: use text or json", format)
	}
	defer debug.SetGCPercent(debug.SetGCPercent(benchMemory))
	rep, err := fn(c.Context, cfg)
	if errors.Is(err, bench.ErrPlan) {
		return &codedError{code: exitUsage, err: err}
	}
	if err != nil {
		return err
	}
	if format == "json" {
		enc := json.NewEncoder(a.out)
		enc.SetIndent("", "  ")
		err = enc.Encode(rep)
	} else {
		err = rep.Print(a.out)
	}
	if err != nil {
		return err
	}
	if c.Context.Err() != nil {
		return silent(exitInterrupted)
	}
	if !rep.OK() {
		return failf(exitFailed, "%d acknowledged messages are lost, %d connections failed", rep.Lost, rep.Failed)
	}
	return nil
}

func (a *app) benchConfig(c *cli.Context) (bench.Config, error) {
	cfg := bench.DefaultConfig()
	var err error
	if cfg.URLs, err = brokers(c); err != nil {
		return cfg, err
	}
	opt, err := mqttOptions(c)
	if err != nil {
		return cfg, err
	}
	cfg.Version, cfg.Username, cfg.Password = opt.Version, opt.Username, opt.Password
	if cfg.QoS, err = qosOf(c); err != nil {
		return cfg, err
	}
	cfg.Publishers, cfg.Subscribers, cfg.Topics = c.Int("publishers"), c.Int("subscribers"), c.Int("topics")
	cfg.Size, cfg.Window, cfg.Count = c.Int("size"), c.Int("window"), c.Uint64("count")
	cfg.Sources, cfg.Connecting = c.Int("sources"), c.Int("connecting")
	if n := c.Int("receive-maximum"); n < 0 || n > 65535 {
		return cfg, usagef("--receive-maximum %d: use 0 to 65535", n)
	}
	cfg.ReceiveMaximum = uint16(c.Int("receive-maximum"))
	cfg.Durable, cfg.Retain = c.Bool("durable"), c.Bool("retain")
	rate := c.String("rate")
	if last := rate[max(len(rate)-1, 0):]; last >= "0" && last <= "9" && rate != "0" {
		rate += "/s"
	}
	if cfg.Rate, err = config.ParseRate(rate); err != nil {
		return cfg, usagef("--rate: %w", err)
	}
	for flag, at := range map[string]*time.Duration{"duration": &cfg.Duration, "warmup": &cfg.Warmup, "drain": &cfg.Drain, "keep-alive": &cfg.KeepAlive} {
		if *at, err = timeFlag(c, flag); err != nil {
			return cfg, err
		}
	}
	a.benchProgress(c, &cfg)
	return cfg, nil
}

// benchProgress shows one line that is written over on a terminal, else a line
// every five seconds.
func (a *app) benchProgress(c *cli.Context, cfg *bench.Config) {
	cfg.Log = func(line string) { fmt.Fprintf(a.errOut, "flotilla: %s\n", line) }
	if c.Bool("quiet") {
		return
	}
	tty := terminal(a.errOut)
	calls := 0
	cfg.Progress = func(p bench.Progress) {
		calls++
		line := fmt.Sprintf("%s %s: sent %d, acked %d, received %d, in %.0f/s, out %.0f/s",
			p.Elapsed.Round(time.Second), p.Phase, p.Sent, p.Acked, p.Received, p.RateIn, p.RateOut)
		switch {
		case tty:
			fmt.Fprintf(a.errOut, "\r\x1b[K%s", line)
		case calls%5 == 0:
			fmt.Fprintln(a.errOut, line)
		}
	}
}
