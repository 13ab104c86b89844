package ca

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// The names of the files, in the folder of the authority and in that of a node.
const (
	CertFile     = "ca.pem"
	KeyFile      = "ca.key"
	NodeCertFile = "node.pem"
	NodeKeyFile  = "node.key"
)

// secret is the mode of every file here: certificates are no secret, but
// nobody else has to read them, and one rule is easier to check.
const secret = 0o600

// Save writes an authority into a folder, which is made. It overwrites nothing.
func (a *Authority) Save(dir string) error {
	key, err := a.KeyPEM()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return writeNew(dir, file{KeyFile, key}, file{CertFile, a.CertPEM()})
}

// Open reads the authority of a folder.
func Open(dir string) (*Authority, error) {
	cert, err := os.ReadFile(filepath.Join(dir, CertFile))
	if err != nil {
		return nil, err
	}
	key, err := os.ReadFile(filepath.Join(dir, KeyFile))
	if err != nil {
		return nil, err
	}
	a, err := Load(cert, key)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return a, nil
}

// SaveNode writes what a node needs into a folder, which is made: its
// certificate, its key if there is one, and the authority's certificate. It
// overwrites nothing, unless renew says so; then each file is replaced whole.
func (a *Authority) SaveNode(dir string, i Issued, renew bool) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	files := []file{{NodeCertFile, i.Cert}, {CertFile, a.CertPEM()}}
	if i.Key != nil {
		files = append([]file{{NodeKeyFile, i.Key}}, files...)
	}
	if !renew {
		return writeNew(dir, files...)
	}
	for _, f := range files {
		if err := replace(dir, f); err != nil {
			return err
		}
	}
	return nil
}

type file struct {
	name string
	text []byte
}

// writeNew writes files that must not exist, all or none.
func writeNew(dir string, files ...file) error {
	for _, f := range files {
		if _, err := os.Lstat(filepath.Join(dir, f.name)); err == nil {
			return fmt.Errorf("%w: %s", ErrExists, filepath.Join(dir, f.name))
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for i, f := range files {
		if err := write(filepath.Join(dir, f.name), f.text); err != nil {
			for _, done := range files[:i] {
				_ = os.Remove(filepath.Join(dir, done.name))
			}
			return err
		}
	}
	return nil
}

// write makes a file; another one of that name is an error.
func write(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, secret)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: %s", ErrExists, path)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(path)
	}
	return err
}

// replace puts a file into the place of another one.
func replace(dir string, f file) error {
	tmp := filepath.Join(dir, "."+f.name+".new")
	_ = os.Remove(tmp)
	if err := write(tmp, f.text); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(dir, f.name))
}
