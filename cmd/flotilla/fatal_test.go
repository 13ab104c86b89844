package main

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/flotilla-mqtt/flotilla/cluster"
	"github.com/flotilla-mqtt/flotilla/raftfsm"
)

// TestFatalCode: the packages' service starts a node again, but not after the codes 2, 9 and 10. A log that conflicts
// with a snapshot is cured by a start.
func TestFatalCode(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{fmt.Errorf("%w: %w: entry 7 of group 1", raftfsm.ErrFailStop, raftfsm.ErrDivergent), exitFailed},
		{fmt.Errorf("%w: %w", raftfsm.ErrFailStop, syscall.EIO), exitFailStop},
		{fmt.Errorf("%w: removed", cluster.ErrIdentity), exitIdentity},
		{raftfsm.ErrIdentity, exitIdentity},
	} {
		if got := fatalCode(c.err); got != c.want {
			t.Errorf("%v: exit code %d, want %d", c.err, got, c.want)
		}
	}
}

func TestStartErrorSaysWhatToDo(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("%w: mqtt-addr: %w", cluster.ErrConfig, &net.OpError{Op: "listen", Net: "tcp", Err: syscall.EADDRINUSE}), "--mqtt-addr"},
		{fmt.Errorf("%w: data directory: %w", cluster.ErrConfig, syscall.EROFS), "--data-dir"},
		{fmt.Errorf("data directory: %w", syscall.EACCES), "--data-dir"},
		{raftfsm.ErrLocked, "another node is running"},
		{&net.OpError{Op: "listen", Net: "tcp", Err: syscall.EACCES}, ""},
	} {
		var coded *codedError
		if !errors.As(startError(c.err), &coded) || c.want == "" != (coded.hint == "") || !strings.Contains(coded.hint, c.want) {
			t.Errorf("%v: hint %q, want %q", c.err, coded.hint, c.want)
		}
	}
}
