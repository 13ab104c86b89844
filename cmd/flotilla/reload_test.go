package main

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/flotilla-mqtt/flotilla/cluster"
	"github.com/flotilla-mqtt/flotilla/cmd/flotilla/config"
	"github.com/flotilla-mqtt/flotilla/session"
	"github.com/flotilla-mqtt/flotilla/session/auth"
)

// TestHangUpReadsUsersAgain: a new user is known after SIGHUP, and a broken file
// leaves the old ones.
func TestHangUpReadsUsersAgain(t *testing.T) {
	file := filepath.Join(t.TempDir(), "users.conf")
	write := func(names ...string) {
		t.Helper()
		var text string
		for _, n := range names {
			line, err := auth.Line(n, []byte("secret"), 0)
			if err != nil {
				t.Fatal(err)
			}
			text += line + "\n"
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("alice")
	cfg := config.Default()
	cfg.Auth.Chain = []config.Backend{{Type: "file", Path: file}}
	known, chain, err := openUsers(&cfg)
	if err != nil {
		t.Fatal(err)
	}
	may := func(name string) bool {
		_, err := chain.Authenticate(t.Context(), &session.Credentials{HasUsername: true, Username: name, HasPassword: true, Password: []byte("secret")})
		return err == nil
	}
	core, logs := observer.New(zap.InfoLevel)
	p := &process{lg: zap.New(core), node: new(cluster.Node), users: known}
	ctx, cancel := context.WithCancel(t.Context())
	done := p.watchReload(ctx)
	hangUp := func(event string) {
		t.Helper()
		before := logs.FilterField(zap.String("event", event)).Len()
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		deadline := time.NewTimer(10 * time.Second)
		defer deadline.Stop()
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for logs.FilterField(zap.String("event", event)).Len() == before {
			select {
			case <-deadline.C:
				t.Fatalf("no %s after SIGHUP", event)
			case <-tick.C:
			}
		}
	}
	if !may("alice") || may("bob") {
		t.Fatal("the file is not read")
	}
	write("alice", "bob")
	hangUp("config.reloaded")
	if !may("bob") {
		t.Error("the new user is not known")
	}
	if err := os.WriteFile(file, []byte("alice:secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	hangUp("config.rejected")
	if !may("alice") || !may("bob") {
		t.Error("a broken file took users away")
	}
	cancel()
	<-done
}

// TestMemoryMark: a share is of the limit, a size is itself.
func TestMemoryMark(t *testing.T) {
	for _, c := range []struct {
		mark  config.Watermark
		limit int64
		want  int64
	}{
		{config.Watermark{Percent: 80}, 1000, 800}, {config.Watermark{Percent: 80}, 0, 0}, {config.Watermark{Bytes: 5 << 20}, 1000, 5 << 20},
	} {
		if got := memoryMark(c.mark, c.limit); got != c.want {
			t.Errorf("%s of %d is %d, want %d", c.mark, c.limit, got, c.want)
		}
	}
	root := t.TempDir()
	for text, want := range map[string]int64{"max\n": 0, "1073741824\n": 1 << 30, "9223372036854771712\n": 0, "x": 0} {
		if err := os.WriteFile(filepath.Join(root, "memory.max"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := containerMemory(root); got != want {
			t.Errorf("memory.max %q is %d, want %d", text, got, want)
		}
	}
	info := filepath.Join(root, "meminfo")
	if err := os.WriteFile(info, []byte("MemTotal:       16303204 kB\nMemFree: 1 kB\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := machineMemory(info); got != 16303204<<10 {
		t.Errorf("machine memory %d", got)
	}
}
