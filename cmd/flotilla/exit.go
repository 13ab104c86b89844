package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/flotilla-mqtt/flotilla/api/client"
	"github.com/flotilla-mqtt/flotilla/cmd/flotilla/config"
	"github.com/flotilla-mqtt/flotilla/cmd/flotilla/mqttc"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// Exit codes are a contract with scripts.
const (
	exitOK          = 0
	exitFailed      = 1  // failed, or a check failed
	exitUsage       = 2  // wrong usage or configuration, refused address
	exitAuth        = 3  // authentication or permission
	exitNotFound    = 4  // not found or invalid
	exitServer      = 5  // server error; cluster health: no majority
	exitUnreachable = 6  // cannot connect to any endpoint
	exitTimeout     = 7  // the waiting time is over
	exitGuard       = 8  // refused by a safety guard; cluster health: degraded
	exitIdentity    = 9  // node: identity or data directory must not run
	exitFailStop    = 10 // node: storage is damaged or hangs
	exitInterrupted = 130
)

// codedError is an error that knows its exit code.
type codedError struct {
	code  int
	err   error  // nil: nothing is printed
	hint  string // what to do next, may be empty
	usage string // command whose help is worth reading
}

func (e *codedError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit %d", e.code)
	}
	return e.err.Error()
}

func (e *codedError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return &codedError{code: exitUsage, err: fmt.Errorf(format, args...)}
}

func failf(code int, format string, args ...any) error {
	return &codedError{code: code, err: fmt.Errorf(format, args...)}
}

// silent ends the program with a code when all is said already.
func silent(code int) error { return &codedError{code: code} }

// exitCode classifies an error. It is the one table from errors to codes; what
// package cluster reports is classified where it is started.
func exitCode(err error) int {
	var coded *codedError
	var p *client.Problem
	var refused *mqttc.RefusedError
	var netErr *net.OpError
	switch {
	case errors.As(err, &coded):
		return coded.code
	case errors.As(err, &p):
		return problemCode(p)
	case errors.Is(err, client.ErrUnreachable):
		return exitUnreachable
	case errors.Is(err, client.ErrEndpoint), errors.Is(err, client.ErrCredentials), errors.Is(err, config.ErrInvalid), errors.Is(err, mqttc.ErrURL):
		return exitUsage
	case errors.As(err, &refused):
		if refused.Code == mqtt.BadUserNameOrPassword || refused.Code == mqtt.NotAuthorized {
			return exitAuth
		}
		return exitFailed
	case errors.As(err, &netErr) && netErr.Op == "dial":
		return exitUnreachable
	case errors.Is(err, context.DeadlineExceeded):
		return exitTimeout
	default:
		return exitFailed
	}
}

func problemCode(p *client.Problem) int {
	switch {
	case p.Status == 401 || p.Status == 403:
		return exitAuth
	case p.Status == 409:
		return exitGuard
	case p.Status >= 500:
		return exitServer
	default:
		return exitNotFound
	}
}

// report prints an error, a line for each thing that is wrong, and what to do
// next. It returns the exit code.
func (a *app) report(ctx context.Context, err error) int {
	var stopped *signalError
	if ctx.Err() != nil && (errors.As(context.Cause(ctx), &stopped) || errors.Is(err, context.Canceled)) {
		var coded *codedError
		if !errors.As(err, &coded) {
			return exitInterrupted
		}
	}
	var coded *codedError
	if errors.As(err, &coded) && coded.err == nil {
		return coded.code
	}
	for _, line := range strings.Split(strings.TrimRight(err.Error(), "\n"), "\n") {
		fmt.Fprintf(a.errOut, "flotilla: %s\n", line)
	}
	for _, h := range hints(err) {
		fmt.Fprintf(a.errOut, "  %s\n", h)
	}
	return exitCode(err)
}

// hints says what to do next.
func hints(err error) []string {
	var coded *codedError
	var p *client.Problem
	switch {
	case errors.As(err, &coded) && coded.hint != "":
		return []string{coded.hint}
	case errors.As(err, &coded) && coded.usage != "":
		return []string{"see " + coded.usage + " --help"}
	case errors.As(err, &p):
		return p.Hints
	case errors.Is(err, client.ErrUnreachable):
		return []string{"is a node running? start one with: flotilla start", "another admin address is given with: --endpoint http://HOST:PORT"}
	case exitCode(err) == exitUnreachable:
		return []string{"is a node running? another broker is given with: --broker mqtt://HOST:PORT"}
	default:
		return nil
	}
}

// warn prints a line that is not a result.
func warn(w io.Writer, format string, args ...any) {
	fmt.Fprintf(w, "flotilla: warning: "+format+"\n", args...)
}
