package sim

import (
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// slowSync is a file system whose log files take time to sync, as a disk does: a crash in that time finds the data
// unsynced. The wait is before the sync and holds no lock.
type slowSync struct {
	vfs.FS
	wait func() time.Duration
}

var _ vfs.FS = slowSync{}

// Create implements vfs.FS.
func (s slowSync) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := s.FS.Create(name, category)
	return s.wrap(name, f), err
}

// ReuseForWrite implements vfs.FS.
func (s slowSync) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := s.FS.ReuseForWrite(oldname, newname, category)
	return s.wrap(newname, f), err
}

// Unwrap implements vfs.FS.
func (s slowSync) Unwrap() vfs.FS { return s.FS }

func (s slowSync) wrap(name string, f vfs.File) vfs.File {
	if f == nil || !strings.HasSuffix(name, ".log") {
		return f
	}
	return slowFile{f, s.wait}
}

type slowFile struct {
	vfs.File
	wait func() time.Duration
}

// Sync implements vfs.File.
func (f slowFile) Sync() error {
	time.Sleep(f.wait())
	return f.File.Sync()
}

// SyncData implements vfs.File.
func (f slowFile) SyncData() error {
	time.Sleep(f.wait())
	return f.File.SyncData()
}

// SyncTo implements vfs.File.
func (f slowFile) SyncTo(length int64) (fullSync bool, err error) {
	time.Sleep(f.wait())
	return f.File.SyncTo(length)
}
