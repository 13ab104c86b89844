package main

import (
	"context"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
)

// supervisor tells systemd how the node is (sd_notify(3)): READY when /readyz holds, STOPPING, and, if the unit has
// WatchdogSec, that the process makes progress. Without NOTIFY_SOCKET it does nothing.
type supervisor struct {
	lg     *zap.Logger
	socket string
	// watchdog is how often it wants to hear of the process, 0 for never.
	watchdog time.Duration
}

func newSupervisor(lg *zap.Logger, getenv func(string) string) *supervisor {
	s := &supervisor{lg: lg, socket: getenv("NOTIFY_SOCKET")}
	if strings.HasPrefix(s.socket, "@") {
		s.socket = "\x00" + s.socket[1:] // an abstract socket
	}
	pid, usec := getenv("WATCHDOG_PID"), getenv("WATCHDOG_USEC")
	if n, err := strconv.ParseInt(usec, 10, 64); err == nil && n > 0 && (pid == "" || pid == strconv.Itoa(os.Getpid())) {
		s.watchdog = time.Duration(n) * time.Microsecond / 2
	}
	return s
}

// say sends one state. A supervisor that cannot be reached must not stop a broker.
func (s *supervisor) say(state string) {
	if s.socket == "" {
		return
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: s.socket, Net: "unixgram"})
	if err == nil {
		_, err = conn.Write([]byte(state))
		_ = conn.Close() // a datagram is out or lost
	}
	if err != nil {
		s.lg.Warn("the supervisor was not told", zap.String("event", "server.notify"), zap.String("state", state), zap.Error(err))
	}
}

// watch reports progress while live says that there is some, until ctx ends.
func (s *supervisor) watch(ctx context.Context, live func() bool) {
	if s.watchdog == 0 || s.socket == "" {
		return
	}
	tick := time.NewTicker(s.watchdog)
	defer tick.Stop()
	for {
		if live() {
			s.say("WATCHDOG=1")
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
