package raftfsm

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"time"

	"github.com/klauspost/compress/zstd"
)

// A backup file is: the magic; the length of the header (4 bytes), the header as JSON, a CRC; a section for each group;
// a trailer {'E', sections, SHA-256 of everything before it, CRC}; the magic of the end. A section is {'S', group, index},
// blocks {length, raw length, zstd, CRC}, and an end {0, 0, blocks, raw bytes, CRC over the CRCs of the blocks, CRC}.
// What the blocks of a section hold is a snapshot stream (stream.go), which has checksums of its own. Numbers are
// big endian, but for the CRCs (CRC32C, little endian), as in all files of this package.
const (
	backupMagic    = "FLTBKUP\x01" // the last byte is the format
	backupEndMagic = "FLTBKEND"
	backupSection  = 'S'
	backupTrailer  = 'E'
	sectionHeadLen = 1 + 4 + 8
	sectionEndLen  = 4 + 4 + 8 + 8 + 4 + 4
	backupTailLen  = 1 + 4 + sha256.Size + 4 + len(backupEndMagic)
	// backupBlock is how many bytes of a stream are compressed together.
	backupBlock = 256 << 10
	// maxBackupHeader bounds what a reader allocates for the header: some hundred bytes for each group.
	maxBackupHeader = 4 << 20
)

// BackupHeader says what a backup holds.
type BackupHeader struct {
	Format       int           `json:"format"`
	ClusterID    string        `json:"cluster_id"`
	CreatedAt    time.Time     `json:"created_at"`
	Version      string        `json:"version"`
	FeatureLevel uint32        `json:"feature_level"`
	Shards       uint32        `json:"shards"`
	Slots        int           `json:"slots"`
	SlotHash     string        `json:"slot_hash"`
	SlotMap      string        `json:"slot_map"` // SHA-256 of the slot map
	Groups       []BackupGroup `json:"groups"`
}

// BackupGroup is what a backup holds of one group, as of one applied index.
type BackupGroup struct {
	Group   uint32 `json:"group"`
	Kind    string `json:"kind"`
	Index   uint64 `json:"index"`
	Term    uint64 `json:"term"`
	ClockMS int64  `json:"clock_ms,omitempty"`
	// Digest is that of a replica at the index, Content that of what a restore brings back. Hex.
	Digest  string `json:"digest"`
	Content string `json:"content_digest,omitempty"`

	Sessions      int    `json:"sessions,omitempty"`
	Subscriptions int    `json:"subscriptions,omitempty"`
	Shares        int    `json:"shares,omitempty"`
	Messages      uint64 `json:"messages,omitempty"`
	Retained      int    `json:"retained,omitempty"`
	Originated    int    `json:"originated,omitempty"`
	Inbound       int    `json:"inbound,omitempty"`
}

// BackupWriter writes a backup file. It holds some blocks in memory, however large the state is.
type BackupWriter struct {
	w        io.Writer
	sum      hash.Hash
	enc      *zstd.Encoder
	sections uint32
	raw, buf []byte
	err      error
}

// NewBackupWriter writes the header.
func NewBackupWriter(w io.Writer, h *BackupHeader) (*BackupWriter, error) {
	h.Format = int(backupMagic[len(backupMagic)-1])
	head, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("encode the header of the backup: %w", err)
	}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, fmt.Errorf("compress the backup: %w", err)
	}
	b := &BackupWriter{w: w, sum: sha256.New(), enc: enc, raw: make([]byte, backupBlock)}
	out := append([]byte(backupMagic), binary.BigEndian.AppendUint32(nil, uint32(len(head)))...)
	out = append(out, head...)
	b.write(binary.LittleEndian.AppendUint32(out, crc32.Checksum(out, castagnoli)))
	return b, b.err
}

func (b *BackupWriter) write(p []byte) {
	if b.err != nil {
		return
	}
	b.sum.Write(p)
	_, b.err = b.w.Write(p)
}

// Section writes the stream of a group. moved is told of the bytes read, and may be nil.
func (b *BackupWriter) Section(group uint32, index uint64, src io.Reader, moved func(n int)) error {
	head := binary.BigEndian.AppendUint32([]byte{backupSection}, group)
	b.write(binary.BigEndian.AppendUint64(head, index))
	b.sections++
	var blocks, raw uint64
	sum := uint32(0)
	for b.err == nil {
		n, err := io.ReadFull(src, b.raw)
		if n > 0 {
			b.buf = append(b.buf[:0], 0, 0, 0, 0, 0, 0, 0, 0)
			b.buf = b.enc.EncodeAll(b.raw[:n], b.buf)
			binary.BigEndian.PutUint32(b.buf, uint32(len(b.buf)-8))
			binary.BigEndian.PutUint32(b.buf[4:], uint32(n))
			crc := binary.LittleEndian.AppendUint32(nil, crc32.Checksum(b.buf, castagnoli))
			sum = crc32.Update(sum, castagnoli, crc)
			b.write(append(b.buf, crc...))
			blocks, raw = blocks+1, raw+uint64(n)
			if moved != nil {
				moved(n)
			}
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			break
		}
		if err != nil {
			b.err = fmt.Errorf("read group %d: %w", group, err)
		}
	}
	end := make([]byte, 8, sectionEndLen)
	end = binary.BigEndian.AppendUint64(end, blocks)
	end = binary.BigEndian.AppendUint64(end, raw)
	end = binary.LittleEndian.AppendUint32(end, sum)
	b.write(binary.LittleEndian.AppendUint32(end, crc32.Checksum(end, castagnoli)))
	return b.err
}

// Close writes the trailer. Without it a file is no backup.
func (b *BackupWriter) Close() error {
	if err := b.enc.Close(); err != nil && b.err == nil {
		b.err = err
	}
	tail := binary.BigEndian.AppendUint32([]byte{backupTrailer}, b.sections)
	tail = b.sum.Sum(tail)
	tail = binary.LittleEndian.AppendUint32(tail, crc32.Checksum(tail, castagnoli))
	b.write(append(tail, backupEndMagic...))
	return b.err
}
