//go:build planted

package raftfsm

import (
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// rigDisk puts a disk that can be hurt under a host, if FLOTILLA_DISK names a file: what stands in it is what happens. The rig
// writes it: "eio" and "enospc" fail what changes the disk, "stall" holds it, "slow 20ms" delays each sync, "powerloss" cuts
// every file to what was synced and ends the process. Nothing in it: all is well.
func rigDisk(fs vfs.FS) vfs.FS {
	order := os.Getenv("FLOTILLA_DISK")
	if order == "" {
		return fs
	}
	d := &hurtDisk{FS: fs, order: order, synced: map[string]int64{}, changed: make(chan struct{})}
	go d.watch() // for the life of the process
	return d
}

// hurtDisk is the file system; it remembers how much of each file is synced.
type hurtDisk struct {
	vfs.FS
	order string

	mu      sync.Mutex
	what    string           // guarded by mu: the order in force
	synced  map[string]int64 // guarded by mu: bytes of the files that were written
	changed chan struct{}    // guarded by mu: closed when the order changes
}

// watch follows the order.
func (d *hurtDisk) watch() {
	for range time.Tick(5 * time.Millisecond) {
		b, _ := os.ReadFile(d.order) // no file: no order
		what := strings.TrimSpace(string(b))
		d.mu.Lock()
		if what != d.what {
			d.what = what
			close(d.changed)
			d.changed = make(chan struct{})
		}
		if what == "powerloss" {
			d.powerLoss() // with mu held: nothing is written any more
		}
		d.mu.Unlock()
	}
}

// powerLoss drops what no sync has covered, and ends the process without a word.
func (d *hurtDisk) powerLoss() {
	for name, n := range d.synced {
		if fi, err := os.Stat(name); err == nil && fi.Size() > n {
			_ = os.Truncate(name, n)
		}
	}
	_ = os.Remove(d.order)
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

// before is what an operation that changes the disk meets.
func (d *hurtDisk) before(sync bool) error {
	for {
		d.mu.Lock()
		what, changed := d.what, d.changed
		d.mu.Unlock()
		switch delay, slow := strings.CutPrefix(what, "slow "); {
		case what == "eio":
			return syscall.EIO
		case what == "enospc":
			return syscall.ENOSPC
		case what == "stall":
			<-changed
			continue
		case slow && sync:
			if t, err := time.ParseDuration(delay); err == nil {
				time.Sleep(t)
			}
		}
		return nil
	}
}

func (d *hurtDisk) open(name string, fresh bool, f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	size := int64(0)
	if fi, err := f.Stat(); err == nil && !fresh {
		size = fi.Size()
	}
	d.mu.Lock()
	d.synced[name] = size
	d.mu.Unlock()
	return &hurtFile{File: f, d: d, name: name}, nil
}

func (d *hurtDisk) Create(name string, cat vfs.DiskWriteCategory) (vfs.File, error) {
	if err := d.before(false); err != nil {
		return nil, err
	}
	f, err := d.FS.Create(name, cat)
	return d.open(name, true, f, err)
}

func (d *hurtDisk) OpenReadWrite(name string, cat vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	if err := d.before(false); err != nil {
		return nil, err
	}
	f, err := d.FS.OpenReadWrite(name, cat, opts...)
	return d.open(name, false, f, err)
}

func (d *hurtDisk) ReuseForWrite(oldname, newname string, cat vfs.DiskWriteCategory) (vfs.File, error) {
	if err := d.before(false); err != nil {
		return nil, err
	}
	f, err := d.FS.ReuseForWrite(oldname, newname, cat)
	return d.open(newname, false, f, err)
}

func (d *hurtDisk) Rename(oldname, newname string) error {
	if err := d.before(false); err != nil {
		return err
	}
	d.mu.Lock()
	if n, ok := d.synced[oldname]; ok {
		d.synced[newname] = n
		delete(d.synced, oldname)
	}
	d.mu.Unlock()
	return d.FS.Rename(oldname, newname)
}

// Unwrap implements vfs.FS.
func (d *hurtDisk) Unwrap() vfs.FS { return d.FS }

// hurtFile is a file that was opened for writing.
type hurtFile struct {
	vfs.File
	d    *hurtDisk
	name string
}

func (f *hurtFile) Write(p []byte) (int, error) {
	if err := f.d.before(false); err != nil {
		return 0, err
	}
	return f.File.Write(p)
}

func (f *hurtFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.d.before(false); err != nil {
		return 0, err
	}
	return f.File.WriteAt(p, off)
}

func (f *hurtFile) Sync() error {
	return f.sync(func() (bool, error) { return true, f.File.Sync() })
}

func (f *hurtFile) SyncData() error {
	return f.sync(func() (bool, error) { return true, f.File.SyncData() })
}

func (f *hurtFile) SyncTo(n int64) (full bool, err error) {
	err = f.sync(func() (bool, error) {
		full, err = f.File.SyncTo(n)
		return full, err
	})
	return full, err
}

// sync syncs, and notes what surely is on the disk: what was there before.
func (f *hurtFile) sync(fn func() (full bool, err error)) error {
	if err := f.d.before(true); err != nil {
		return err
	}
	var size int64
	if fi, err := f.File.Stat(); err == nil {
		size = fi.Size()
	}
	full, err := fn()
	if err != nil || !full {
		return err
	}
	f.d.mu.Lock()
	f.d.synced[f.name] = max(f.d.synced[f.name], size)
	f.d.mu.Unlock()
	return nil
}
