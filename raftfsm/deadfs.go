package raftfsm

import (
	"io"
	"os"
	"time"

	"github.com/cockroachdb/errors/oserror"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// deadFS is the file system of a host. Once the host is dead nothing reaches the disk any more, and
// every change seems to succeed: a database that retries a failed write for ever then comes to rest,
// and what is on the disk is what a crash at that moment leaves.
type deadFS struct {
	vfs.FS
	dead  func() bool
	fsync func(path string, d time.Duration)
}

var (
	_ vfs.FS   = (*deadFS)(nil)
	_ vfs.File = (*deadFile)(nil)
)

func (f *deadFS) wrap(file vfs.File, name string, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &deadFile{File: file, fs: f, name: name}, nil
}

func (f *deadFS) Create(name string, cat vfs.DiskWriteCategory) (vfs.File, error) {
	if f.dead() {
		return nullFile{}, nil
	}
	file, err := f.FS.Create(name, cat)
	return f.wrap(file, name, err)
}

func (f *deadFS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	file, err := f.FS.Open(name, opts...)
	return f.wrap(file, name, err)
}

func (f *deadFS) OpenReadWrite(name string, cat vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	if f.dead() {
		return nullFile{}, nil
	}
	file, err := f.FS.OpenReadWrite(name, cat, opts...)
	return f.wrap(file, name, err)
}

func (f *deadFS) OpenDir(name string) (vfs.File, error) {
	if f.dead() {
		return nullFile{}, nil
	}
	file, err := f.FS.OpenDir(name)
	return f.wrap(file, name, err)
}

func (f *deadFS) ReuseForWrite(oldname, newname string, cat vfs.DiskWriteCategory) (vfs.File, error) {
	if f.dead() {
		return nullFile{}, nil
	}
	file, err := f.FS.ReuseForWrite(oldname, newname, cat)
	return f.wrap(file, newname, err)
}

func (f *deadFS) Link(oldname, newname string) error {
	return f.change(func() error { return f.FS.Link(oldname, newname) })
}

func (f *deadFS) Remove(name string) error {
	return f.change(func() error { return f.FS.Remove(name) })
}

func (f *deadFS) RemoveAll(name string) error {
	return f.change(func() error { return f.FS.RemoveAll(name) })
}

func (f *deadFS) Rename(oldname, newname string) error {
	return f.change(func() error { return f.FS.Rename(oldname, newname) })
}

func (f *deadFS) MkdirAll(dir string, perm os.FileMode) error {
	return f.change(func() error { return f.FS.MkdirAll(dir, perm) })
}

func (f *deadFS) change(fn func() error) error {
	if f.dead() {
		return nil
	}
	return f.after(fn())
}

// after forgives an error that death has overtaken.
func (f *deadFS) after(err error) error {
	if err != nil && f.dead() {
		return nil
	}
	return err
}

// Unwrap implements vfs.FS.
func (f *deadFS) Unwrap() vfs.FS { return f.FS }

// deadFile is a file of a deadFS.
type deadFile struct {
	vfs.File
	fs   *deadFS
	name string
}

func (f *deadFile) Write(p []byte) (int, error) {
	if f.fs.dead() {
		return len(p), nil
	}
	return f.File.Write(p)
}

func (f *deadFile) WriteAt(p []byte, off int64) (int, error) {
	if f.fs.dead() {
		return len(p), nil
	}
	return f.File.WriteAt(p, off)
}

func (f *deadFile) Preallocate(off, n int64) error {
	return f.fs.change(func() error { return f.File.Preallocate(off, n) })
}

func (f *deadFile) Sync() error { return f.sync(f.File.Sync) }

func (f *deadFile) SyncData() error { return f.sync(f.File.SyncData) }

func (f *deadFile) SyncTo(n int64) (full bool, err error) {
	err = f.fs.change(func() (err error) { full, err = f.File.SyncTo(n); return err })
	return full, err
}

func (f *deadFile) sync(fn func() error) error {
	if f.fs.dead() {
		return nil
	}
	start := time.Now()
	err := fn()
	f.fs.fsync(f.name, time.Since(start))
	return err
}

// nullFile takes what a dead host still writes.
type nullFile struct{}

func (nullFile) Close() error                           { return nil }
func (nullFile) Read([]byte) (int, error)               { return 0, io.EOF }
func (nullFile) ReadAt([]byte, int64) (int, error)      { return 0, io.EOF }
func (nullFile) Write(p []byte) (int, error)            { return len(p), nil }
func (nullFile) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
func (nullFile) Preallocate(int64, int64) error         { return nil }
func (nullFile) Stat() (vfs.FileInfo, error)            { return nil, oserror.ErrNotExist }
func (nullFile) Sync() error                            { return nil }
func (nullFile) SyncTo(int64) (bool, error)             { return true, nil }
func (nullFile) SyncData() error                        { return nil }
func (nullFile) Prefetch(int64, int64) error            { return nil }
func (nullFile) Fd() uintptr                            { return vfs.InvalidFd }
