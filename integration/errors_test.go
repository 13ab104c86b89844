package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/cmd/flotilla/mqttc"
	"github.com/flotilla-mqtt/flotilla/integration/harness"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// Exit codes of INTERFACES section 4.
const (
	exitUsage      = 2
	exitNoMajority = 5
	exitIdentity   = 9
)

// flotilla runs the binary to its end.
func flotilla(t testing.TB, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, harness.Binary(t), args...)
	cmd.Dir = t.TempDir()
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		t.Fatalf("flotilla %v: %v %v\n%s", args, err, ctx.Err(), errOut.String())
	}
	return cmd.ProcessState.ExitCode(), out.String(), errOut.String()
}

// TestWrongUsage: a wrong flag, key, argument or address ends the program with exit code 2 and a sentence that names it.
func TestWrongUsage(t *testing.T) {
	long(t)
	dir := t.TempDir()
	config := filepath.Join(dir, "flotilla.yaml")
	if err := os.WriteFile(config, []byte("version: 1\nmqtt_addr: 127.0.0.1:0\nshrads: 8\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "data")
	free := []string{"--mqtt-addr", "127.0.0.1:0", "--cluster-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0", "--data-dir", data}
	for _, c := range []struct {
		name string
		args []string
		says []string
	}{
		{"unknown flag", []string{"start", "--mqqt-addr", "x"}, []string{"mqqt-addr"}},
		{"unknown command", []string{"strat"}, []string{"strat"}},
		{"extra argument", []string{"start", "now"}, []string{"now"}},
		{"unknown key in the file", []string{"start", "--config", config}, []string{"flotilla.yaml:3", "shrads"}},
		{"the same by config check", []string{"config", "check", config}, []string{"flotilla.yaml:3", "shrads"}},
		{"missing file", []string{"start", "--config", filepath.Join(dir, "none.yaml")}, []string{"none.yaml"}},
		{"unknown key in --set", append([]string{"start", "--set", "limits.conections=1"}, free...), []string{"limits.conections"}},
		{"wrong unit", append([]string{"start", "--set", "raft.heartbeat=1 fortnight"}, free...), []string{"raft.heartbeat"}},
		{"heartbeat above the lease", append([]string{"start", "--set", "raft.heartbeat=5s"}, free...), []string{"lease"}},
		{"no port", append([]string{"start"}, append(free, "--mqtt-addr", "localhost")...), []string{"localhost"}},
		{"MQTT beyond loopback", append([]string{"start"}, append(free, "--mqtt-addr", "0.0.0.0:0")...), []string{"--allow-anonymous"}},
		{"cluster port beyond loopback", append([]string{"start"}, append(free, "--cluster-addr", "0.0.0.0:0", "--advertise-addr", "127.0.0.1:7400")...), []string{"--insecure-cluster"}},
		{"too many addresses", append([]string{"start"}, append(free, "--bootstrap-expect", "1", "--join", "127.0.0.1:1,127.0.0.1:2")...), []string{"join"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, _, stderr := flotilla(t, c.args...)
			if code != exitUsage {
				t.Errorf("exit code %d, want %d", code, exitUsage)
			}
			for _, s := range c.says {
				if !strings.Contains(stderr, s) {
					t.Errorf("stderr does not name %q:\n%s", s, stderr)
				}
			}
		})
	}
}

// TestAddressInUse: the message names the address, and the data directory is usable afterwards.
func TestAddressInUse(t *testing.T) {
	long(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, flag := range []string{"--mqtt-addr", "--cluster-addr", "--admin-addr"} {
		c := harness.New(t, harness.Options{FreePorts: true})
		n := c.Nodes[0]
		if err := n.Launch(flag, taken.Addr().String()); err != nil {
			t.Fatal(err)
		}
		if code := n.WaitExit(t, patience); code <= 0 {
			t.Errorf("%s in use: exit code %d", flag, code)
		}
		if text := strings.Join(n.Tail(), "\n"); !strings.Contains(text, taken.Addr().String()) {
			t.Errorf("%s in use: the log does not name the address:\n%s", flag, text)
		}
		n.Start(t)
	}
}

// TestDataDirectoryOfAnother: a directory in use, another node id, another cluster's data and an emptied directory under a known
// identity must not run. I25.
func TestDataDirectoryOfAnother(t *testing.T) {
	long(t)
	c := harness.Start(t, harness.Options{Nodes: 3})
	n3 := c.Nodes[2]

	t.Run("in use", func(t *testing.T) {
		code, _, stderr := flotilla(t, "start", "--data-dir", n3.DataDir, "--mqtt-addr", "127.0.0.1:0", "--cluster-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0")
		if code <= 0 || !strings.Contains(stderr, "in use") || !strings.Contains(stderr, "--data-dir") {
			t.Errorf("exit code %d:\n%s", code, stderr)
		}
	})
	if err := n3.Kill(); err != nil {
		t.Fatal(err)
	}
	t.Run("another node id", func(t *testing.T) {
		code, _, stderr := flotilla(t, "start", "--node-id", "n9", "--data-dir", n3.DataDir, "--mqtt-addr", "127.0.0.1:0", "--cluster-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0")
		if code != exitIdentity || !strings.Contains(stderr, "n9") || !strings.Contains(stderr, "n3") {
			t.Errorf("exit code %d, want %d and both ids:\n%s", code, exitIdentity, stderr)
		}
	})
	kept := n3.DataDir + ".kept"
	if err := os.Rename(n3.DataDir, kept); err != nil {
		t.Fatal(err)
	}
	t.Run("empty under a known identity", func(t *testing.T) {
		if err := n3.Launch(); err != nil {
			t.Fatal(err)
		}
		defer n3.Kill()
		if code := n3.WaitExit(t, patience); code != exitIdentity {
			t.Errorf("exit code %d, want %d", code, exitIdentity)
		}
	})
	t.Run("of another cluster", func(t *testing.T) {
		if err := n3.Wipe(); err != nil {
			t.Fatal(err)
		}
		defer n3.Wipe()
		defer n3.Kill()
		// A cluster of one node with the same node id makes the directory.
		other := harness.New(t, harness.Options{Nodes: 1})
		o := other.Nodes[0]
		if err := o.Launch("--node-id", "n3", "--data-dir", n3.DataDir); err != nil {
			t.Fatal(err)
		}
		o.WaitReady(t)
		o.Stop(t)
		if err := n3.Launch(); err != nil {
			t.Fatal(err)
		}
		// It goes on as what it is, a cluster of its own, or ends; this cluster does not take it for its member.
		harness.Wait(t, slack(15*time.Second), "the cluster to see n3 as down", func(ctx context.Context) error {
			s, err := c.Nodes[0].Status(ctx)
			if err != nil {
				return err
			}
			for _, m := range s.Nodes {
				if m.ID == "n3" && m.State != "down" {
					return fmt.Errorf("it is %s", m.State)
				}
			}
			return nil
		})
		if s, err := n3.Status(t.Context()); err == nil {
			if ours, err := c.Nodes[0].Status(t.Context()); err != nil || s.ClusterID == ours.ClusterID {
				t.Errorf("the node says that it is of cluster %s, %v", s.ClusterID, err)
			}
		}
	})
	if err := os.Rename(kept, n3.DataDir); err != nil {
		t.Fatal(err)
	}
	n3.Start(t)
	c.WaitHealthy(t, patience)
}

// TestWithoutQuorum: one node of three acknowledges nothing, says so, drops its clients within lease + 1 s, and heals by itself
// when the others come back. I26.
func TestWithoutQuorum(t *testing.T) {
	long(t)
	c := harness.Start(t, harness.Options{Nodes: 3})
	alone := c.Nodes[0]
	client := connect(t, alone, "client")
	client.subscribe(t, mqtt.SubscribeFilter{Filter: "quorum/#", QoS: 1})
	client.publish(t, "quorum/x", "before", 1)
	client.wait(t, 1)
	if err := harness.KillAll(c.Nodes[1:]...); err != nil {
		t.Fatal(err)
	}
	lost := time.Now()

	ctx, cancel := context.WithTimeout(t.Context(), slack(10*time.Second))
	defer cancel()
	if ack, err := client.Publish(ctx, &mqtt.Publish{Topic: []byte("quorum/x"), Payload: []byte("alone"), QoS: 1}); err == nil && ack.Code < 0x80 {
		t.Errorf("a publish without a quorum was acknowledged with %v", ack.Code)
	}
	client.waitGone(t, slack(8*time.Second))
	// Lease 5 s + 1 s, and a second for the rest.
	if d := time.Since(lost); d > slack(7*time.Second) {
		t.Errorf("the client was dropped %v after the loss, want at most lease + 1s", d)
	}
	harness.Wait(t, slack(10*time.Second), "/readyz to fail", func(ctx context.Context) error {
		err := alone.Readyz(ctx)
		var answer *harness.HTTPError
		if errors.As(err, &answer) && answer.Status == http.StatusServiceUnavailable {
			return nil
		}
		return fmt.Errorf("it says %w", err)
	})
	if err := alone.Do(t.Context(), http.MethodGet, "/livez", nil, nil); err != nil {
		t.Errorf("/livez without a quorum: %v", err)
	}
	start := time.Now()
	_, err := tryConnect(t, alone, "client")
	var refused *mqttc.RefusedError
	if err == nil || errors.As(err, &refused) && refused.Code != mqtt.ServerUnavailable {
		t.Errorf("CONNECT without a quorum: %v, want 0x88 or a closed connection", err)
	}
	if d := time.Since(start); d > slack(7*time.Second) {
		t.Errorf("CONNECT without a quorum took %v", d)
	}
	s, err := alone.Status(t.Context())
	if err != nil || s.Healthy || len(s.Reasons) == 0 {
		t.Errorf("status without a quorum: healthy %v, reasons %q, %v", s.Healthy, s.Reasons, err)
	}
	if code, out, stderr := flotilla(t, "status", "-e", "http://"+alone.AdminAddr()); code != 0 || out == "" {
		t.Errorf("flotilla status: exit code %d\n%s%s", code, out, stderr)
	}
	if code, out, stderr := flotilla(t, "cluster", "health", "-e", "http://"+alone.AdminAddr()); code != exitNoMajority {
		t.Errorf("flotilla cluster health: exit code %d, want %d\n%s%s", code, exitNoMajority, out, stderr)
	}

	c.StartAll(t)
	back := connect(t, alone, "client")
	if !back.SessionPresent() {
		t.Error("the session is gone")
	}
	back.publish(t, "quorum/x", "after", 1)
	harness.Wait(t, patience, "the message after the healing", func(context.Context) error {
		got := back.payloads()
		if len(got) == 0 || got[len(got)-1] != "after" {
			return fmt.Errorf("received %q", got)
		}
		return nil
	})
	if code, out, stderr := flotilla(t, "cluster", "health", "--wait", "30s", "-e", "http://"+alone.AdminAddr()); code != 0 {
		t.Errorf("flotilla cluster health after healing: exit code %d\n%s%s", code, out, stderr)
	}
}
