//go:build !planted

package raftfsm

import "github.com/cockroachdb/pebble/v2/vfs"

// planted tells whether a bug is planted on purpose: in this build there is none, and what asks for one is not compiled.
func planted(string) bool { return false }

// rigDisk is the file system of a host: in this build the real one.
func rigDisk(fs vfs.FS) vfs.FS { return fs }
