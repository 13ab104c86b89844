package harness

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"
)

// pollInterval is how often a wait function looks: short against every time that the suites measure.
const pollInterval = 20 * time.Millisecond

// Until polls cond until it returns nil, or ctx ends, or timeout is over. The error names what was waited for and the last
// answer of cond. It may be called from any goroutine.
func Until(ctx context.Context, timeout time.Duration, what string, cond func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	start := time.Now()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		err := cond(ctx)
		if err == nil {
			return nil
		}
		var final *finalError
		if errors.As(err, &final) {
			return fmt.Errorf("waiting for %s: %w", what, final.err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited %v for %s: %w", time.Since(start).Round(time.Millisecond), what, err)
		case <-tick.C:
		}
	}
}

// Wait is Until for the test's goroutine: it fails the test.
func Wait(tb testing.TB, timeout time.Duration, what string, cond func(context.Context) error) {
	tb.Helper()
	if err := Until(tb.Context(), timeout, what, cond); err != nil {
		tb.Fatal(err)
	}
}

// finalError ends a wait at once: what is waited for can no longer happen.
type finalError struct{ err error }

func (e *finalError) Error() string { return e.err.Error() }
func (e *finalError) Unwrap() error { return e.err }

// Never wraps an error so that a wait that meets it gives up at once.
func Never(err error) error { return &finalError{err} }
