package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"
)

const (
	// devPatience is how long dev waits for its cluster to be ready.
	devPatience = 60 * time.Second
	// devStop is how long a child may take to stop before it is killed; more
	// than its drain takes on loopback.
	devStop = 30 * time.Second
	// devNodes is the most nodes of a local cluster.
	devNodes = 9
)

func (a *app) devCommand() *cli.Command {
	return &cli.Command{
		Name: "dev", Usage: "run a local cluster for trying out, one process per node", Category: categoryRun,
		Description: "It prints the addresses and three commands to try, then the logs with a node prefix.\nCtrl-C stops it; the data stays.\n\n  flotilla dev\n  flotilla dev --nodes 5 --fresh",
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "nodes", Value: 3, Usage: "number `N` of nodes, 1 to 9"},
			&cli.BoolFlag{Name: "fresh", Usage: "delete the data first"},
			&cli.StringFlag{Name: "data-dir", Value: "./flotilla-dev", Usage: "`DIR` with the data of all nodes"},
			&cli.IntFlag{Name: "mqtt-port", Value: 1883, Usage: "MQTT `PORT` of the first node; the others follow"},
			&cli.IntFlag{Name: "cluster-port", Value: 7400, Usage: "cluster `PORT` of the first node"},
			&cli.IntFlag{Name: "admin-port", Value: 8080, Usage: "admin `PORT` of the first node"},
			&cli.StringFlag{Name: "log-level", Value: "info", Usage: "`LEVEL`: debug, info, warn or error"},
		},
		Action: action(0, 0, a.dev),
	}
}

// devNode is one child of dev.
type devNode struct {
	name                 string
	dir                  string
	mqtt, cluster, admin string
	cmd                  *exec.Cmd
	ended                chan struct{} // closed after exit and the last line of its log
	code                 int           // valid when ended is closed
}

// devCluster is dev in progress.
type devCluster struct {
	app   *app
	nodes []*devNode
	mu    sync.Mutex // one line of log at a time
}

func (a *app) dev(c *cli.Context) error {
	n := c.Int("nodes")
	if n < 1 || n > devNodes {
		return usagef("--nodes %d: use 1 to %d", n, devNodes)
	}
	base := c.String("data-dir")
	if c.Bool("fresh") {
		if err := removeDevData(base); err != nil {
			return err
		}
	}
	d := &devCluster{app: a}
	for i := range n {
		name := fmt.Sprintf("n%d", i+1)
		addr := func(flag string) string { return fmt.Sprintf("127.0.0.1:%d", c.Int(flag)+i) }
		d.nodes = append(d.nodes, &devNode{
			name: name, dir: filepath.Join(base, name), ended: make(chan struct{}),
			mqtt: addr("mqtt-port"), cluster: addr("cluster-port"), admin: addr("admin-port"),
		})
	}
	if err := d.start(c.String("log-level")); err != nil {
		return errors.Join(err, d.stop())
	}
	go d.greet(c.Context)
	return d.wait(c.Context)
}

// removeDevData deletes only what dev itself has made below base.
func removeDevData(base string) error {
	for i := 1; i <= devNodes; i++ {
		if err := os.RemoveAll(filepath.Join(base, fmt.Sprintf("n%d", i))); err != nil {
			return failf(exitFailed, "--fresh: %w", err)
		}
	}
	return nil
}

func (d *devCluster) start(level string) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	join := make([]string, len(d.nodes))
	for i, n := range d.nodes {
		join[i] = n.cluster
	}
	for _, n := range d.nodes {
		args := []string{
			"start", "--node-id", n.name, "--data-dir", n.dir, "--mqtt-addr", n.mqtt, "--cluster-addr", n.cluster,
			"--admin-addr", n.admin, "--log-format", "console", "--log-level", level,
		}
		if len(d.nodes) > 1 {
			args = append(args, "--bootstrap-expect", fmt.Sprint(len(d.nodes)), "--join", strings.Join(join, ","))
		}
		n.cmd = exec.Command(self, args...)
		n.cmd.SysProcAttr = childAttributes()
		if err := d.startChild(n); err != nil {
			return failf(exitFailed, "start %s: %w", n.name, err)
		}
	}
	return nil
}

func (d *devCluster) startChild(n *devNode) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	n.cmd.Stdout, n.cmd.Stderr = w, w
	err = spawn(n.cmd)
	_ = w.Close() // the child has its own
	if err != nil {
		n.cmd = nil
		return errors.Join(err, r.Close())
	}
	go func() {
		defer close(n.ended)
		d.copyLog(n.name, r)
		_ = r.Close()
		_ = n.cmd.Wait() // the state below says it all
		n.code = n.cmd.ProcessState.ExitCode()
	}()
	return nil
}

// copyLog prints a child's lines with its name before them.
func (d *devCluster) copyLog(name string, r io.Reader) {
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadString('\n')
		if line = strings.TrimRight(line, "\n"); line != "" {
			d.print("%s | %s", name, line)
		}
		if err != nil {
			return
		}
	}
}

func (d *devCluster) print(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	fmt.Fprintf(d.app.out, format+"\n", args...)
}

// greet prints what to try as soon as all nodes are ready.
func (d *devCluster) greet(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, devPatience)
	defer cancel()
	for _, n := range d.nodes {
		if !awaitReady(ctx, n) {
			return
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\ncluster of %d nodes is ready\n", len(d.nodes))
	for _, n := range d.nodes {
		fmt.Fprintf(&b, "  %s  mqtt %s  admin http://%s  data %s\n", n.name, n.mqtt, n.admin, n.dir)
	}
	last := d.nodes[len(d.nodes)-1]
	fmt.Fprintf(&b, "\ntry in another terminal:\n")
	fmt.Fprintf(&b, "  flotilla sub -b mqtt://%s -t 'demo/#' -q 1 -v\n", d.nodes[0].mqtt)
	fmt.Fprintf(&b, "  flotilla pub -b mqtt://%s -t demo/hello -q 1 -m world\n", last.mqtt)
	fmt.Fprintf(&b, "  flotilla status -e http://%s\n\nCtrl-C stops the cluster; the data stays\n", d.nodes[0].admin)
	d.print("%s", b.String())
}

func awaitReady(ctx context.Context, n *devNode) bool {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Second}
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		if resp, err := client.Get("http://" + n.admin + "/readyz"); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return true
			}
		}
		select {
		case <-ctx.Done():
			return false
		case <-n.ended:
			return false
		case <-tick.C:
		}
	}
}

// wait returns when a signal has come and all children have stopped, or when
// no child is left.
func (d *devCluster) wait(ctx context.Context) error {
	alive := len(d.nodes)
	gone := make(chan *devNode, alive)
	for _, n := range d.nodes {
		go func() { <-n.ended; gone <- n }()
	}
	for alive > 0 {
		select {
		case <-ctx.Done():
			return d.stop()
		case n := <-gone:
			alive--
			d.print("flotilla: %s ended with exit code %d, %d of %d nodes go on; Ctrl-C stops them", n.name, n.code, alive, len(d.nodes))
		}
	}
	for _, n := range d.nodes {
		if n.code != 0 {
			return silent(exitFailed)
		}
	}
	return nil
}

// stop asks all children to stop, waits, and kills those that do not.
func (d *devCluster) stop() error {
	for _, n := range d.nodes {
		if n.cmd != nil {
			_ = n.cmd.Process.Signal(syscall.SIGTERM) // one that has ended needs none
		}
	}
	late := time.NewTimer(devStop)
	defer late.Stop()
	var failed error
	for _, n := range d.nodes {
		if n.cmd == nil {
			continue
		}
		select {
		case <-n.ended:
		case <-late.C:
			late.Reset(0) // the others are late, too
			_ = n.cmd.Process.Kill()
			<-n.ended
			failed = failf(exitFailed, "%s did not stop in %s and was killed", n.name, devStop)
		}
	}
	return failed
}
