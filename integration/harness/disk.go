package harness

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// What a node's disk can be told, in a binary that was built with the tag planted (FLOTILLA_TAGS=planted).
const (
	DiskWell      = ""
	DiskEIO       = "eio"       // changes fail
	DiskFull      = "enospc"    // changes fail for want of room
	DiskStall     = "stall"     // changes wait
	DiskSlow      = "slow 40ms" // each sync takes longer
	DiskPowerLoss = "powerloss" // what is not synced is lost, and the process is gone
)

// order is the file that a node's disk obeys.
func (c *Cluster) order(id string) string { return filepath.Join(c.Dir, id+".disk") }

// Disk tells the disk of a node what to do. Without the tag it obeys nobody: see DiskObeys.
func (n *Node) Disk(order string) error {
	path := strings.TrimSuffix(n.LogPath, ".log") + ".disk"
	if order == DiskWell {
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			return err
		}
		return nil
	}
	tmp := path + ".new"
	if err := os.WriteFile(tmp, []byte(order), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// DiskObeys tells whether the binary under test was built with a disk that can be hurt.
func DiskObeys() bool {
	return slices.Contains(strings.Split(os.Getenv("FLOTILLA_TAGS"), ","), "planted")
}

// Copy copies the data directory of a node that does not run to another place, or back.
func (n *Node) Copy(to string) error {
	if n.Running() {
		return fmt.Errorf("node %s runs: its data cannot be copied", n.ID)
	}
	return copyTree(n.DataDir, to)
}

// Put replaces the data directory of a node that does not run by a copy.
func (n *Node) Put(from string) error {
	if err := n.Wipe(); err != nil {
		return err
	}
	return copyTree(from, n.DataDir)
}

func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		if d.IsDir() {
			return os.MkdirAll(target, 0o755)
		}
		return copyFile(path, target)
	})
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		return fmt.Errorf("copy %s: %w", from, err)
	}
	return out.Close()
}

// File picks a file of a node that does not run, by chance: each one alike, if it is not empty.
func (n *Node) File(rng *rand.Rand) (path string, size int64, err error) {
	type file struct {
		path string
		size int64
	}
	var files []file
	err = filepath.WalkDir(n.DataDir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		fi, err := d.Info()
		if err == nil && fi.Size() > 0 {
			files = append(files, file{path, fi.Size()})
		}
		return err
	})
	if err != nil || len(files) == 0 {
		return "", 0, fmt.Errorf("no file of node %s: %w", n.ID, err)
	}
	f := files[rng.IntN(len(files))]
	return f.path, f.size, nil
}

// FlipBit changes one bit of a file.
func FlipBit(path string, at int64, bit int) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		return err
	}
	b[0] ^= 1 << (bit % 8)
	_, err = f.WriteAt(b[:], at)
	return err
}

// Newest is the file of a node that was written to last: the end of its log.
func (n *Node) Newest() (path string, size int64, err error) {
	var at int64
	err = filepath.WalkDir(n.DataDir, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		fi, err := d.Info()
		if err == nil && fi.Size() > 0 && fi.ModTime().UnixNano() >= at {
			path, size, at = p, fi.Size(), fi.ModTime().UnixNano()
		}
		return err
	})
	if err == nil && path == "" {
		err = fmt.Errorf("node %s has no files", n.ID)
	}
	return path, size, err
}
