package cluster

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestDataDirIsDurable_I22: every directory that got an entry is synced, and no other.
func TestDataDirIsDurable_I22(t *testing.T) {
	root := t.TempDir()
	var synced []string
	note := func(dir string) error { synced = append(synced, dir); return nil }
	dir := filepath.Join(root, "a", "b", "c")
	if err := makeDataDir(dir+"/", note); err != nil {
		t.Fatal(err)
	}
	want := []string{filepath.Join(root, "a", "b"), filepath.Join(root, "a"), root}
	if !slices.Equal(synced, want) {
		t.Errorf("synced %v, want %v", synced, want)
	}
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		t.Errorf("the directory: %v, %v", st, err)
	}
	synced = nil
	if err := makeDataDir(dir, note); err != nil || len(synced) != 0 {
		t.Errorf("a directory that exists: %v, synced %v", err, synced)
	}
	broken := errors.New("broken")
	if err := makeDataDir(filepath.Join(root, "d", "e"), func(string) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("a sync that fails yields %v", err)
	}
	if err := os.WriteFile(filepath.Join(root, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := makeDataDir(filepath.Join(root, "file", "x"), note); err == nil {
		t.Error("a directory below a file was made")
	}
}
