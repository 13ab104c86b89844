package raftfsm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
)

// bbolt checks the structure of its pages with panics, some of them on goroutines of its own, where
// nothing can recover them; only its two meta pages carry a checksum. So the pages that can be
// reached are walked here before bbolt sees the file. The layout is that of bbolt's file format,
// version 2, in the byte order of the machine.
const (
	boltMagic      = 0xED0CDAED
	boltVersion    = 2
	boltHeader     = 16 // page: id 8, flags 2, count 2, overflow 4
	boltElement    = 16 // branch: pos 4, ksize 4, page 8; leaf: flags 4, pos 4, ksize 4, vsize 4
	boltMetaLen    = 64 // magic, version, page size, flags 4 each; root 8+8, freelist, pages, tx, checksum 8 each
	boltBucket     = 16 // root page 8, sequence 8; a small bucket's only page follows
	boltBranch     = 0x01
	boltLeaf       = 0x02
	boltBucketFlag = 0x01
	boltMaxDepth   = 64
)

// boltWalk is a walk over the pages of a file.
type boltWalk struct {
	f        io.ReaderAt
	pageSize uint64
	pages    uint64 // page ids are below it
	seen     map[uint64]bool
}

// checkBolt verifies the structure of the file at path, if there is one.
func checkBolt(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = walkBolt(f)
	}
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrCorrupt, boltFile, err)
	}
	return nil
}

func walkBolt(f *os.File) (err error) {
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() == 0 {
		return nil // bbolt makes a new database of it; the group's other parts tell a lost one
	}
	w := &boltWalk{f: f, seen: map[uint64]bool{}}
	root, err := w.openMeta()
	if err != nil {
		return err
	}
	if int64(w.pages*w.pageSize) > info.Size() {
		return fmt.Errorf("file of %d bytes should have %d pages", info.Size(), w.pages)
	}
	return w.page(root, 0, nil, nil)
}

// openMeta reads the newer of the valid meta pages and returns the root page.
func (w *boltWalk) openMeta() (root uint64, err error) {
	var newest uint64
	w.pageSize = uint64(os.Getpagesize())
	for i := range uint64(2) {
		b := make([]byte, boltMetaLen)
		if _, err := w.f.ReadAt(b, int64(i*w.pageSize)+boltHeader); err != nil {
			continue
		}
		h := fnv.New64a()
		_, _ = h.Write(b[:boltMetaLen-8])
		ne := binary.NativeEndian
		if ne.Uint32(b) != boltMagic || ne.Uint32(b[4:]) != boltVersion || ne.Uint64(b[56:]) != h.Sum64() {
			continue
		}
		if tx := ne.Uint64(b[48:]); root == 0 || tx > newest {
			newest, root, w.pages = tx, ne.Uint64(b[16:]), ne.Uint64(b[40:])
		}
		w.pageSize = uint64(ne.Uint32(b[8:]))
	}
	if root == 0 || w.pageSize < 512 || w.pages > 1<<40/w.pageSize {
		return 0, errors.New("no valid meta page")
	}
	return root, nil
}

// page verifies a page and what it refers to. Its keys must be in [lo, hi), in order; nil is no bound.
func (w *boltWalk) page(id uint64, depth int, lo, hi []byte) error {
	if depth > boltMaxDepth || !w.mark(id) {
		return fmt.Errorf("page %d is referred to wrongly", id)
	}
	b := make([]byte, w.pageSize)
	if _, err := w.f.ReadAt(b, int64(id*w.pageSize)); err != nil {
		return fmt.Errorf("read page %d: %w", id, err)
	}
	if got := binary.NativeEndian.Uint64(b); got != id {
		return fmt.Errorf("page %d says that it is %d", id, got)
	}
	overflow := uint64(binary.NativeEndian.Uint32(b[12:]))
	for i := range overflow {
		if !w.mark(id + 1 + i) {
			return fmt.Errorf("page %d goes on for %d pages", id, overflow)
		}
	}
	if overflow > 0 {
		more := make([]byte, overflow*w.pageSize)
		if _, err := w.f.ReadAt(more, int64((id+1)*w.pageSize)); err != nil {
			return fmt.Errorf("read page %d: %w", id, err)
		}
		b = append(b, more...)
	}
	if err := w.content(b, depth, lo, hi); err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	return nil
}

// mark notes a page as used; each is used once.
func (w *boltWalk) mark(id uint64) bool {
	if id < 2 || id >= w.pages || w.seen[id] {
		return false
	}
	w.seen[id] = true
	return true
}

// content verifies what a page holds.
func (w *boltWalk) content(b []byte, depth int, lo, hi []byte) error {
	ne := binary.NativeEndian
	flags, count := ne.Uint16(b[8:]), uint64(ne.Uint16(b[10:]))
	if flags != boltBranch && flags != boltLeaf || flags == boltBranch && count == 0 ||
		boltHeader+count*boltElement > uint64(len(b)) {
		return fmt.Errorf("type %#x with %d elements", flags, count)
	}
	keys := make([][]byte, count)
	for i := range count {
		key, ok := boltKey(b, i, flags)
		if !ok || lo != nil && bytes.Compare(key, lo) < 0 || hi != nil && bytes.Compare(key, hi) >= 0 ||
			i > 0 && bytes.Compare(key, keys[i-1]) <= 0 {
			return fmt.Errorf("key %d", i)
		}
		keys[i] = key
	}
	for i := range count {
		var err error
		if flags == boltBranch {
			next := hi
			if i+1 < count {
				next = keys[i+1]
			}
			err = w.page(ne.Uint64(b[boltHeader+i*boltElement+8:]), depth+1, keys[i], next)
		} else {
			err = w.leaf(b, i, depth)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// boltKey returns the key of an element, whose place counts from the element itself.
func boltKey(b []byte, i uint64, flags uint16) ([]byte, bool) {
	at := boltHeader + i*boltElement
	e := b[at : at+boltElement]
	if flags == boltLeaf {
		e = e[4:]
	}
	from := at + uint64(binary.NativeEndian.Uint32(e))
	to := from + uint64(binary.NativeEndian.Uint32(e[4:]))
	if from == to || to > uint64(len(b)) {
		return nil, false
	}
	return b[from:to], true
}

// leaf verifies a value, and the bucket that it may be.
func (w *boltWalk) leaf(b []byte, i uint64, depth int) error {
	ne := binary.NativeEndian
	at := boltHeader + i*boltElement
	e := b[at : at+boltElement]
	from := at + uint64(ne.Uint32(e[4:])) + uint64(ne.Uint32(e[8:]))
	to := from + uint64(ne.Uint32(e[12:]))
	if to > uint64(len(b)) || ne.Uint32(e) > boltBucketFlag {
		return fmt.Errorf("value %d", i)
	}
	if ne.Uint32(e) != boltBucketFlag {
		return nil
	}
	v := b[from:to]
	if len(v) < boltBucket {
		return errors.New("bucket without a root")
	}
	if root := ne.Uint64(v); root != 0 {
		return w.page(root, depth+1, nil, nil)
	}
	inline := v[boltBucket:]
	if len(inline) < boltHeader || ne.Uint16(inline[8:]) != boltLeaf {
		return errors.New("bucket without a page")
	}
	return w.content(inline, depth+1, nil, nil)
}
