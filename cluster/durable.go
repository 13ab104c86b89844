package cluster

import (
	"errors"
	"os"
	"path/filepath"
)

// replaceFile writes a small file durably: a new one that only its owner may read, fsynced, renamed, and the directory
// fsynced. After an error the old one is there, and nothing else is left behind.
func replaceFile(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err == nil {
		return syncDir(filepath.Dir(path))
	}
	_ = os.Remove(f.Name())
	return err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
