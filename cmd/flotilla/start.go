package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/urfave/cli/v2"
	"go.uber.org/zap"

	"github.com/flotilla-mqtt/flotilla/api"
	"github.com/flotilla-mqtt/flotilla/cluster"
	"github.com/flotilla-mqtt/flotilla/cmd/flotilla/config"
	"github.com/flotilla-mqtt/flotilla/raftfsm"
	"github.com/flotilla-mqtt/flotilla/session"
)

const startHelp = `Each flag is also a top-level key of the file (_ for -) and a variable FLOTILLA_<FLAG>.
Precedence: flag, environment, file, default. Without any, it is a one-node cluster on loopback.

  flotilla start
  flotilla start --config /etc/flotilla/flotilla.yaml --set limits.connect_timeout=30s
  flotilla start --mqtt-addr 0.0.0.0:1883 --allow-anonymous
  flotilla start --cluster-addr 10.0.0.2:7400 --join n1.example.net:7400,n2.example.net:7400 --bootstrap-expect 3 --insecure-cluster

SIGHUP reads the users files and the certificates again; on a mistake the old ones stay.
SIGTERM and SIGINT hand over, disconnect clients and stop; a second signal exits at once, as safe as a crash.
Neither changes the membership of the cluster.`

const (
	readyPoll   = 25 * time.Millisecond // how often the node is asked whether it is ready
	apiShutdown = 2 * time.Second       // for requests that run when the node has stopped
)

func (a *app) startCommand() *cli.Command {
	return &cli.Command{
		Name: "start", Usage: "start a node", Category: categoryRun, Description: startHelp,
		Flags: startFlags(), Action: action(0, 0, a.start),
	}
}

// start is the boot order from top to bottom; what is opened is closed in the
// reverse order, after the node has drained.
func (a *app) start(c *cli.Context) error {
	loaded, err := loadConfig(c)
	if err != nil {
		return err
	}
	cfg := &loaded.Config
	ring := newLogRing(logRingBytes)
	lg, levels, err := newLogger(io.MultiWriter(a.errOut, ring), cfg.LogLevel, logFormat(cfg.LogFormat, a.errOut))
	if err != nil {
		return err
	}
	defer func() { _ = lg.Sync() }() // a terminal cannot be synced, which is no matter
	for _, w := range loaded.Warnings {
		lg.Warn(w, zap.String("event", "config.warning"))
	}
	if err := checkFiles(&loaded); err != nil {
		return err // before anything is created
	}
	for i := range cfg.Listeners {
		if cfg.Listeners[i].Advertise.On() {
			lg.Warn(fmt.Sprintf("listeners[%d].advertise has no effect in this version", i), zap.String("event", "config.warning"))
		}
	}
	limitMemory()

	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	nodeConfig, err := clusterConfig(cfg)
	if err != nil {
		return err
	}
	known, chain, err := openUsers(cfg)
	if err != nil {
		return err
	}
	authenticate(&nodeConfig.Session, chain)
	nodeConfig.Logger, nodeConfig.Registerer, nodeConfig.Loggers = lg, reg, levels
	nodeConfig.Debug = (&debugSource{loaded: &loaded, metrics: reg, log: ring, began: time.Now()}).files
	nodeConfig.Fatal = func(err error) {
		_ = lg.Sync()
		os.Exit(fatalCode(err)) // at once: nothing more may be acknowledged
	}

	// The admin port comes first: it is the cheapest to fail.
	admin, err := listenAdmin(cfg.AdminAddr)
	if err != nil {
		return err
	}
	if admin != nil {
		defer admin.Close()
		nodeConfig.AdminAddr = admin.Addr().String()
	}
	port, err := openAdminPort(cfg, reg, lg)
	if err != nil {
		return err
	}
	defer port.close()
	node, err := cluster.Start(c.Context, nodeConfig)
	if err != nil {
		return startError(err)
	}
	lg = lg.With(zap.String("node", node.ID()))
	p := &process{lg: lg, node: node, port: port, users: known, sources: loaded.Sources, drain: nodeConfig.Drain.Timeout}
	if admin != nil {
		if err := p.serveAPI(admin, &nodeConfig, reg); err != nil {
			node.Kill()
			return err
		}
	}
	return p.run(c.Context)
}

func listenAdmin(addr config.Addr) (net.Listener, error) {
	if !addr.On() {
		return nil, nil
	}
	l, err := net.Listen("tcp", addr.String())
	if err != nil {
		return nil, &codedError{
			code: exitUsage, err: fmt.Errorf("admin_addr: %w", err),
			hint: "another address is given with --admin-addr, port 0 takes a free one, none turns it off",
		}
	}
	return l, nil
}

// fatalCode is the exit code of a node that cannot go on. Supervisors start a node again unless that
// would do harm: it does not where a restart is the cure.
func fatalCode(err error) int {
	switch {
	case errors.Is(err, cluster.ErrIdentity), errors.Is(err, raftfsm.ErrIdentity):
		return exitIdentity
	case errors.Is(err, raftfsm.ErrDivergent):
		return exitFailed
	default:
		return exitFailStop
	}
}

// startError classifies why a node did not start.
func startError(err error) error {
	e := &codedError{code: exitFailed, err: err}
	switch {
	case errors.Is(err, cluster.ErrConfig), errors.Is(err, session.ErrConfig):
		e.code = exitUsage
	case errors.Is(err, cluster.ErrIdentity), errors.Is(err, raftfsm.ErrIdentity):
		e.code = exitIdentity
		e.hint = "a node whose disk was lost or replaced needs a new data directory and a new node id"
	case errors.Is(err, raftfsm.ErrCorrupt), errors.Is(err, raftfsm.ErrFailStop):
		e.code = exitFailStop
		e.hint = "the disk is damaged: keep the directory, and start with a new one and a new node id"
	case errors.Is(err, raftfsm.ErrLocked):
		e.hint = "another node is running in this data directory: stop it, or name another one with --data-dir"
	}
	var port *net.OpError
	switch {
	case e.hint != "":
	case errors.As(err, &port) && !errors.Is(err, syscall.EADDRINUSE): // the message has the address and the reason
	case errors.Is(err, syscall.EADDRINUSE):
		e.hint = "something listens there already: stop it, or give another address (--mqtt-addr, --mqtts-addr, --cluster-addr)"
	case errors.Is(err, syscall.EROFS), errors.Is(err, syscall.EACCES), errors.Is(err, syscall.ENOTDIR):
		e.hint = "name a directory that the user of this process may write with --data-dir"
	}
	return e
}

// process is a node that runs, with its API.
type process struct {
	lg    *zap.Logger
	node  *cluster.Node
	users *users
	// sources say where each key of the configuration came from.
	sources map[string]string
	drain   time.Duration
	api     *api.Server
	port    *adminPort
	served  chan error // the end of the API's listener
	admin   string
}

func (p *process) serveAPI(l net.Listener, cfg *cluster.Config, reg *prometheus.Registry) error {
	var err error
	p.api, err = api.NewServer(api.Options{
		Node:   &nodeAPI{n: p.node},
		NodeID: p.node.ID(), Version: version, Gatherer: reg, Registerer: reg, Logger: p.lg.Named("api"), Access: p.port.access,
	})
	if err != nil {
		return err
	}
	p.admin = l.Addr().String()
	p.node.SetAdminAddr(p.admin)
	p.lg.Info("listening", zap.String("event", "listener.up"), zap.String("listener", "admin"), zap.String("addr", p.admin))
	p.served = make(chan error, 1) // one server, one end
	go func() { p.served <- p.api.Serve(p.port.wrap(l)) }()
	return nil
}

// run waits for a signal and stops. The API answers until the node has
// stopped, so that its probes show the drain.
func (p *process) run(ctx context.Context) error {
	watching, stopWatching := context.WithCancel(ctx)
	defer stopWatching()
	sup := newSupervisor(p.lg, os.Getenv)
	ready := p.watchReady(watching, func() {
		sup.say("READY=1")
		p.differ()
	})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		sup.watch(watching, func() bool { return allOK(p.node.LiveChecks()) })
	}()
	reloads := p.watchReload(watching)
	var failed error
	select {
	case <-ctx.Done():
		p.lg.Info("stopping", zap.String("event", "server.signal"), zap.NamedError("cause", context.Cause(ctx)))
	case failed = <-p.served:
		p.served <- nil // for the wait below
		failed = failf(exitFailed, "admin API: %w", failed)
	}
	stopWatching()
	sup.say("STOPPING=1")
	<-ready
	<-reloads
	<-watched
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.drain)
	defer cancel()
	err := p.node.Stop(stopping)
	if p.api != nil {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), apiShutdown)
		defer cancel()
		_ = p.api.Shutdown(closing) // requests that still run are cut
		<-p.served
	}
	return errors.Join(failed, err)
}

// announce logs all addresses as they are.
func (p *process) announce() {
	a := p.node.Addrs()
	p.lg.Info("node is ready", zap.String("event", "server.ready"), zap.String("version", version), zap.String("mqtt_addr", a.MQTT),
		zap.String("mqtts_addr", a.MQTTS), zap.String("cluster_addr", a.Cluster), zap.String("admin_addr", p.admin))
}

// differ reports cluster settings that were given here and have no effect,
// since the cluster was formed with others.
func (p *process) differ() {
	for _, key := range p.node.SettingsDiffer() {
		key = "settings." + strings.TrimSuffix(key, "_s")
		if source := p.sources[key]; source != "" {
			p.lg.Warn("the cluster has another value, this one has no effect", zap.String("event", "config.settings_differ"),
				zap.String("key", key), zap.String("source", source))
		}
	}
}

// watchReady announces the moment when the node becomes ready, and calls then. The channel is
// closed when nobody watches any more, at the latest when ctx has ended.
func (p *process) watchReady(ctx context.Context, then func()) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(readyPoll)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if allOK(p.node.ReadyChecks()) {
				p.announce()
				then()
				return
			}
		}
	}()
	return done
}

func allOK(checks []cluster.Check) bool {
	for _, c := range checks {
		if !c.OK {
			return false
		}
	}
	return true
}
