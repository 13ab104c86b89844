package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"go.uber.org/zap/zapcore"

	"github.com/flotilla-mqtt/flotilla/cluster"
)

// logLevels are what a process logs, by name of logger. They may change while it runs.
type logLevels struct {
	began zapcore.Level
	// lowest is the lowest of all levels: what is below it is not even looked at.
	lowest atomic.Int32
	// named is replaced as a whole; "" is the level of all others.
	named atomic.Pointer[map[string]zapcore.Level]

	mu   sync.Mutex
	seen map[string]bool // guarded by mu: loggers that exist
}

var (
	_ cluster.Loggers      = (*logLevels)(nil)
	_ zapcore.LevelEnabler = (*logLevels)(nil)
)

func newLogLevels(l zapcore.Level) *logLevels {
	ll := &logLevels{began: l, seen: map[string]bool{"api": true, "raftfsm": true, "session": true, "transport": true}}
	ll.set(map[string]zapcore.Level{"": l})
	return ll
}

func (ll *logLevels) set(named map[string]zapcore.Level) {
	lowest := named[""]
	for _, l := range named {
		lowest = min(lowest, l)
	}
	ll.named.Store(&named)
	ll.lowest.Store(int32(lowest))
}

// Enabled implements zapcore.LevelEnabler: some logger has this level.
func (ll *logLevels) Enabled(l zapcore.Level) bool { return l >= zapcore.Level(ll.lowest.Load()) }

// enabled says whether a logger has a level. The level of session is that of session.x, too.
func (ll *logLevels) enabled(name string, l zapcore.Level) bool {
	named := *ll.named.Load()
	if len(named) > 1 {
		for at := name; at != ""; {
			if own, ok := named[at]; ok {
				return l >= own
			}
			at = at[:max(strings.LastIndexByte(at, '.'), 0)]
		}
	}
	return l >= named[""]
}

// saw notes that a logger exists.
func (ll *logLevels) saw(name string) {
	if name == "" {
		return
	}
	ll.mu.Lock()
	defer ll.mu.Unlock()
	if len(ll.seen) < maxEvents {
		ll.seen[name] = true
	}
}

// Levels implements cluster.Loggers.
func (ll *logLevels) Levels() map[string]string {
	out := map[string]string{"": (*ll.named.Load())[""].String()}
	ll.mu.Lock()
	names := slices.Sorted(maps.Keys(ll.seen))
	ll.mu.Unlock()
	for _, name := range names {
		for l := zapcore.DebugLevel; l <= zapcore.FatalLevel; l++ {
			if ll.enabled(name, l) {
				out[name] = l.String()
				break
			}
		}
	}
	return out
}

// SetLevel implements cluster.Loggers.
func (ll *logLevels) SetLevel(name, level string) error {
	ll.mu.Lock()
	defer ll.mu.Unlock()
	if name != "" && !ll.seen[name] {
		return fmt.Errorf("there is no logger %q: use one of %s, or root for all others", name, strings.Join(slices.Sorted(maps.Keys(ll.seen)), ", "))
	}
	named := maps.Clone(*ll.named.Load())
	if level == "" { // as it was
		delete(named, name)
		if name == "" {
			named[""] = ll.began
		}
		ll.set(named)
		return nil
	}
	l, err := zapcore.ParseLevel(level)
	if err != nil || l > zapcore.ErrorLevel {
		return fmt.Errorf("level %q: use debug, info, warn or error", level)
	}
	named[name] = l
	ll.set(named)
	return nil
}
