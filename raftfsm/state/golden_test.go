package state_test

import (
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state/statetest"
)

var rewrite = flag.Bool("rewrite", false, "write the golden logs anew: only for a new version, never to change an old one")

// Logs and stores of version 1 are replayed and loaded for ever: what a later
// program makes of them must be what version 1 made of them (I20).
func TestGoldenV1_I20(t *testing.T) {
	if *rewrite {
		writeGolden(t, "v1", populate(t))
	}
	checkGolden(t, "v1")
}

// The second log has what came later: shares, replays, ticks that keep what was sent.
func TestGoldenV2_I20(t *testing.T) {
	if *rewrite {
		writeGolden(t, "v2", populateShares(t))
	}
	checkGolden(t, "v2")
}

// The third log has authors of retained messages, and what came too late of them.
func TestGoldenV3_I20(t *testing.T) {
	if *rewrite {
		writeGolden(t, "v3", populateAuthors(t))
	}
	checkGolden(t, "v3")
}

func goldenFiles(dir string) (log, store, sum string) {
	return filepath.Join("testdata", dir, "log.hex"), filepath.Join("testdata", dir, "store.hex"), filepath.Join("testdata", dir, "digest.txt")
}

func checkGolden(t *testing.T, dir string) {
	t.Helper()
	logFile, storeFile, sumFile := goldenFiles(dir)
	want := read(t, sumFile)

	r := newRig(t, state.Options{})
	for _, line := range strings.Fields(read(t, logFile)) {
		e, err := hex.DecodeString(line)
		if err != nil {
			t.Fatal(err)
		}
		r.index++
		if _, _, err := r.s.Apply(r.index, e); err != nil {
			t.Fatalf("entry %d: %v", r.index, err)
		}
	}
	if got := fmt.Sprintf("%x\n", r.digest()); got != want {
		t.Errorf("the log leads to digest %swant %s", got, want)
	}

	st := statetest.NewMemStore()
	b := st.NewBatch()
	for line := range strings.Lines(read(t, storeFile)) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), " ")
		key, err1 := hex.DecodeString(k)
		value, err2 := hex.DecodeString(v)
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		b.Set(key, value)
	}
	if err := b.Commit(); err != nil {
		t.Fatal(err)
	}
	s := state.NewShard(7, state.Options{})
	if err := s.Load(st); err != nil {
		t.Fatal(err)
	}
	for what, f := range map[string]func() (uint64, [16]byte, error){
		"memory": func() (uint64, [16]byte, error) { i, d := s.Digest(); return i, d, nil }, "records": s.Verify,
	} {
		index, got, err := f()
		if err != nil || index != r.index || fmt.Sprintf("%x\n", got) != want {
			t.Errorf("%s of the store: digest %x at %d, %v", what, got, index, err)
		}
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// populate is the machine of the first log. Its ticks have rules 1.
func populate(t *testing.T) *rig {
	t.Helper()
	r := newRig(t, state.Options{HotBytes: 1, HotOffline: 1})
	for i, step := range population(nil) {
		step(r)
		if i == 8 {
			r.writeBack()
		}
	}
	r.now += 31_000
	r.one(command.OK, []byte{byte(command.KindTick) << 1, 0})
	r.one(command.OK, command.AppendNodeLost(nil, &command.NodeLost{Node: "n1", Incarnation: 1}))
	r.writeBack()
	return r
}

// populateShares is the machine of the second log.
func populateShares(t *testing.T) *rig {
	t.Helper()
	r := newShareRig(t, state.Options{HotBytes: 1, HotOffline: 1})
	set := command.ShardSettings{ShareStrategy: command.ShareHashTopic, RetainedExpiryS: 100}
	r.one(command.OK, command.AppendConfigure(nil, &command.Configure{Settings: set}))
	a, b := r.member("a", 2, room(2)), r.member("b", 1, room(1), transient)
	c := r.member("c", 0)
	r.one(command.OK, subReplay(a, command.Subscription{Filter: "r/#", QoS: 1}))
	r.one(command.OK, replayPage(a, "r/#", "", "r/1", false, msg("r/1", "1", 1, retain)))
	for i := range 12 {
		r.publish(2, fmt.Sprintf("w/%d=%d", i%5, i))
	}
	r.writeBack()
	r.one(command.OK, pub("w/x", "expires", 1, expiry(20), retain))
	r.one(command.OK, recv(a, 3, 2))
	r.one(command.OK, ack(b, 1, 1))
	r.one(command.OK, disc(c, command.DisconnectLost, 0))
	r.carry()
	r.one(command.OK, disc(a, command.DisconnectLost, 3))
	r.now += 31_000
	r.one(command.OK, tick)
	r.carry()
	r.publish(1, "last")
	r.one(command.OK, command.AppendNodeLost(nil, &command.NodeLost{Node: "n1", Incarnation: 1})) // b ends; its share does not know yet
	r.writeBack()
	return r.rig
}

// populateAuthors is the machine of the third log.
func populateAuthors(t *testing.T) *rig {
	t.Helper()
	r := newRig(t, state.Options{HotBytes: 1, HotOffline: 1})
	r.one(command.OK, write("p", 9, "a", "lost"))
	r.one(command.OK, recoverCmd(command.Recover{Epoch: 1 << 32}))
	r.one(command.OK, write("forgotten", 3, "b", "1"))
	r.one(command.OK, write("p", 7, "a", "1"))
	r.writeBack()
	r.now += 3000_000
	r.one(command.OK, write("p", 8, "a", "2"))
	r.one(command.StaleEpoch, write("p", 7, "a", ""))
	r.one(command.OK, write("q", 7, "a", ""))
	r.now += 600_000
	r.one(command.OK, write("q", 7, "c", "3"))
	r.one(command.StaleEpoch, write("p", 7, "a", "1"))
	r.one(command.OK, write("forgotten", 2, "b", "2"))
	r.writeBack()
	return r
}

func writeGolden(t *testing.T, dir string, r *rig) {
	t.Helper()
	logFile, storeFile, sumFile := goldenFiles(dir)
	if err := os.MkdirAll(filepath.Dir(logFile), 0o755); err != nil {
		t.Fatal(err)
	}
	var log, store strings.Builder
	for _, e := range r.log {
		fmt.Fprintf(&log, "%x\n", e)
	}
	err := r.st.Iterate(nil, nil, func(k, v []byte) bool {
		fmt.Fprintf(&store, "%x %x\n", k, v)
		return true
	})
	for file, text := range map[string]string{logFile: log.String(), storeFile: store.String(), sumFile: fmt.Sprintf("%x\n", r.digest())} {
		if err == nil {
			err = os.WriteFile(file, []byte(text), 0o644)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}
