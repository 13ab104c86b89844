package harness

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	// startTimeout covers a cold start with a large state on a loaded two-core machine.
	startTimeout = 60 * time.Second
	// stopTimeout is above the default drain.timeout of 60 s.
	stopTimeout = 75 * time.Second
)

// Node is one member: a data directory, ports that stay, and at most one process.
type Node struct {
	// ID is the node id.
	ID string
	// DataDir is the node's data directory.
	DataDir string
	// LogPath collects the output of all runs of this node.
	LogPath string

	bin  string
	args []string
	env  []string

	mqtt, cluster, admin string

	mu     sync.Mutex
	proc   *process // guarded by mu; nil before the first start
	paused bool     // guarded by mu
}

// MQTTAddr, ClusterAddr and AdminAddr are where the node listens; with port 0 they are known once it is ready.
func (n *Node) MQTTAddr() string    { return n.addr(&n.mqtt) }
func (n *Node) ClusterAddr() string { return n.addr(&n.cluster) }
func (n *Node) AdminAddr() string   { return n.addr(&n.admin) }

func (n *Node) addr(a *string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return *a
}

// Launch starts the process and returns at once.
func (n *Node) Launch(extra ...string) error { return n.launch(nil, extra) }

// LaunchWith is Launch with more in the environment (KEY=VALUE), for this one process.
func (n *Node) LaunchWith(env ...string) error { return n.launch(env, nil) }

func (n *Node) launch(env, extra []string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.proc != nil && !n.proc.ended() {
		return fmt.Errorf("node %s runs already", n.ID)
	}
	args := append([]string{
		"start", "--node-id", n.ID, "--data-dir", n.DataDir, "--log-format", "json",
		"--mqtt-addr", n.mqtt, "--cluster-addr", n.cluster, "--admin-addr", n.admin,
	}, n.args...)
	p, err := startProcess(n.bin, append(args, extra...), append(slices.Clone(n.env), env...), n.LogPath)
	if err != nil {
		return fmt.Errorf("node %s: %w", n.ID, err)
	}
	n.proc, n.paused = p, false
	return nil
}

// Start launches the node and waits until /readyz says yes.
func (n *Node) Start(tb testing.TB) {
	tb.Helper()
	if err := n.Launch(); err != nil {
		tb.Fatal(err)
	}
	n.WaitReady(tb)
}

// WaitReady waits for the event server.ready, takes the addresses from it, and waits for /readyz.
func (n *Node) WaitReady(tb testing.TB) {
	tb.Helper()
	if err := n.Ready(tb.Context(), startTimeout); err != nil {
		tb.Fatal(err)
	}
}

// Ready is WaitReady for any goroutine.
func (n *Node) Ready(ctx context.Context, timeout time.Duration) error {
	return Until(ctx, timeout, "node "+n.ID+" to be ready", func(ctx context.Context) error {
		if err := n.listening(); err != nil {
			return err
		}
		return n.Readyz(ctx)
	})
}

// listening looks for server.ready in the current run and learns the addresses from it.
func (n *Node) listening() error {
	n.mu.Lock()
	p := n.proc
	n.mu.Unlock()
	if p == nil {
		return Never(fmt.Errorf("node %s was never started", n.ID))
	}
	found := p.find("server.ready")
	if len(found) == 0 {
		if p.ended() {
			return Never(fmt.Errorf("node %s exited with code %d:\n%s", n.ID, p.exitCode(), strings.Join(p.tail(), "\n")))
		}
		return fmt.Errorf("no server.ready in the log yet")
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for key, a := range map[string]*string{"mqtt_addr": &n.mqtt, "cluster_addr": &n.cluster, "admin_addr": &n.admin} {
		if v := found[0].String(key); v != "" {
			*a = v
		}
	}
	return nil
}

// Running tells whether there is a process (paused counts).
func (n *Node) Running() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.proc != nil && !n.proc.ended()
}

// Kill ends the process with SIGKILL and waits for it to be gone. It is idempotent.
func (n *Node) Kill() error {
	p := n.current()
	if p == nil {
		return nil
	}
	if !p.ended() {
		if err := p.signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("kill node %s: %w", n.ID, err)
		}
	}
	<-p.done
	return nil
}

// KillAll kills nodes as nearly at once as signals allow, then waits for all of them.
func KillAll(nodes ...*Node) error {
	for _, n := range nodes {
		if p := n.current(); p != nil && !p.ended() {
			_ = p.signal(syscall.SIGKILL)
		}
	}
	for _, n := range nodes {
		if err := n.Kill(); err != nil {
			return err
		}
	}
	return nil
}

// Stop sends SIGTERM and fails the test unless the node exits with 0 in time.
func (n *Node) Stop(tb testing.TB) {
	tb.Helper()
	p := n.current()
	if p == nil || p.ended() {
		return
	}
	if err := p.signal(syscall.SIGTERM); err != nil {
		tb.Fatalf("stop node %s: %v", n.ID, err)
	}
	if code := n.WaitExit(tb, stopTimeout); code != 0 {
		tb.Fatalf("node %s exited with code %d after SIGTERM, want 0:\n%s", n.ID, code, strings.Join(p.tail(), "\n"))
	}
}

// WaitExit waits until the process has ended and returns its exit code, -1 after a signal.
func (n *Node) WaitExit(tb testing.TB, timeout time.Duration) int {
	tb.Helper()
	p := n.current()
	if p == nil {
		tb.Fatalf("node %s was never started", n.ID)
	}
	Wait(tb, timeout, "node "+n.ID+" to exit", func(context.Context) error {
		if !p.ended() {
			return fmt.Errorf("it runs; last lines:\n%s", strings.Join(p.tail(), "\n"))
		}
		return nil
	})
	return p.exitCode()
}

// Pause stops the process with SIGSTOP and returns when all its threads stand still.
func (n *Node) Pause() error {
	if err := n.pause(syscall.SIGSTOP, true); err != nil {
		return err
	}
	return Until(context.Background(), 5*time.Second, "node "+n.ID+" to stand still", func(context.Context) error {
		if pid := n.Pid(); pid != 0 && !stopped(pid) {
			return fmt.Errorf("a thread still runs")
		}
		return nil
	})
}

// Resume lets a paused process go on.
func (n *Node) Resume() error { return n.pause(syscall.SIGCONT, false) }

func (n *Node) pause(s syscall.Signal, paused bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.proc == nil || n.proc.ended() {
		return fmt.Errorf("node %s does not run", n.ID)
	}
	if err := n.proc.signal(s); err != nil {
		return fmt.Errorf("signal node %s: %w", n.ID, err)
	}
	n.paused = paused
	return nil
}

// Paused tells whether the node was paused and not resumed.
func (n *Node) Paused() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.paused && n.proc != nil && !n.proc.ended()
}

// Events returns the log events of this name in the current run.
func (n *Node) Events(name string) []Event {
	p := n.current()
	if p == nil {
		return nil
	}
	return p.find(name)
}

// Tail returns the last lines of the log of the current run.
func (n *Node) Tail() []string {
	p := n.current()
	if p == nil {
		return nil
	}
	return p.tail()
}

// LogLines is how many lines the current run has written.
func (n *Node) LogLines() int {
	p := n.current()
	if p == nil {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lines
}

// EventCounts is how often each log event was written in the current run.
func (n *Node) EventCounts() map[string]int {
	counts := map[string]int{}
	p := n.current()
	if p == nil {
		return counts
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.events {
		counts[e.Name]++
	}
	return counts
}

// Pid is the process id, 0 when nothing runs.
func (n *Node) Pid() int {
	p := n.current()
	if p == nil || p.ended() {
		return 0
	}
	return p.cmd.Process.Pid
}

// Wipe deletes the data directory of a node that does not run.
func (n *Node) Wipe() error {
	if n.Running() {
		return fmt.Errorf("node %s runs: its data cannot be deleted", n.ID)
	}
	return os.RemoveAll(n.DataDir)
}

// DiskBytes sums the sizes of the files in the data directory.
func (n *Node) DiskBytes() (total int64) {
	_ = filepath.Walk(n.DataDir, func(_ string, fi os.FileInfo, err error) error {
		if err == nil && fi.Mode().IsRegular() {
			total += fi.Size()
		}
		return nil
	})
	return total
}

func (n *Node) current() *process {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.proc
}
