package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/integration/harness"
)

// runAs runs the command line against a node and returns its output and exit code.
func runAs(t testing.TB, at *harness.Node, args ...string) (string, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, harness.Binary(t), append(args, "-e", "http://"+at.AdminAddr())...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return errOut.String(), exit.ExitCode()
	case err != nil:
		t.Fatal(err)
	}
	return out.String(), 0
}

// TestAPIKeysOnThreeNodes: a key that one node made lets in at all of them and, once it is taken back, nowhere; a node that comes
// back without a majority is not open.
func TestAPIKeysOnThreeNodes(t *testing.T) {
	long(t)
	c := harness.Start(t, harness.Options{Nodes: 3})
	dir := t.TempDir()
	save := func(name, key string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(key), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	mint := func(at *harness.Node, args ...string) string {
		t.Helper()
		var key string
		harness.Wait(t, patience, fmt.Sprintf("a key made at %s with %q", at.ID, args), func(context.Context) error {
			out, code := runAs(t, at, append([]string{"apikey", "add"}, args...)...)
			switch code {
			case 0:
				key = out
				return nil
			case 3: // the key that it is asked with has not come to this node yet
				return errors.New(out)
			}
			return harness.Never(fmt.Errorf("exit code %d: %s", code, out))
		})
		return key
	}
	wants := func(at *harness.Node, code int, args ...string) {
		t.Helper()
		harness.Wait(t, patience, fmt.Sprintf("%q at %s to exit with %d", args, at.ID, code), func(context.Context) error {
			if out, got := runAs(t, at, args...); got != code {
				return fmt.Errorf("it exits with %d: %s", got, out)
			}
			return nil
		})
	}
	n1, n2, n3 := c.Nodes[0], c.Nodes[1], c.Nodes[2]
	if _, code := runAs(t, n1, "apikey", "add", "first", "--role", "viewer"); code != 8 {
		t.Errorf("a first key that could make no other: %d", code)
	}
	root := save("root", mint(n1, "root", "--role", "admin"))
	look := save("look", mint(n2, "look", "--role", "viewer", "--token-file", root))
	brief := save("brief", mint(n3, "brief", "--role", "viewer", "--expires", "1s", "--token-file", root))
	for _, n := range c.Nodes {
		wants(n, 3, "node", "ls")
		wants(n, 0, "node", "ls", "--token-file", look)
		wants(n, 3, "node", "drain", "n3", "--token-file", look)
		wants(n, 3, "node", "ls", "--token-file", brief) // it has expired, sooner or later
		harness.Wait(t, patience, "the probes, which ask for no key", n.Readyz)
		var refused *harness.HTTPError
		if err := n.Do(t.Context(), http.MethodGet, "/metrics", nil, nil); !errors.As(err, &refused) || refused.Status != 401 {
			t.Errorf("metrics without a key: %v", err)
		}
	}

	// A node that starts alone knows that there are keys, and does not fall open.
	c.KillAll(t)
	if err := n2.Launch(); err != nil {
		t.Fatal(err)
	}
	wants(n2, 3, "status")
	c.StartAll(t)

	wants(n3, 0, "apikey", "rm", "look", "--token-file", root)
	for _, n := range c.Nodes {
		wants(n, 3, "node", "ls", "--token-file", look)
	}
	if _, code := runAs(t, n1, "apikey", "rm", "root", "--token-file", root); code != 8 {
		t.Errorf("the last admin key beside another: %d", code)
	}
	wants(n1, 0, "apikey", "rm", "brief", "--token-file", root)

	// Each node says what was asked of it since its start, and every node shows it all.
	out, code := runAs(t, n1, "audit", "ls", "--token-file", root, "-o", "json")
	var log struct {
		Items []struct{ Actor, Action, Node, Result string }
	}
	if err := json.Unmarshal([]byte(out), &log); err != nil || code != 0 {
		t.Fatalf("audit ls: %d %s", code, out)
	}
	seen := map[string]bool{}
	for _, e := range log.Items {
		seen[e.Actor+" "+e.Action+" "+e.Node+" "+e.Result] = true
	}
	for _, want := range []string{"key:root delete-api-key n3 ok", "key:root delete-api-key n1 refused"} {
		if !seen[want] {
			t.Errorf("the audit log lacks %q: %v", want, seen)
		}
	}
	wants(n2, 0, "apikey", "rm", "root", "--token-file", root)
	for _, n := range c.Nodes {
		wants(n, 0, "node", "ls") // nothing is configured any more
	}
}
