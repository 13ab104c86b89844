package raftfsm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/cockroachdb/errors/oserror"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Neither database notices every damage at its very end: Pebble takes a damaged chunk in the last
// block of its WAL for a torn write, and bbolt falls back to the meta page of the transaction before.
// Either would silently take back what was acknowledged. So each group has a small file that says
// what was last made durable. It is written after each such write, without an fsync: it is a lower
// bound, survives the end of the process, and costs a few microseconds. After a power loss it may be
// old and is then of no use, but never wrong. Where the bound is to sink, it is fsynced first.
const (
	tailFile    = "tail"
	tailVersion = 1
	tailLen     = 1 + 4 + 3*8 + 4 + 4
)

// tailRecord is a lower bound of what is durable.
type tailRecord struct {
	last     uint64 // end of the log
	term     uint64
	voteTerm uint64
	voteSum  uint32 // checksum of whom the vote went to; 0 = not known
}

func (r tailRecord) encode(group uint32) []byte {
	b := append(make([]byte, 0, tailLen), tailVersion)
	b = binary.BigEndian.AppendUint32(b, group)
	for _, v := range []uint64{r.last, r.term, r.voteTerm} {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	b = binary.BigEndian.AppendUint32(b, r.voteSum)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func decodeTail(group uint32, b []byte) (r tailRecord, ok bool) {
	if len(b) != tailLen || b[0] != tailVersion || binary.BigEndian.Uint32(b[1:]) != group ||
		binary.LittleEndian.Uint32(b[tailLen-4:]) != crc32.Checksum(b[:tailLen-4], castagnoli) {
		return r, false
	}
	return tailRecord{
		last: binary.BigEndian.Uint64(b[5:]), term: binary.BigEndian.Uint64(b[13:]),
		voteTerm: binary.BigEndian.Uint64(b[21:]), voteSum: binary.BigEndian.Uint32(b[29:]),
	}, true
}

// tail writes the record. It is used by raft's main goroutine, and by the group before and after raft
// runs.
type tail struct {
	group uint32
	f     vfs.File
	fst   *failStop
	dead  func() bool
	now   tailRecord
}

// openTail reads the record of a group. A record that is missing or damaged bounds nothing.
func openTail(fs vfs.FS, dir string, group uint32, fst *failStop, dead func() bool) (*tail, error) {
	path := fs.PathJoin(dir, tailFile)
	t := &tail{group: group, fst: fst, dead: dead}
	b, err := readFile(fs, path, tailLen+1)
	if err != nil && !oserror.IsNotExist(err) && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read %s: %w", tailFile, err)
	}
	t.now, _ = decodeTail(group, b)
	if t.f, err = fs.OpenReadWrite(path, vfs.WriteCategoryUnspecified); err != nil {
		return nil, fmt.Errorf("open %s: %w", tailFile, err)
	}
	return t, syncDir(fs, dir)
}

// raise notes what is durable now.
func (t *tail) raise(change func(r *tailRecord)) error {
	before := t.now
	change(&t.now)
	if t.now == before || t.dead() {
		return nil
	}
	return t.write()
}

// lower makes the log's bound sink, before the log itself does.
func (t *tail) lower(last uint64) error {
	if t.now.last <= last || t.dead() {
		return nil
	}
	t.now.last = last
	if err := t.write(); err != nil {
		return err
	}
	if err := t.f.Sync(); err != nil {
		err = fmt.Errorf("fsync %s of group %d: %w", tailFile, t.group, err)
		t.fst.fail(err)
		return err
	}
	return nil
}

func (t *tail) write() error {
	if _, err := t.f.WriteAt(t.now.encode(t.group), 0); err != nil {
		err = fmt.Errorf("write %s of group %d: %w", tailFile, t.group, err)
		t.fst.fail(err)
		return err
	}
	return nil
}

func (t *tail) close(clean bool) error {
	var err error
	if clean {
		err = t.f.Sync()
	}
	return errors.Join(err, t.f.Close())
}

// check says why log and votes are not what they were.
func (t *tail) check(end uint64, f stableFacts) error {
	r := t.now
	switch {
	case end < r.last:
		return fmt.Errorf("log ends at %d, but was written up to %d", end, r.last)
	case f.term < r.term || f.voteTerm < r.voteTerm:
		return fmt.Errorf("votes of term %d are older than those of term %d that were written", f.term, max(r.term, r.voteTerm))
	case f.voteTerm == r.voteTerm && r.voteSum != 0 && f.voteSum != r.voteSum:
		return fmt.Errorf("vote in term %d is not the one that was written", f.voteTerm)
	}
	return nil
}
