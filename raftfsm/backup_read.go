package raftfsm

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
)

// Backup is a backup file that was read to its end and found whole.
type Backup struct {
	Header BackupHeader
	// ID names the content: the SHA-256 of the file up to its trailer, in hex.
	ID string
	// Bytes is the size of the file.
	Bytes    int64
	Sections []BackupData
}

// BackupData is what a restore needs to know of a section.
type BackupData struct {
	Group uint32
	Index uint64
	// Meta is the machine's meta record. Records and Sum are those that a restore brings.
	Meta    []byte
	Records uint64
	Sum     [16]byte
	offset  int64
}

// Section is the section of a group, nil if there is none.
func (b *Backup) Section(group uint32) *BackupData {
	for i := range b.Sections {
		if b.Sections[i].Group == group {
			return &b.Sections[i]
		}
	}
	return nil
}

// CheckBackup reads a backup to its last byte and verifies every checksum in it. A file that ends early, goes on too
// long or was changed is ErrCorrupt. moved is told of the bytes read, and may be nil.
func CheckBackup(src io.Reader, moved func(n int)) (*Backup, error) {
	r := &countedReader{r: bufio.NewReaderSize(src, backupBlock), moved: moved}
	sum := sha256.New()
	r.also = sum
	b := new(Backup)
	if err := b.readHeader(r); err != nil {
		return nil, err
	}
	for {
		kind, err := r.ReadByte()
		if err != nil {
			return nil, damaged("it ends at byte %d, before its trailer: %w", r.n, err)
		}
		if kind == backupTrailer {
			break
		}
		if kind != backupSection || len(b.Sections) == len(b.Header.Groups) {
			return nil, damaged("there is no section at byte %d", r.n-1)
		}
		if err := b.readSection(r); err != nil {
			return nil, err
		}
	}
	r.also = nil
	id := sum.Sum(nil)
	return b, b.readTrailer(r, id)
}

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: backup: "+format, append([]any{ErrCorrupt}, args...)...)
}

// readHeader reads magic and header.
func (b *Backup) readHeader(r *countedReader) error {
	head := make([]byte, len(backupMagic)+4)
	if _, err := io.ReadFull(r, head); err != nil || string(head[:len(backupMagic)-1]) != backupMagic[:len(backupMagic)-1] {
		return damaged("this is not a backup of flotilla")
	}
	if head[len(backupMagic)-1] != backupMagic[len(backupMagic)-1] {
		return fmt.Errorf("%w: the backup has format %d, this program knows %d: use a newer flotilla", ErrIdentity,
			head[len(backupMagic)-1], backupMagic[len(backupMagic)-1])
	}
	n := binary.BigEndian.Uint32(head[len(backupMagic):])
	if n > maxBackupHeader {
		return damaged("header of %d bytes", n)
	}
	body, err := readN(r, head, int(n)+4)
	if err != nil {
		return damaged("header: %w", err)
	}
	end := len(body) - 4
	if crc32.Checksum(body[:end], castagnoli) != binary.LittleEndian.Uint32(body[end:]) {
		return damaged("checksum of the header")
	}
	if err := json.Unmarshal(body[len(head):end], &b.Header); err != nil {
		return damaged("header: %w", err)
	}
	return nil
}

// readSection verifies a section, and gathers what a restore is to be held against.
func (b *Backup) readSection(r *countedReader) error {
	at := r.n - 1
	var head [sectionHeadLen - 1]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return damaged("section %d: %w", len(b.Sections), err)
	}
	d := BackupData{Group: binary.BigEndian.Uint32(head[:]), Index: binary.BigEndian.Uint64(head[4:]), offset: at}
	want := b.Header.Groups[len(b.Sections)]
	if d.Group != want.Group || d.Index != want.Index {
		return damaged("section %d is group %d at %d, the header says group %d at %d", len(b.Sections), d.Group, d.Index, want.Group, want.Index)
	}
	var sum state.RecordSum
	err := readSectionBody(r, &d, func(k, v []byte) error {
		switch {
		case state.IsMeta(k):
			d.Meta = bytes.Clone(v)
		case state.Restorable(k):
			sum.Add(k, v)
		}
		return nil
	})
	if err != nil {
		return err
	}
	d.Records, d.Sum = sum.Records, sum.Sum()
	b.Sections = append(b.Sections, d)
	return nil
}

func readSectionBody(r io.Reader, d *BackupData, fn func(k, v []byte) error) error {
	blocks, err := newBlockReader(r)
	if err != nil {
		return err
	}
	defer blocks.close()
	head, err := readStream(blocks, fn)
	if err != nil {
		return fmt.Errorf("backup, group %d: %w", d.Group, err)
	}
	if head.group != d.Group || head.index != d.Index {
		return damaged("the section of group %d at %d holds group %d at %d", d.Group, d.Index, head.group, head.index)
	}
	if _, err := blocks.Read(make([]byte, 1)); err != io.EOF {
		return damaged("the section of group %d has no end: %w", d.Group, err)
	}
	return nil
}

func (b *Backup) readTrailer(r *countedReader, id []byte) error {
	tail := make([]byte, backupTailLen-1)
	if _, err := io.ReadFull(r, tail); err != nil {
		return damaged("it ends in its trailer: %w", err)
	}
	n := 4 + sha256.Size
	switch {
	case string(tail[n+4:]) != backupEndMagic ||
		crc32.Update(crc32.Checksum([]byte{backupTrailer}, castagnoli), castagnoli, tail[:n]) != binary.LittleEndian.Uint32(tail[n:]):
		return damaged("checksum of the trailer")
	case int(binary.BigEndian.Uint32(tail)) != len(b.Sections) || len(b.Sections) != len(b.Header.Groups):
		return damaged("it has %d of %d sections", len(b.Sections), len(b.Header.Groups))
	case !bytes.Equal(tail[4:n], id):
		return damaged("its content is not what was written")
	}
	if _, err := r.ReadByte(); err != io.EOF {
		return damaged("bytes behind the trailer")
	}
	b.ID, b.Bytes = hex.EncodeToString(id), r.n
	return nil
}

// Records gives the records of a group of a file that CheckBackup found whole. The slices are valid during the call.
func (b *Backup) Records(file io.ReaderAt, group uint32, fn func(k, v []byte) error) error {
	d := b.Section(group)
	if d == nil {
		return fmt.Errorf("%w: group %d is not in the backup", ErrNotFound, group)
	}
	at := d.offset + sectionHeadLen
	r := bufio.NewReaderSize(io.NewSectionReader(file, at, b.Bytes-at), backupBlock)
	return readSectionBody(r, d, fn)
}

// blockReader reads the blocks of a section as the stream that they hold.
type blockReader struct {
	r      io.Reader
	dec    *zstd.Decoder
	in     []byte
	raw    []byte
	off    int
	blocks uint64
	bytes  uint64
	sum    uint32
	done   bool
}

func newBlockReader(r io.Reader) (*blockReader, error) {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(4*backupBlock))
	if err != nil {
		return nil, fmt.Errorf("decompress the backup: %w", err)
	}
	return &blockReader{r: r, dec: dec}, nil
}

func (b *blockReader) close() { b.dec.Close() }

// Read implements io.Reader.
func (b *blockReader) Read(p []byte) (int, error) {
	for b.off == len(b.raw) {
		if b.done {
			return 0, io.EOF
		}
		if err := b.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, b.raw[b.off:])
	b.off += n
	return n, nil
}

func (b *blockReader) next() error {
	b.in = append(b.in[:0], 0, 0, 0, 0, 0, 0, 0, 0)
	if _, err := io.ReadFull(b.r, b.in); err != nil {
		return damaged("it ends in block %d: %w", b.blocks, noEOF(err))
	}
	n, raw := binary.BigEndian.Uint32(b.in), binary.BigEndian.Uint32(b.in[4:])
	if n == 0 {
		return b.end()
	}
	if raw == 0 || raw > backupBlock || n > raw+raw/8+1024 {
		return damaged("block %d of %d bytes", b.blocks, n)
	}
	var err error
	if b.in, err = readN(b.r, b.in, int(n)+4); err != nil {
		return damaged("it ends in block %d: %w", b.blocks, noEOF(err))
	}
	crc := b.in[8+n:]
	if crc32.Checksum(b.in[:8+n], castagnoli) != binary.LittleEndian.Uint32(crc) {
		return damaged("checksum of block %d", b.blocks)
	}
	b.raw, b.off = b.raw[:0], 0
	if b.raw, err = b.dec.DecodeAll(b.in[8:8+n], b.raw); err != nil || len(b.raw) != int(raw) {
		return damaged("block %d: %w", b.blocks, errors.Join(err, io.ErrUnexpectedEOF))
	}
	b.sum = crc32.Update(b.sum, castagnoli, crc)
	b.blocks, b.bytes = b.blocks+1, b.bytes+uint64(raw)
	return nil
}

func (b *blockReader) end() error {
	end, err := readN(b.r, b.in, sectionEndLen-8)
	b.in = end
	if err != nil {
		return damaged("it ends in the end of a section: %w", noEOF(err))
	}
	n := sectionEndLen - 4
	if crc32.Checksum(end[:n], castagnoli) != binary.LittleEndian.Uint32(end[n:]) ||
		binary.BigEndian.Uint64(end[8:]) != b.blocks || binary.BigEndian.Uint64(end[16:]) != b.bytes ||
		binary.LittleEndian.Uint32(end[24:]) != b.sum {
		return damaged("the end of a section")
	}
	b.done, b.raw, b.off = true, b.raw[:0], 0
	return nil
}

// noEOF: an end in the middle of something is no end.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// countedReader counts and sums what is read.
type countedReader struct {
	r     *bufio.Reader
	n     int64
	also  io.Writer
	moved func(n int)
}

func (c *countedReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.note(p[:n])
	return n, err
}

// ReadByte reads one byte, which does not enter the sum if it begins the trailer.
func (c *countedReader) ReadByte() (byte, error) {
	v, err := c.r.ReadByte()
	if err != nil {
		return 0, err
	}
	also := c.also
	if v == backupTrailer {
		c.also = nil
	}
	c.note([]byte{v})
	c.also = also
	return v, nil
}

func (c *countedReader) note(p []byte) {
	c.n += int64(len(p))
	if c.also != nil {
		c.also.Write(p)
	}
	if c.moved != nil && len(p) > 0 {
		c.moved(len(p))
	}
}
