package main

import (
	"context"
	"net"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/zap"
)

// TestSupervisorHears sends every state to a socket as systemd would give it.
func TestSupervisorHears(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	heard := func() string {
		t.Helper()
		b := make([]byte, 64)
		if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := conn.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
	env := map[string]string{"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "20000"}
	s := newSupervisor(zap.NewNop(), func(k string) string { return env[k] })
	s.say("READY=1")
	if got := heard(); got != "READY=1" {
		t.Errorf("heard %q", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	alive := true
	go func() { defer close(done); s.watch(ctx, func() bool { return alive }) }()
	for range 3 {
		if got := heard(); got != "WATCHDOG=1" {
			t.Errorf("heard %q", got)
		}
	}
	cancel()
	<-done
	// Meant for another process, and nobody there at all: nothing happens.
	env["WATCHDOG_PID"] = "1"
	if s := newSupervisor(zap.NewNop(), func(k string) string { return env[k] }); s.watchdog != 0 {
		t.Error("another process's watchdog was taken for ours")
	}
	newSupervisor(zap.NewNop(), func(string) string { return "" }).say("READY=1")
}
