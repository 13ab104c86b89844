package integration

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/flotilla-mqtt/flotilla/integration/harness"
)

// needMosquitto skips without the clients, except in CI, where .ci/run installs them.
func needMosquitto(t *testing.T) {
	t.Helper()
	for _, tool := range []string{"mosquitto_pub", "mosquitto_sub"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("FLOTILLA_CI") != "" {
				t.Fatalf("%s is not installed", tool)
			}
			t.Skipf("%s is not installed (package mosquitto-clients)", tool)
		}
	}
}

// mosquittoVersion is what -V takes.
type mosquittoVersion string

const (
	v31  mosquittoVersion = "mqttv31"
	v311 mosquittoVersion = "mqttv311"
	v5   mosquittoVersion = "mqttv5"
)

func mosquittoVersions() []mosquittoVersion { return []mosquittoVersion{v31, v311, v5} }

func hostPort(t testing.TB, addr string) []string {
	t.Helper()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return []string{"-h", host, "-p", port}
}

// mosquittoPub publishes and fails the test unless mosquitto_pub says that it did.
func mosquittoPub(t testing.TB, addr string, v mosquittoVersion, stdin string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "mosquitto_pub", append(append(hostPort(t, addr), "-V", string(v)), args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("mosquitto_pub %v: %v\n%s", args, err, out)
	}
}

// received is one message as mosquitto_sub prints it.
type received struct {
	Topic, QoS, Retain, Payload, Extra string
}

// mosquittoSub is a running mosquitto_sub.
type mosquittoSub struct {
	t    testing.TB
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended

	mu    sync.Mutex
	lines []string // guarded by mu; everything it printed
}

// subFormat makes a message one line that cannot be mistaken for a debug line.
const subFormat = "MSG|%t|%q|%r|%C;%P|%p"

// startSub starts mosquitto_sub and waits until its subscription is granted, or with -c its session is there.
func startSub(t testing.TB, addr string, v mosquittoVersion, args ...string) *mosquittoSub {
	t.Helper()
	all := append(append(hostPort(t, addr), "-V", string(v), "-d", "-F", subFormat), args...)
	s := &mosquittoSub{t: t, cmd: exec.Command("stdbuf", append([]string{"-oL", "mosquitto_sub"}, all...)...), done: make(chan struct{})}
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.cmd.Stderr = s.cmd.Stdout
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(s.done)
		in := bufio.NewScanner(out)
		in.Buffer(nil, 4<<20)
		for in.Scan() {
			s.mu.Lock()
			s.lines = append(s.lines, in.Text())
			s.mu.Unlock()
		}
		_ = s.cmd.Wait()
	}()
	t.Cleanup(s.kill)
	s.waitLine("Subscribed (mid")
	return s
}

func (s *mosquittoSub) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.lines...)
}

func (s *mosquittoSub) waitLine(prefix string) {
	s.t.Helper()
	harness.Wait(s.t, patience, "mosquitto_sub to print "+prefix, func(context.Context) error {
		for _, l := range s.all() {
			if strings.HasPrefix(l, prefix) {
				return nil
			}
		}
		select {
		case <-s.done:
			return harness.Never(fmt.Errorf("it ended: %q", s.all()))
		default:
			return fmt.Errorf("it printed %q", s.all())
		}
	})
}

func (s *mosquittoSub) messages() []received {
	var list []received
	for _, l := range s.all() {
		if rest, ok := strings.CutPrefix(l, "MSG|"); ok {
			f := strings.SplitN(rest, "|", 5)
			list = append(list, received{f[0], f[1], f[2], f[4], f[3]})
		}
	}
	return list
}

// wait waits for n messages and returns them.
func (s *mosquittoSub) wait(n int) []received {
	s.t.Helper()
	harness.Wait(s.t, patience, fmt.Sprintf("mosquitto_sub to receive %d messages", n), func(context.Context) error {
		if got := s.messages(); len(got) < n {
			return fmt.Errorf("it has %d: %v", len(got), got)
		}
		return nil
	})
	return s.messages()
}

// stop ends it like Ctrl-C: with a DISCONNECT.
func (s *mosquittoSub) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	<-s.done
}

// kill ends it like a crash.
func (s *mosquittoSub) kill() {
	_ = s.cmd.Process.Kill()
	<-s.done
}
