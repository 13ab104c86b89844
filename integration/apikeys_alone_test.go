package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/flotilla-mqtt/flotilla/integration/harness"
)

// TestAPIKeysWithoutAMajority: a node that starts alone lets in who had a key when it was stopped, in the role of the
// key, and nobody else; its file has no secret.
func TestAPIKeysWithoutAMajority(t *testing.T) {
	long(t)
	c := harness.Start(t, harness.Options{Nodes: 3})
	n1, n2 := c.Nodes[0], c.Nodes[1]
	dir := t.TempDir()
	mint := func(name string, args ...string) string {
		t.Helper()
		key, code := runAs(t, n1, append([]string{"apikey", "add", name}, args...)...)
		if code != 0 {
			t.Fatalf("apikey add %s: %d %s", name, code, key)
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(key), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	wants := func(at *harness.Node, code int, args ...string) {
		t.Helper()
		harness.Wait(t, 20*time.Second, fmt.Sprintf("%q at %s to exit with %d", args, at.ID, code), func(context.Context) error {
			if out, got := runAs(t, at, args...); got != code {
				return fmt.Errorf("it exits with %d: %s", got, out)
			}
			return nil
		})
	}
	root := mint("root", "--role", "admin")
	look := mint("look", "--role", "viewer", "--token-file", root)
	gone := mint("gone", "--role", "viewer", "--token-file", root)
	wants(n1, 0, "apikey", "rm", "gone", "--token-file", root)
	wants(n2, 0, "status", "--token-file", look)
	wants(n2, 3, "status", "--token-file", gone)

	// The file follows a moment after the key. Its records have names in clear, and no secret.
	file := filepath.Join(n2.DataDir, "apikeys.json")
	secret, err := os.ReadFile(look)
	if err != nil {
		t.Fatal(err)
	}
	harness.Wait(t, 10*time.Second, "the file of keys to be up to date", func(context.Context) error {
		raw, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		var f struct{ Keys [][]byte }
		if err := json.Unmarshal(raw, &f); err != nil {
			return err
		}
		all := bytes.Join(f.Keys, nil)
		if len(f.Keys) != 2 || !bytes.Contains(all, []byte("look")) || bytes.Contains(all, []byte("gone")) {
			return fmt.Errorf("it has %q", f.Keys)
		}
		if bytes.Contains(all, bytes.TrimSpace(secret)) {
			t.Errorf("it has the secret: %q", f.Keys)
		}
		return nil
	})
	c.KillAll(t)
	if err := n2.Launch(); err != nil {
		t.Fatal(err)
	}
	wants(n2, 3, "status")
	wants(n2, 0, "status", "--token-file", look)
	wants(n2, 3, "status", "--token-file", gone)
	wants(n2, 3, "listener", "pause", "n2/mqtt", "--token-file", look) // not in its role
	wants(n2, 0, "apikey", "ls", "--stale", "--token-file", root)
	wants(n2, 5, "apikey", "add", "more", "--role", "viewer", "--token-file", root) // nobody can decide

	c.StartAll(t)
	wants(n2, 0, "apikey", "rm", "look", "--token-file", root)
	wants(n2, 3, "status", "--token-file", look)
	wants(n1, 0, "apikey", "rm", "root", "--token-file", root)
	for _, n := range c.Nodes {
		wants(n, 0, "status")
	}
	harness.Wait(t, 10*time.Second, "the file of keys to go with the last key", func(context.Context) error {
		if _, err := os.Stat(file); !os.IsNotExist(err) {
			return fmt.Errorf("it is there: %v", err)
		}
		return nil
	})
}
