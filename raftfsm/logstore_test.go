package raftfsm_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/flotilla-mqtt/flotilla/raftfsm"
	"github.com/flotilla-mqtt/flotilla/raftfsm/raftfsmtest"
	"github.com/hashicorp/raft"
	"pgregory.net/rapid"
)

// logFixture is a log on storage that can be opened again.
type logFixture struct {
	t      *testing.T
	reopen func(h *raftfsm.TestHost) (*raftfsm.TestLog, func() error, error)
	fs     vfs.FS
	h      *raftfsm.TestHost
	log    *raftfsm.TestLog
	done   func() error
}

func (f *logFixture) open() {
	f.t.Helper()
	f.close()
	var err error
	if f.h, err = raftfsm.OpenTestHost(f.fs); err != nil {
		f.t.Fatal(err)
	}
	if f.log, f.done, err = f.reopen(f.h); err != nil {
		f.t.Fatal(err)
	}
}

func (f *logFixture) close() {
	f.t.Helper()
	if f.h == nil {
		return
	}
	if err := errors.Join(f.done(), f.h.Close()); err != nil {
		f.t.Error(err)
	}
	f.h = nil
}

// eachLog runs fn on every implementation of a group's log, without and with a cache.
func eachLog(t *testing.T, fn func(t *testing.T, f *logFixture)) {
	none := func() error { return nil }
	for _, cache := range []int{1, 1 << 20} {
		run := func(name string, reopen func(h *raftfsm.TestHost) (*raftfsm.TestLog, func() error, error)) {
			t.Run(fmt.Sprintf("%s/cache=%d", name, cache), func(t *testing.T) {
				f := &logFixture{t: t, fs: vfs.NewMem(), reopen: reopen}
				f.open()
				defer f.close()
				fn(t, f)
			})
		}
		run("shared", func(h *raftfsm.TestHost) (*raftfsm.TestLog, func() error, error) {
			l, err := h.SharedLog(7, cache)
			return l, none, err
		})
		disk := raftfsmtest.NewDisk()
		run("memory", func(h *raftfsm.TestHost) (*raftfsm.TestLog, func() error, error) {
			s, err := disk.Stable("", 7)
			if err != nil {
				return nil, none, err
			}
			l, err := h.StableBackedLog(7, cache, s)
			return l, s.Close, err
		})
		dir := t.TempDir()
		run("bolt", func(h *raftfsm.TestHost) (*raftfsm.TestLog, func() error, error) {
			s, err := raftfsm.OpenBolt(dir, 7)
			if err != nil {
				return nil, none, err
			}
			l, err := h.StableBackedLog(7, cache, s)
			return l, s.Close, err
		})
	}
}

func entry(index, term uint64, size int) *raft.Log {
	l := &raft.Log{Index: index, Term: term, Type: raft.LogCommand, AppendedAt: time.Unix(1700000000, int64(index))}
	if index%5 == 0 {
		l.Type = raft.LogNoop
	}
	l.Data = []byte(strings.Repeat(string(rune('a'+index%26)), size))
	if index%7 == 0 {
		l.AppendedAt = time.Time{}
	}
	if index%2 == 0 {
		l.Extensions = []byte(fmt.Sprintf("ext %d", index))
	}
	return l
}

func entries(lo, hi, term uint64, size int) []*raft.Log {
	var out []*raft.Log
	for i := lo; i <= hi; i++ {
		out = append(out, entry(i, term, size))
	}
	return out
}

func wantBounds(t *testing.T, l *raftfsm.TestLog, first, last uint64) {
	t.Helper()
	f, _ := l.FirstIndex()
	g, _ := l.LastIndex()
	if f != first || g != last {
		t.Fatalf("log is %d to %d, want %d to %d", f, g, first, last)
	}
}

func wantEntries(t *testing.T, l *raftfsm.TestLog, want []*raft.Log) {
	t.Helper()
	for _, w := range want {
		var got raft.Log
		if err := l.GetLog(w.Index, &got); err != nil {
			t.Fatalf("entry %d: %v", w.Index, err)
		}
		// In nanoseconds, as the checksum covers it: a flipped high bit of the
		// seconds is the same number of nanoseconds, and only metrics read it.
		if got.AppendedAt.UnixNano() != w.AppendedAt.UnixNano() {
			t.Errorf("entry %d appended at %v, want %v", w.Index, got.AppendedAt, w.AppendedAt)
		}
		if got.Index != w.Index || got.Term != w.Term || got.Type != w.Type ||
			!bytes.Equal(got.Data, w.Data) || !bytes.Equal(got.Extensions, w.Extensions) {
			t.Fatalf("entry %d is %d/%d/%v with %d bytes", w.Index, got.Index, got.Term, got.Type, len(got.Data))
		}
	}
}

// TestLogConformance is what raft and this package ask of every log.
func TestLogConformance(t *testing.T) {
	eachLog(t, func(t *testing.T, f *logFixture) {
		wantBounds(t, f.log, 0, 0)
		var got raft.Log
		if err := f.log.GetLog(1, &got); !errors.Is(err, raft.ErrLogNotFound) {
			t.Fatalf("entry of an empty log: %v", err)
		}
		all := append(entries(1, 20, 1, 100), entries(21, 40, 2, 0)...)
		for _, part := range [][]*raft.Log{all[:1], all[1:20], all[20:]} {
			if err := f.log.StoreLogs(part); err != nil {
				t.Fatal(err)
			}
		}
		wantBounds(t, f.log, 1, 40)
		wantEntries(t, f.log, all)
		f.open()
		wantBounds(t, f.log, 1, 40)
		wantEntries(t, f.log, all)
		if err := f.log.GetLog(41, &got); !errors.Is(err, raft.ErrLogNotFound) {
			t.Fatalf("entry behind the end: %v", err)
		}

		f.log.SetFence(25, 25)
		if err := f.log.DeleteRange(30, 40); err != nil { // a conflicting suffix
			t.Fatal(err)
		}
		wantBounds(t, f.log, 1, 29)
		if err := f.log.DeleteRange(1, 25); err != nil { // what a snapshot covers
			t.Fatal(err)
		}
		wantBounds(t, f.log, 26, 29)
		if err := f.log.GetLog(25, &got); !errors.Is(err, raft.ErrLogNotFound) {
			t.Fatalf("deleted entry: %v", err)
		}
		next := entries(30, 33, 3, 10)
		if err := f.log.StoreLogs(next); err != nil {
			t.Fatal(err)
		}
		f.open()
		wantBounds(t, f.log, 26, 33)
		wantEntries(t, f.log, append(all[25:29:29], next...))
		if err := f.h.Failed(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestLogGapAfterSnapshot appends behind an installed snapshot: what was before is replaced.
func TestLogGapAfterSnapshot(t *testing.T) {
	eachLog(t, func(t *testing.T, f *logFixture) {
		if err := f.log.StoreLogs(entries(1, 5, 1, 10)); err != nil {
			t.Fatal(err)
		}
		f.log.SetFence(100, 100)
		next := entries(101, 103, 2, 10)
		if err := f.log.StoreLogs(next); err != nil {
			t.Fatal(err)
		}
		wantBounds(t, f.log, 101, 103)
		f.open()
		wantBounds(t, f.log, 101, 103)
		wantEntries(t, f.log, next)
	})
}

// TestLogRefusals holds the fence (guard G5): each refusal is a fail-stop.
func TestLogRefusals(t *testing.T) {
	for name, try := range map[string]func(l *raftfsm.TestLog) error{
		"overwrite":        func(l *raftfsm.TestLog) error { return l.StoreLog(entry(10, 2, 1)) },
		"gap":              func(l *raftfsm.TestLog) error { return l.StoreLog(entry(12, 2, 1)) },
		"applied suffix":   func(l *raftfsm.TestLog) error { return l.DeleteRange(7, 10) },
		"unflushed prefix": func(l *raftfsm.TestLog) error { return l.DeleteRange(1, 6) },
		"middle":           func(l *raftfsm.TestLog) error { return l.DeleteRange(8, 9) },
		"everything":       func(l *raftfsm.TestLog) error { return l.DeleteRange(1, 10) },
	} {
		t.Run(name, func(t *testing.T) {
			eachLog(t, func(t *testing.T, f *logFixture) {
				if err := f.log.StoreLogs(entries(1, 10, 1, 10)); err != nil {
					t.Fatal(err)
				}
				f.log.SetFence(7, 5)
				if err := try(f.log); err == nil {
					t.Error("was not refused")
				}
				if f.h.Failed() == nil {
					t.Error("did not end the node")
				}
				f.open()
				wantBounds(t, f.log, 1, 10)
			})
		})
	}
}

// TestLogGroupsAreApart shares one database between groups.
func TestLogGroupsAreApart(t *testing.T) {
	fs := vfs.NewMem()
	h, err := raftfsm.OpenTestHost(fs)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}()
	groups := []uint32{1, 2, 255, 256, 1 << 31}
	for _, g := range groups {
		l, err := h.SharedLog(g, 1)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.StoreLogs(entries(1, 10, uint64(g), 10)); err != nil {
			t.Fatal(err)
		}
	}
	l, _ := h.SharedLog(255, 1)
	l.SetFence(10, 10)
	if err := l.DeleteRange(1, 10); err != nil {
		t.Fatal(err)
	}
	for _, g := range groups {
		l, err := h.SharedLog(g, 1)
		if err != nil {
			t.Fatal(err)
		}
		if g == 255 {
			wantBounds(t, l, 0, 0)
			continue
		}
		wantBounds(t, l, 1, 10)
		wantEntries(t, l, entries(1, 10, uint64(g), 10))
	}
}

// TestLogLargeAppend is cut into several batches of the WAL.
func TestLogLargeAppend(t *testing.T) {
	eachLog(t, func(t *testing.T, f *logFixture) {
		all := entries(1, 14, 1, 1<<20)
		if err := f.log.StoreLogs(all); err != nil {
			t.Fatal(err)
		}
		f.open()
		wantEntries(t, f.log, all)
		if _, _, n := f.log.Bounds(); n < 14<<20 || n > 15<<20 {
			t.Errorf("log of %d bytes", n)
		}
	})
}

// TestLogDetectsDamage flips a bit in each byte of a stored value.
func TestLogDetectsDamage(t *testing.T) {
	fs := vfs.NewMem()
	h, err := raftfsm.OpenTestHost(fs)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}()
	l, _ := h.SharedLog(3, 1)
	if err := l.StoreLogs(entries(1, 3, 1, 30)); err != nil {
		t.Fatal(err)
	}
	key := []byte{0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 2}
	v, closer, err := h.LogDB.Get(key)
	if err != nil {
		t.Fatal(err)
	}
	good := append([]byte(nil), v...)
	if err := closer.Close(); err != nil {
		t.Fatal(err)
	}
	for i := range good {
		bad := append([]byte(nil), good...)
		bad[i] ^= 1 << (i % 8)
		if err := h.LogDB.Set(key, bad, pebble.Sync); err != nil {
			t.Fatal(err)
		}
		if _, err := h.SharedLog(3, 1); !errors.Is(err, raftfsm.ErrCorrupt) {
			t.Fatalf("flip in byte %d: %v", i, err)
		}
	}
	if err := h.LogDB.Set(key, good, pebble.Sync); err != nil {
		t.Fatal(err)
	}
	if _, err := h.SharedLog(3, 1); err != nil {
		t.Fatal(err)
	}
	if err := h.LogDB.Delete(key, pebble.Sync); err != nil {
		t.Fatal(err)
	}
	if _, err := h.SharedLog(3, 1); !errors.Is(err, raftfsm.ErrCorrupt) {
		t.Fatalf("missing entry: %v", err)
	}
}

// TestLogCrashImages holds random logs against a model over power losses: what was acknowledged is
// there, and nothing else but a deleted prefix whose deletion was not synced.
func TestLogCrashImages(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		rng := rand.New(rand.NewPCG(seed, 1))
		fs := vfs.NewCrashableMem()
		h, err := raftfsm.OpenTestHost(fs)
		if err != nil {
			rt.Fatal(err)
		}
		defer func() { _ = h.Close() }()
		l, err := h.SharedLog(7, 100)
		if err != nil {
			rt.Fatal(err)
		}
		model := map[uint64]*raft.Log{}
		var first, last uint64 = 1, 0
		term := uint64(1)
		for range rapid.IntRange(1, 30).Draw(rt, "steps") {
			switch rapid.IntRange(0, 5).Draw(rt, "op") {
			default:
				n := uint64(rapid.IntRange(1, 6).Draw(rt, "n"))
				add := entries(last+1, last+n, term, rapid.IntRange(0, 300).Draw(rt, "size"))
				if err := l.StoreLogs(add); err != nil {
					rt.Fatal(err)
				}
				for _, e := range add {
					model[e.Index] = e
				}
				last += n
			case 3:
				if last <= first {
					continue
				}
				from := rapid.Uint64Range(first+1, last).Draw(rt, "suffix")
				l.SetFence(first, 0)
				if err := l.DeleteRange(from, last); err != nil {
					rt.Fatal(err)
				}
				last, term = from-1, term+1
			case 4:
				if last <= first {
					continue
				}
				to := rapid.Uint64Range(first, last-1).Draw(rt, "prefix")
				l.SetFence(to, to)
				if err := l.DeleteRange(first, to); err != nil {
					rt.Fatal(err)
				}
				first = to + 1
			case 5:
				fs = fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rapid.IntRange(0, 100).Draw(rt, "unsynced"), RNG: rng})
				_ = h.Close()
				if h, err = raftfsm.OpenTestHost(fs); err != nil {
					rt.Fatal(err)
				}
				if l, err = h.SharedLog(7, 100); err != nil {
					rt.Fatal(err)
				}
				f, g, _ := l.Bounds()
				if last >= first && (g != last || f > first || f == 0) {
					rt.Fatalf("log is %d to %d, want %d to %d", f, g, first, last)
				}
				for i := f; i <= g && i > 0; i++ {
					var got raft.Log
					if err := l.GetLog(i, &got); err != nil {
						rt.Fatal(err)
					}
					if w := model[i]; got.Term != w.Term || string(got.Data) != string(w.Data) {
						rt.Fatalf("entry %d differs", i)
					}
				}
				first = max(f, 1)
			}
		}
	})
}
