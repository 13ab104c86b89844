package harness

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

const fakeVariable = "FLOTILLA_HARNESS_FAKE"

// TestMain makes the test binary its own fake node: it understands the flags of `start` and answers /readyz.
func TestMain(m *testing.M) {
	if mode := os.Getenv(fakeVariable); mode != "" {
		os.Exit(fakeNode(mode, os.Args[2:]))
	}
	os.Setenv("FLOTILLA_BIN", os.Args[0])
	goleak.VerifyTestMain(m)
}

func fakeNode(mode string, args []string) int {
	fs := flag.NewFlagSet("start", flag.ContinueOnError)
	id := fs.String("node-id", "", "")
	mqtt, cluster, admin := fs.String("mqtt-addr", "", ""), fs.String("cluster-addr", "", ""), fs.String("admin-addr", "", "")
	for _, ignored := range []string{"data-dir", "log-format", "join", "bootstrap-expect", "advertise-addr"} {
		fs.String(ignored, "", "")
	}
	if err := fs.Parse(args); err != nil || mode == "refuse" {
		fmt.Fprintln(os.Stderr, "refused")
		return 2
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	for _, a := range []*string{mqtt, cluster, admin} {
		l, err := net.Listen("tcp", *a)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		*a = l.Addr().String()
		if a != admin {
			continue
		}
		mux := http.NewServeMux()
		mux.HandleFunc("/readyz", func(http.ResponseWriter, *http.Request) {})
		mux.HandleFunc("/api/v1/groups", func(w http.ResponseWriter, _ *http.Request) {
			digest := "aa"
			if mode == "diverge" {
				digest = *id
			}
			fmt.Fprintf(w, `{"items":[{"id":1,"leader":"n1","replicas":["n1","n2"],"local":true,"applied_index":7,"digest_index":7,"digest":%q}]}`, digest)
		})
		go http.Serve(l, mux)
	}
	line, _ := json.Marshal(map[string]any{"event": "server.ready", "mqtt_addr": *mqtt, "cluster_addr": *cluster, "admin_addr": *admin})
	fmt.Fprintln(os.Stderr, string(line))
	<-stop
	return 0
}

func fakeCluster(t *testing.T, mode string, o Options) *Cluster {
	t.Helper()
	o.Env = append(o.Env, fakeVariable+"="+mode)
	return New(t, o)
}

func TestNodeLifeCycle(t *testing.T) {
	c := fakeCluster(t, "well", Options{FreePorts: true})
	n := c.Nodes[0]
	n.Start(t)
	first, pid := n.AdminAddr(), n.Pid()
	if strings.HasSuffix(first, ":0") {
		t.Fatalf("admin address is %s after server.ready", first)
	}
	if err := n.Launch(); err == nil {
		t.Error("a second launch beside a running process was accepted")
	}
	if err := n.Kill(); err != nil {
		t.Fatal(err)
	}
	if n.Running() {
		t.Error("node runs after Kill")
	}
	if err := n.Kill(); err != nil {
		t.Errorf("second Kill: %v", err)
	}
	n.Start(t)
	if n.AdminAddr() != first {
		t.Errorf("admin address after the restart: %s, want %s", n.AdminAddr(), first)
	}
	if n.Pid() == pid {
		t.Error("the restart has the same process id")
	}
	n.Stop(t)
	if code := n.WaitExit(t, time.Minute); code != 0 {
		t.Errorf("exit code after SIGTERM: %d", code)
	}
	log, err := os.ReadFile(n.LogPath)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(string(log), "server.ready"); got != 2 {
		t.Errorf("log has %d server.ready, want both runs:\n%s", got, log)
	}
}

func TestStartFailureIsNotWaitedFor(t *testing.T) {
	n := fakeCluster(t, "refuse", Options{}).Nodes[0]
	if err := n.Launch(); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	err := n.Ready(t.Context(), time.Minute)
	if err == nil || !strings.Contains(err.Error(), "exited with code 2") || !strings.Contains(err.Error(), "refused") {
		t.Fatalf("error of a node that refuses to start: %v", err)
	}
	if d := time.Since(start); d > 50*time.Second {
		t.Errorf("it took %v to notice", d)
	}
}

func TestPauseAndKillPaused(t *testing.T) {
	c := fakeCluster(t, "well", Options{})
	n := c.Nodes[0]
	n.Start(t)
	if err := n.Pause(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := n.Readyz(ctx); err == nil {
		t.Error("a paused node answers")
	}
	if !n.Paused() {
		t.Error("Paused says no")
	}
	if err := n.Resume(); err != nil {
		t.Fatal(err)
	}
	Wait(t, time.Minute, "the node to answer again", n.Readyz)
	if err := n.Pause(); err != nil {
		t.Fatal(err)
	}
	if err := n.Kill(); err != nil {
		t.Fatal(err)
	}
	if n.Running() {
		t.Error("a paused node survived SIGKILL")
	}
}

func TestAgreement(t *testing.T) {
	c := fakeCluster(t, "well", Options{Nodes: 2})
	c.StartAll(t)
	c.WaitAgreement(t, time.Minute)

	l := NewDigestLedger()
	group := Group{ID: 1, Local: true, DigestIndex: 7, Digest: "aa"}
	if err := l.Add("n1", []Group{group}); err != nil {
		t.Fatal(err)
	}
	group.Digest = "bb"
	if err := l.Add("n2", []Group{group}); err == nil {
		t.Error("two digests at one index were accepted")
	}
	if l.agreed(1, []string{"n1", "n2"}, 0) || !l.agreed(1, []string{"n1"}, 7) || l.agreed(1, []string{"n1"}, 8) {
		t.Error("agreed is wrong about who was seen where")
	}
}

func TestUntilSaysWhatItWaitedFor(t *testing.T) {
	err := Until(t.Context(), 50*time.Millisecond, "the moon", func(context.Context) error { return errors.New("still day") })
	if err == nil || !strings.Contains(err.Error(), "the moon") || !strings.Contains(err.Error(), "still day") {
		t.Errorf("error: %v", err)
	}
	start := time.Now()
	err = Until(t.Context(), time.Minute, "the moon", func(context.Context) error { return Never(errors.New("it is gone")) })
	if err == nil || !strings.Contains(err.Error(), "it is gone") || time.Since(start) > 50*time.Second {
		t.Errorf("final error: %v after %v", err, time.Since(start))
	}
}

func TestPortsAreDistinctAndFree(t *testing.T) {
	seen := map[int]bool{}
	for range 50 {
		p := ports.Port(t)
		if seen[p] {
			t.Fatalf("port %d was given out twice", p)
		}
		seen[p] = true
	}
}

// echo answers each connection with what it reads.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); _ = c.Close() }()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().String()
}

func roundTrip(c net.Conn, timeout time.Duration) error {
	_ = c.SetDeadline(time.Now().Add(timeout))
	if _, err := c.Write([]byte("ping")); err != nil {
		return err
	}
	buf := make([]byte, 4)
	_, err := io.ReadFull(c, buf)
	return err
}

func TestProxyRules(t *testing.T) {
	p, err := NewProxy(echo(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	dial := func() net.Conn {
		c, err := net.Dial("tcp", p.Addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	c := dial()
	if err := roundTrip(c, time.Minute); err != nil {
		t.Fatalf("without a rule: %v", err)
	}
	for name, r := range map[string]Rule{"in": {StallIn: true}, "out": {StallOut: true}} {
		p.Set(Everybody, r)
		if err := roundTrip(c, 100*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("stalled %s: %v, want a deadline", name, err)
		}
		p.Heal()
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
			t.Errorf("what was stalled %s did not arrive after healing: %v", name, err)
		}
	}
	p.Set(Everybody, Rule{Delay: 50 * time.Millisecond})
	start := time.Now()
	if err := roundTrip(c, time.Minute); err != nil || time.Since(start) < 100*time.Millisecond {
		t.Errorf("delayed both ways by 50 ms: %v after %v", err, time.Since(start))
	}
	p.Set(Everybody, Rule{Cut: true})
	if err := roundTrip(c, time.Minute); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("cut: %v, want a reset", err)
	}
	if again, err := net.Dial("tcp", p.Addr()); err == nil { // the reset may already show in the dial
		if err := roundTrip(again, time.Minute); err == nil {
			t.Error("a new connection passed a cut link")
		}
		_ = again.Close()
	}
	p.Heal()
	if err := roundTrip(dial(), time.Minute); err != nil {
		t.Errorf("after healing: %v", err)
	}
}

func TestProxyKnowsWhoDials(t *testing.T) {
	d := &diallers{pids: func() map[int]string { return map[int]string{os.Getpid(): "me"} }}
	p, err := NewProxy(echo(t), d.of)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	p.Set("me", Rule{Cut: true})
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		return // the reset showed in the dial
	}
	defer c.Close()
	if err := roundTrip(c, time.Minute); err == nil {
		t.Error("the rule of the dialler did not count")
	}
}

func TestMetricsAreSummed(t *testing.T) {
	m, err := ParseMetrics([]byte("# HELP a b\na 1\na_b{x=\"1\",y=\"2\"} 2\na_b{x=\"1\",y=\"3\"} 3.5e0\na_b{x=\"2\"} 4\n\n"))
	if err != nil {
		t.Fatal(err)
	}
	for want, got := range map[float64]float64{1: m.Sum("a"), 9.5: m.Sum("a_b"), 5.5: m.Sum("a_b", `x="1"`), 2: m.Sum("a_b", `x="1"`, `y="2"`), 0: m.Sum("a_", "x")} {
		if got != want {
			t.Errorf("sum is %v, want %v", got, want)
		}
	}
	for _, bad := range []string{"lonely", "a b"} {
		if _, err := ParseMetrics([]byte(bad)); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}
