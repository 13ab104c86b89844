package raftfsm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
)

// droppedDir holds, for each group that was dropped here, the term that its replica had seen.
const droppedDir = "dropped"

// DropGroup deletes everything that the closed group id has on this node. What stays is the term that the replica
// had seen: if this node becomes a member of the group again, it begins there and gives no vote in it, so that the
// same identity never votes twice in a term. The votes go last, so that a crash leaves a replica that is refused and
// not one that has forgotten; the caller drops it again.
func (h *Host) DropGroup(id uint32) error {
	if _, open := h.Group(id); open {
		return fmt.Errorf("group %d is open", id)
	}
	if err := h.rememberTerm(id); err != nil {
		return fmt.Errorf("drop group %d: %w", id, err)
	}
	s := &sharedLog{db: h.logDB, group: id}
	if err := h.logDB.DeleteRange(s.key(0), s.end(), pebble.Sync); err != nil {
		return fmt.Errorf("drop log of group %d: %w", id, err)
	}
	if err := h.state.drop(id); err != nil {
		return err
	}
	if err := h.state.flush(); err != nil {
		return err
	}
	parent := h.fs.PathJoin(h.cfg.Dir, groupsDir)
	if err := h.fs.RemoveAll(h.fs.PathJoin(parent, strconv.FormatUint(uint64(id), 10))); err != nil {
		return fmt.Errorf("drop group %d: %w", id, err)
	}
	return syncDir(h.fs, parent)
}

// rememberTerm writes down the term of a group whose votes are about to go.
func (h *Host) rememberTerm(id uint32) error {
	dir, err := h.groupDir(id)
	if err != nil {
		return err
	}
	votes, err := h.cfg.Stable(dir, id)
	if err != nil {
		return err
	}
	s := &guardedStable{group: id, inner: votes, fst: h.fst, wd: h.wd, dead: func() bool { return false }, observe: func(time.Duration) {}}
	term, err := s.loadUint(keyTerm)
	if isKeyNotFound(err) {
		err = nil // it never took part
	}
	if err = errors.Join(err, votes.Close()); err != nil {
		return err
	}
	known, err := h.droppedTerm(id)
	if err != nil || term <= known {
		return err
	}
	return h.writeDropped(id, term)
}

func (h *Host) droppedPath(id uint32) (parent, path string) {
	parent = h.fs.PathJoin(h.cfg.Dir, droppedDir)
	return parent, h.fs.PathJoin(parent, strconv.FormatUint(uint64(id), 10))
}

// writeDropped replaces the record of a dropped group: its term and a CRC.
func (h *Host) writeDropped(id uint32, term uint64) error {
	parent, path := h.droppedPath(id)
	if err := h.fs.MkdirAll(parent, 0o700); err != nil {
		return err
	}
	if err := syncDir(h.fs, h.cfg.Dir); err != nil {
		return err
	}
	b := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(nil, id), term)
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	f, err := h.fs.Create(path+".new", vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := h.fs.Rename(path+".new", path); err != nil {
		return err
	}
	return syncDir(h.fs, parent)
}

// droppedTerm is the term that a dropped replica of the group had seen, 0 if there was none.
func (h *Host) droppedTerm(id uint32) (uint64, error) {
	_, path := h.droppedPath(id)
	f, err := h.fs.Open(path)
	if err != nil {
		if _, statErr := h.fs.Stat(path); statErr != nil {
			return 0, nil // nothing was dropped
		}
		return 0, err
	}
	b, err := io.ReadAll(io.LimitReader(f, 64))
	if err = errors.Join(err, f.Close()); err != nil {
		return 0, err
	}
	if len(b) != 16 || binary.BigEndian.Uint32(b[12:]) != crc32.Checksum(b[:12], castagnoli) || binary.BigEndian.Uint32(b) != id {
		return 0, fmt.Errorf("%w: %s", ErrCorrupt, path)
	}
	return binary.BigEndian.Uint64(b[4:]), nil
}

// resume begins the votes of a replica that was here before at the term that it had seen, with the vote of that term
// given to itself: an empty replica is no candidate, so it helps nobody.
func (s *guardedStable) resume(h *Host, f stableFacts) (stableFacts, error) {
	term, err := h.droppedTerm(s.group)
	if err != nil || term == 0 {
		return f, err
	}
	value := binary.BigEndian.AppendUint64(nil, term)
	for _, kv := range []struct {
		key string
		val []byte
	}{{keyTerm, value}, {keyVoteTerm, value}, {keyVoteCand, []byte(raft.ServerAddress(h.cfg.NodeID))}} {
		if err := s.put([]byte(kv.key), kv.val); err != nil {
			return f, err
		}
	}
	f.term, f.voteTerm, f.hasVote, f.voteSum = term, term, true, voteSum([]byte(h.cfg.NodeID))
	return f, s.fst.err()
}
