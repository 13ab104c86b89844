package raftfsm

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/hashicorp/raft"
)

const (
	logKeyLen    = 12
	entryHeadLen = 4 + 8 + 1 + 8
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// entrySize is the size of an entry on disk.
func entrySize(log *raft.Log) int {
	return logKeyLen + entryHeadLen + uvarintLen(uint64(len(log.Extensions))) + len(log.Extensions) + len(log.Data)
}

func uvarintLen(v uint64) int {
	n := 1
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}

func putLogKey(k []byte, group uint32, index uint64) {
	binary.BigEndian.PutUint32(k, group)
	binary.BigEndian.PutUint64(k[4:], index)
}

// putEntry writes an entry's value: CRC32C over key and rest, term, type, time, extensions, data.
func putEntry(v, key []byte, log *raft.Log) {
	binary.LittleEndian.PutUint64(v[4:], log.Term)
	v[12] = byte(log.Type)
	binary.LittleEndian.PutUint64(v[13:], uint64(unixNano(log.AppendedAt)))
	n := entryHeadLen + binary.PutUvarint(v[entryHeadLen:], uint64(len(log.Extensions)))
	n += copy(v[n:], log.Extensions)
	copy(v[n:], log.Data)
	binary.LittleEndian.PutUint32(v, entryCRC(key, v))
}

func entryCRC(key, v []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, v[4:])
}

// getEntry decodes a value that it may keep slices of.
func getEntry(key, v []byte, log *raft.Log) error {
	if len(v) < entryHeadLen || len(key) != logKeyLen {
		return fmt.Errorf("%w: entry of %d bytes", ErrCorrupt, len(v))
	}
	index := binary.BigEndian.Uint64(key[4:])
	if binary.LittleEndian.Uint32(v) != entryCRC(key, v) {
		return fmt.Errorf("%w: checksum of entry %d", ErrCorrupt, index)
	}
	n, w := binary.Uvarint(v[entryHeadLen:])
	body := v[entryHeadLen:]
	if w <= 0 || n > uint64(len(body)-w) {
		return fmt.Errorf("%w: extensions of entry %d", ErrCorrupt, index)
	}
	body = body[w:]
	*log = raft.Log{Index: index, Term: binary.LittleEndian.Uint64(v[4:]), Type: raft.LogType(v[12]), Data: body[n:]}
	if n > 0 {
		log.Extensions = body[:n:n]
	}
	if at := int64(binary.LittleEndian.Uint64(v[13:])); at != 0 {
		log.AppendedAt = time.Unix(0, at)
	}
	return nil
}

// unixNano is 0 for the zero time, which the bootstrap's entry has.
func unixNano(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}
