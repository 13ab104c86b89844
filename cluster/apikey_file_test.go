package cluster

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
)

func someKeys(ids ...string) map[string]*command.APIKey {
	out := map[string]*command.APIKey{}
	for _, id := range ids {
		out[id] = &command.APIKey{ID: id, Name: "name of " + id, Hash: []byte("hash of " + id), Role: command.RoleViewer, Scopes: []string{"metrics"}, CreatedAt: 1, ExpiresAt: 2, CreatedBy: "key:root"}
	}
	return out
}

func keysView(index uint64, ids ...string) *state.ControlView {
	return &state.ControlView{Index: index, ClusterID: "c", APIKeys: someKeys(ids...)}
}

// restarted is what a process finds that starts on a directory.
func restarted(t *testing.T, dir string) *keyWatch {
	t.Helper()
	w := new(keyWatch)
	if err := w.load(dir); err != nil {
		t.Fatal(err)
	}
	return w
}

func mustNote(t *testing.T, w *keyWatch, dir string, v *state.ControlView) {
	t.Helper()
	if err := w.note(dir, v); err != nil {
		t.Fatal(err)
	}
}

func idsOf(keys map[string]*command.APIKey) string { return strings.Join(sortedKeys(keys), " ") }

// TestKeysFile: a process that has applied less than an earlier one knows the keys that the earlier one knew, whole and
// not its own; one that has applied as much, or has heard from a majority, knows better than the file.
func TestKeysFile(t *testing.T) {
	dir := t.TempDir()
	w := restarted(t, dir)
	if w.inUse.Load() {
		t.Error("a new directory has keys")
	}
	mustNote(t, w, dir, keysView(50, "k1", "k2"))
	if info, err := os.Stat(filepath.Join(dir, keysName)); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("the file: %v, %v", info, err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("beside the file: %v, %v", entries, err)
	}

	w = restarted(t, dir)
	if !w.inUse.Load() || !sameKeys(w.known(&state.ControlView{}), someKeys("k1", "k2")) {
		t.Errorf("after a restart: in use %v, %+v", w.inUse.Load(), w.known(&state.ControlView{}))
	}
	mustNote(t, w, dir, keysView(49, "k1"))
	if got := idsOf(w.known(keysView(49, "k1"))); got != "k1 k2" {
		t.Errorf("a state that is older than the file: %s", got)
	}
	if got := idsOf(restarted(t, dir).known(&state.ControlView{})); got != "k1 k2" {
		t.Errorf("an older state was written over the file: %s", got)
	}
	if got := idsOf(w.known(keysView(50, "k1"))); got != "k1" {
		t.Errorf("a state that is as new as the file: %s", got)
	}
	// A recovery may have begun the group anew, at lower indexes.
	w.sure.Store(true)
	mustNote(t, w, dir, keysView(10, "k3"))
	if got := idsOf(w.known(keysView(10, "k3"))); got != "k3" {
		t.Errorf("a majority says otherwise: %s", got)
	}
	if got := idsOf(restarted(t, dir).known(&state.ControlView{})); got != "k3" {
		t.Errorf("what a majority says is not in the file: %s", got)
	}
}

// TestKeysFileGoesWithTheLastKey, but only once that is sure: the file keeps the API closed.
func TestKeysFileGoesWithTheLastKey(t *testing.T) {
	dir := t.TempDir()
	mustNote(t, restarted(t, dir), dir, keysView(50, "k1"))
	w := restarted(t, dir)
	mustNote(t, w, dir, keysView(60))
	if !w.inUse.Load() || !restarted(t, dir).inUse.Load() {
		t.Error("the file went although nobody asked a majority")
	}
	w.sure.Store(true)
	mustNote(t, w, dir, keysView(60))
	if w.inUse.Load() || restarted(t, dir).inUse.Load() {
		t.Error("the file stays without keys")
	}
	mustNote(t, w, dir, keysView(61, "k1"))
	if !restarted(t, dir).inUse.Load() {
		t.Error("a key that came back is not in the file")
	}
}

// TestDamagedKeysFile: whichever bit is wrong, nobody gets in by the file, and nobody without a key.
func TestDamagedKeysFile(t *testing.T) {
	dir := t.TempDir()
	mustNote(t, restarted(t, dir), dir, keysView(50, "k1"))
	path := filepath.Join(dir, keysName)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	closed := func(name string, raw []byte) {
		t.Helper()
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		w := new(keyWatch)
		if err := w.load(dir); !errors.Is(err, errKeysFile) {
			t.Errorf("%s: %v", name, err)
		}
		if got := w.known(&state.ControlView{}); !w.inUse.Load() || len(got) > 0 {
			t.Errorf("%s: in use %v, keys %v", name, w.inUse.Load(), got)
		}
		mustNote(t, w, dir, keysView(51, "k1"))
		if got := idsOf(restarted(t, dir).known(&state.ControlView{})); got != "k1" {
			t.Errorf("%s: it was not written again: %s", name, got)
		}
	}
	for i := range whole {
		bad := slices.Clone(whole)
		bad[i] ^= 0x01
		closed("flipped "+string(whole[:i])+"^", bad)
	}
	closed("cut", whole[:len(whole)/2])
	closed("empty", nil)
	closed("a file without keys", []byte("{\"api_keys\": true}\n"))
	closed("a later version", []byte(`{"format":9,"keys":["AAAA"]}`))
}
