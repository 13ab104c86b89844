package main

import (
	"context"
	"errors"
	"syscall"
	"testing"
	"time"
)

func TestSecondSignalExitsAtOnce(t *testing.T) {
	exited := make(chan int, 1)
	ctx, stop := untilSignal(context.Background(), func(code int) { exited <- code })
	defer stop()
	for i := range 2 {
		if err := syscall.Kill(syscall.Getpid(), syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			select {
			case <-ctx.Done():
			case <-time.After(10 * time.Second):
				t.Fatal("the first signal does not end the context")
			}
			var s *signalError
			if !errors.As(context.Cause(ctx), &s) || s.signal != syscall.SIGINT {
				t.Errorf("cause %v", context.Cause(ctx))
			}
		}
	}
	select {
	case code := <-exited:
		if code != exitInterrupted {
			t.Errorf("exit code %d", code)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the second signal does not exit")
	}
}

func TestExitCodeOfErrors(t *testing.T) {
	for want, err := range map[int]error{
		exitUsage:   usagef("x"),
		exitTimeout: context.DeadlineExceeded,
		exitFailed:  errors.New("x"),
		exitServer:  silent(exitServer),
	} {
		if got := exitCode(err); got != want {
			t.Errorf("%v: %d, want %d", err, got, want)
		}
	}
}
