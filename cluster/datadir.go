package cluster

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// makeDataDir creates a directory and what is missing above it. Each directory
// that got a new entry is synced: a crash must not take away the directory in
// which promises were kept.
func makeDataDir(dir string, sync func(dir string) error) error {
	dir = filepath.Clean(dir)
	var made []string // directories that get an entry, the lowest first
	for at := dir; ; at = filepath.Dir(at) {
		if _, err := os.Stat(at); err == nil {
			break
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		made = append(made, filepath.Dir(at))
		if filepath.Dir(at) == at {
			break
		}
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	for _, parent := range made {
		if err := sync(parent); err != nil {
			return err
		}
	}
	return nil
}
