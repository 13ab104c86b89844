package integration

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/flotilla-mqtt/flotilla/integration/harness"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// script is docs/api.sh as an operator runs it.
type script struct {
	node  *harness.Node
	token string // file with an API key
}

// run returns what the script printed, without the last line break, and its exit code.
func (s *script) run(t testing.TB, args ...string) (out, problem string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join("..", "docs", "api.sh"), args...)
	cmd.Env = append(os.Environ(), "FLOTILLA_URL=http://"+s.node.AdminAddr(), "FLOTILLA_TOKEN_FILE="+s.token)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(stdout.String(), "\n"), stderr.String(), cmd.ProcessState.ExitCode()
}

// prints waits until a task prints what is wanted: what one node was told, another shows a moment later.
func (s *script) prints(t testing.TB, want string, args ...string) {
	t.Helper()
	harness.Wait(t, patience, fmt.Sprintf("api.sh %q to print %q", args, want), func(context.Context) error {
		out, problem, code := s.run(t, args...)
		if code != 0 || out != want {
			return fmt.Errorf("it printed %q %q, exit code %d", out, problem, code)
		}
		return nil
	})
}

// does runs a task that changes something, once.
func (s *script) does(t testing.TB, want string, args ...string) {
	t.Helper()
	if out, problem, code := s.run(t, args...); code != 0 || out != want {
		t.Errorf("api.sh %q printed %q %q, exit code %d, want %q", args, out, problem, code, want)
	}
}

// TestScriptOfTheAPI runs every task of docs/api.sh.
func TestScriptOfTheAPI(t *testing.T) {
	long(t)
	for _, tool := range []string{"bash", "curl", "jq"} {
		if _, err := exec.LookPath(tool); err != nil {
			needClient(t, fmt.Errorf("docs/api.sh needs %s: %w", tool, err))
		}
	}
	c := harness.Start(t, harness.Options{Nodes: 2})
	n1, n2 := c.Nodes[0], c.Nodes[1]
	c.WaitHealthy(t, patience)
	s := &script{node: n1}
	if out, problem, code := s.run(t); code != 2 || out != "" || !strings.Contains(problem, "unkey NAME") || strings.Contains(problem, "set -") {
		t.Errorf("without a task: exit code %d, %q %q", code, out, problem)
	}
	status, err := n1.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.prints(t, fmt.Sprintf("cluster %s: healthy\nn1 ready\nn2 ready", status.ClusterID), "status")

	// The topic, the text and the client id hold what a shell, a URL and JSON would each take for something else.
	const client, topic, text = "a/b c", "site/é/1", `{"on": "yes & 100%"}`
	away := connect(t, n2, client)
	away.subscribe(t, mqtt.SubscribeFilter{Filter: "site/#", QoS: 1})
	_ = away.Close()
	s.does(t, "success", "publish", topic, text)
	s.prints(t, "1 "+topic+" queued "+text, "inbox", client)
	source := connect(t, n2, "source", transient)
	ack, err := source.Publish(t.Context(), &mqtt.Publish{Topic: []byte("kept/x"), Payload: []byte("21.5"), QoS: 1, Retain: true})
	if err != nil || ack.Code.Failed() {
		t.Fatal(ack.Code, err)
	}
	s.prints(t, "21.5", "retained", "kept/x")
	s.does(t, "kicked from n2", "kick", "source")
	source.waitGone(t, patience)
	if out, problem, code := s.run(t, "kick", "nobody"); code != 1 || out != "" || !strings.HasPrefix(problem, "not-found: ") {
		t.Errorf("kick nobody: exit code %d, %q %q", code, out, problem)
	}

	key, problem, code := s.run(t, "key", "root", "admin")
	if code != 0 || key == "" {
		t.Fatalf("key: exit code %d, %q", code, problem)
	}
	harness.Wait(t, patience, "a key to be asked for", func(context.Context) error {
		if _, problem, code := s.run(t, "status"); code != 1 || !strings.HasPrefix(problem, "unauthenticated: ") {
			return fmt.Errorf("exit code %d, %q", code, problem)
		}
		return nil
	})
	s.token = filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(s.token, []byte(key), 0o600); err != nil {
		t.Fatal(err)
	}
	s.does(t, "drain of n2: done", "drain", "n2")
	s.does(t, "removed", "unkey", "root")
}
