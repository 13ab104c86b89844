package raftfsm_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/flotilla-mqtt/flotilla/raftfsm"
	"github.com/flotilla-mqtt/flotilla/raftfsm/raftfsmtest"
	"github.com/hashicorp/raft"
)

func walk(t *testing.T, fs vfs.FS, dir string) []string {
	t.Helper()
	names, err := fs.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	sort.Strings(names)
	for _, n := range names {
		path := fs.PathJoin(dir, n)
		info, err := fs.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.IsDir() {
			out = append(out, walk(t, fs, path)...)
		} else if info.Size() > 0 {
			out = append(out, path)
		}
	}
	return out
}

func readAll(t *testing.T, fs vfs.FS, path string) []byte {
	t.Helper()
	f, err := fs.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(f)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return b
}

func writeAll(t *testing.T, fs vfs.FS, path string, b []byte) {
	t.Helper()
	f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err == nil {
		_, err = f.Write(b)
		err = errors.Join(err, f.Sync(), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// kind names what a file is, for the tally.
func kind(path string) string {
	base := filepath.Base(path)
	dir := filepath.Base(filepath.Dir(path))
	switch {
	case strings.HasSuffix(base, ".sst"):
		return dir + "/*.sst"
	case strings.HasSuffix(base, ".log"):
		return dir + "/*.log"
	case strings.HasPrefix(base, "MANIFEST"), strings.HasPrefix(base, "OPTIONS"), strings.HasPrefix(base, "marker"):
		return dir + "/" + strings.SplitN(base, ".", 2)[0][:6]
	}
	return base
}

// TestDamage flips bits, cuts ends and empties files of a stopped node, in every file that it has: it
// refuses to start, or ends, or is the same replica as before. It never goes on with less than it has
// acknowledged.
func TestDamage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := raftfsmtest.NewCluster(t, raftfsmtest.Options{Group: small})
		defer c.Close()
		rng := rand.New(rand.NewPCG(5, 5))
		fill(t, c, 1, "a", 150)
		n := c.Nodes[0]
		if err := n.Group(1).Snapshot(testCtx(t)); err != nil {
			t.Fatal(err)
		}
		fill(t, c, 1, "b", 40)
		c.WaitEqual(1)
		c.Kill(0, 100, rng)
		disk := n.Disk
		whole := disk.FS()
		files := walk(t, whole, "/data")
		tally := map[string][3]int{}
		for trial := range 8 * len(files) {
			path := files[trial%len(files)]
			b := readAll(t, whole, path)
			switch rng.IntN(10) {
			default:
				b[rng.IntN(len(b))] ^= 1 << rng.IntN(8)
			case 0:
				b = b[:rng.IntN(len(b))]
			case 1:
				b = nil
			}
			n.Disk = disk.Clone(100, rng)
			writeAll(t, n.Disk.FS(), path, b)
			got := tally[kind(path)]
			got[outcome(t, c, rng)]++
			tally[kind(path)] = got
		}
		for _, k := range sortedKeys(tally) {
			t.Logf("%-14s refused %d, ended %d, unharmed %d", k, tally[k][0], tally[k][1], tally[k][2])
		}
	})
}

func sortedKeys(m map[string][3]int) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// outcome starts node 0: 0 it refuses, 1 it ends, 2 it is the replica that it was.
func outcome(t *testing.T, c *raftfsmtest.Cluster, rng *rand.Rand) int {
	t.Helper()
	n := c.Nodes[0]
	floor := c.Oracle.Floor(1)
	if err := c.TryStart(0); err != nil {
		return 0
	}
	defer c.Kill(0, 0, rng)
	// Alone, it must already hold what it has acknowledged.
	st := n.Group(1).Status()
	if st.LastIndex < floor && n.Fatal() == nil {
		t.Fatalf("node starts with a log up to %d, it acknowledged %d", st.LastIndex, floor)
	}
	for wait := 0; wait < 100; wait++ {
		if n.Fatal() != nil {
			return 1
		}
		if n.Group(1).Status().Applied >= floor {
			break
		}
		<-time.After(20 * time.Millisecond)
	}
	if err := n.Group(1).Snapshot(testCtx(t)); err != nil && n.Fatal() == nil {
		t.Fatal(err)
	}
	if n.Fatal() != nil {
		return 1
	}
	c.WaitEqual(1)
	return 2
}

// TestDamagedVotes flips bits all over a bbolt file: opening it fails, or it says what was written.
func TestDamagedVotes(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 6))
	dir := t.TempDir()
	s, err := raftfsm.OpenBolt(dir, 1)
	if err != nil {
		t.Fatal(err)
	}
	h := openTestHost(t, vfs.NewMem())
	l, err := h.StableBackedLog(1, 1, s)
	if err != nil {
		t.Fatal(err)
	}
	votes, err := h.Votes(1, s, "n1")
	if err != nil {
		t.Fatal(err)
	}
	want := entries(1, 60, 3, 50)
	for i := range 6 {
		if err := errors.Join(votes.SetUint64([]byte("CurrentTerm"), uint64(i+3)), votes.SetUint64([]byte("LastVoteTerm"), uint64(i+3)),
			votes.Set([]byte("LastVoteCand"), []byte(fmt.Sprintf("node-%d", i))), l.StoreLogs(want[i*10:i*10+10])); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "raft.db")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	refused, same := 0, 0
	for trial := range 400 {
		b := append([]byte(nil), whole...)
		at := rng.IntN(len(b))
		if trial%2 == 0 {
			at = rng.IntN(2 * os.Getpagesize()) // the meta pages
		}
		b[at] ^= 1 << rng.IntN(8)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if damagedVotesRefused(t, h, dir, want) {
			refused++
		} else {
			same++
		}
	}
	t.Logf("refused %d, unharmed %d", refused, same)
	if refused == 0 {
		t.Error("no damage was noticed")
	}
}

// damagedVotesRefused opens the file in dir and holds it against what was written last.
func damagedVotesRefused(t *testing.T, h *raftfsm.TestHost, dir string, want []*raft.Log) bool {
	t.Helper()
	s, err := raftfsm.OpenBolt(dir, 1)
	if err != nil {
		return true
	}
	defer func() { _ = s.Close() }()
	l, err := h.StableBackedLog(1, 1, s)
	if err != nil {
		return true
	}
	votes, err := h.Votes(1, s, "n1")
	if err != nil {
		return true
	}
	_, last, _ := l.Bounds()
	if err := votes.CheckTail(last, 60, 8, []byte("node-5")); err != nil {
		return true
	}
	wantEntries(t, l, want)
	if term, err := votes.GetUint64([]byte("CurrentTerm")); err != nil || term != 8 {
		t.Errorf("term %d, %v", term, err)
	}
	if cand, err := votes.Get([]byte("LastVoteCand")); err != nil || string(cand) != "node-5" {
		t.Errorf("vote for %q, %v", cand, err)
	}
	return false
}

// TestTailSinks deletes a suffix and loses power: the bound sank before the log did.
func TestTailSinks(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 8))
	for _, unsynced := range []int{0, 50, 100} {
		fs := vfs.NewCrashableMem()
		if err := fs.MkdirAll("/g", 0o700); err != nil {
			t.Fatal(err)
		}
		h := openTestHost(t, fs)
		l, err := h.SharedLog(7, 1)
		if err != nil {
			t.Fatal(err)
		}
		if err := h.AttachTail(fs, "/g", l); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(l.StoreLogs(entries(1, 20, 1, 10)), l.DeleteRange(11, 20)); err != nil {
			t.Fatal(err)
		}
		image := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: unsynced, RNG: rng})
		if last, err := raftfsm.TailOf(image, "/g", 7); err != nil || last > 10 {
			t.Errorf("bound %d after the log sank to 10: %v", last, err)
		}
		if err := l.StoreLogs(entries(11, 15, 2, 10)); err != nil {
			t.Fatal(err)
		}
		if last, err := raftfsm.TailOf(fs, "/g", 7); err != nil || last != 15 {
			t.Errorf("bound %d, want 15: %v", last, err)
		}
	}
}
