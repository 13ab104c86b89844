package raftfsm_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flotilla-mqtt/flotilla/raftfsm"
	"github.com/flotilla-mqtt/flotilla/raftfsm/raftfsmtest"
)

// backupOf writes a backup of captures.
func backupOf(t *testing.T, caps ...*raftfsm.Capture) []byte {
	t.Helper()
	h := &raftfsm.BackupHeader{ClusterID: "c-1", Shards: 1, CreatedAt: time.UnixMilli(1_700_000_000_000).UTC()}
	for i, c := range caps {
		h.Groups = append(h.Groups, raftfsm.BackupGroup{Group: uint32(i + 1), Index: c.Index, Term: c.Term})
	}
	var out bytes.Buffer
	w, err := raftfsm.NewBackupWriter(&out, h)
	for i, c := range caps {
		if err == nil {
			err = w.Section(uint32(i+1), c.Index, c, nil)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestCaptureIsOneIndex: what is applied after a capture is not in it, what was acknowledged before it is, and followers
// capture nothing.
func TestCaptureIsOneIndex(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := raftfsmtest.NewCluster(t, raftfsmtest.Options{Nodes: 3})
		defer c.Close()
		fill(t, c, 1, "before", 50)
		leader := c.Leader(1)
		var at uint64
		captured, err := leader.Group(1).Capture(testCtx(t), func() { at = leader.Machine(1).Applied() })
		if err != nil {
			t.Fatal(err)
		}
		if captured.Index < at || at == 0 {
			t.Fatalf("captured at %d, the machine was at %d", captured.Index, at)
		}
		fill(t, c, 1, "after", 50)
		if err := leader.Machine(1).WriteBack(); err != nil {
			t.Fatal(err)
		}
		first := backupOf(t, captured)
		again, err := leader.Group(1).Capture(testCtx(t), nil)
		if err != nil {
			t.Fatal(err)
		}
		if again.Index <= captured.Index {
			t.Fatalf("captured at %d, then at %d", captured.Index, again.Index)
		}
		second := backupOf(t, again)
		one, err := raftfsm.CheckBackup(bytes.NewReader(first), nil)
		if err != nil {
			t.Fatal(err)
		}
		two, err := raftfsm.CheckBackup(bytes.NewReader(second), nil)
		if err != nil {
			t.Fatal(err)
		}
		if one.ID == two.ID || one.Header.ClusterID != "c-1" || one.Bytes != int64(len(first)) || one.Section(1).Index != captured.Index {
			t.Fatalf("%+v, %+v", one, two)
		}
		if string(valueOf(t, one, first)) == string(valueOf(t, two, second)) {
			t.Fatal("what came later is in the capture, or is missing in the next")
		}
	})
}

// valueOf joins all records of group 1.
func valueOf(t *testing.T, b *raftfsm.Backup, file []byte) (all []byte) {
	t.Helper()
	err := b.Records(bytes.NewReader(file), 1, func(k, v []byte) error {
		all = append(append(all, k...), v...)
		return nil
	})
	if err != nil || len(all) == 0 {
		t.Fatalf("%d bytes, %v", len(all), err)
	}
	return all
}

// TestBackupDamage: no byte of a backup can be changed or be missing without being found.
func TestBackupDamage(t *testing.T) {
	file := sampleBackup(t)
	if _, err := raftfsm.CheckBackup(bytes.NewReader(file), nil); err != nil {
		t.Fatal(err)
	}
	step := max(1, len(file)/1500)
	for i := 0; i < len(file); i += step {
		if _, err := raftfsm.CheckBackup(bytes.NewReader(file[:i]), nil); !errors.Is(err, raftfsm.ErrCorrupt) {
			t.Fatalf("cut at %d of %d: %v", i, len(file), err)
		}
		bad := bytes.Clone(file)
		bad[i] ^= 0x10
		if _, err := raftfsm.CheckBackup(bytes.NewReader(bad), nil); !errors.Is(err, raftfsm.ErrCorrupt) && !errors.Is(err, raftfsm.ErrIdentity) {
			t.Fatalf("flipped at %d of %d: %v", i, len(file), err)
		}
	}
	if _, err := raftfsm.CheckBackup(bytes.NewReader(append(bytes.Clone(file), 0)), nil); !errors.Is(err, raftfsm.ErrCorrupt) {
		t.Fatalf("a byte too many: %v", err)
	}
	twice := append(bytes.Clone(file), file...)
	if _, err := raftfsm.CheckBackup(bytes.NewReader(twice), nil); !errors.Is(err, raftfsm.ErrCorrupt) {
		t.Fatalf("two files: %v", err)
	}
}

func sampleBackup(t *testing.T) []byte {
	var file []byte
	synctest.Test(t, func(t *testing.T) {
		c := raftfsmtest.NewCluster(t, raftfsmtest.Options{Nodes: 1})
		defer c.Close()
		fill(t, c, 1, "x", 5)
		captured, err := c.Leader(1).Group(1).Capture(testCtx(t), nil)
		if err != nil {
			t.Fatal(err)
		}
		file = backupOf(t, captured)
	})
	return file
}

// TestBackupOfAnOlderRelease: a file of format 1 can be read for ever.
func TestBackupOfAnOlderRelease(t *testing.T) {
	path := filepath.Join("testdata", "backup-v1.bin")
	file, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, sampleBackup(t), 0o644); err != nil {
			t.Fatal(err)
		}
		t.Fatal("the file was made: run again")
	}
	if err != nil {
		t.Fatal(err)
	}
	b, err := raftfsm.CheckBackup(bytes.NewReader(file), nil)
	if err != nil || b.Header.Format != 1 || len(b.Sections) != 1 || len(valueOf(t, b, file)) < 1000 {
		t.Fatalf("%+v, %v", b, err)
	}
}

// FuzzCheckBackup: whatever the bytes, the answer is an error and costs little.
func FuzzCheckBackup(f *testing.F) {
	if file, err := os.ReadFile(filepath.Join("testdata", "backup-v1.bin")); err == nil {
		f.Add(file)
	}
	f.Add([]byte("FLTBKUP\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := raftfsm.CheckBackup(io.LimitReader(bytes.NewReader(b), 1<<20), nil); err == nil && len(b) < 100 {
			t.Fatal("accepted")
		}
	})
}
