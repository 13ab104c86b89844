package raftfsm

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/cockroachdb/pebble/v2"
)

// A snapshot stream is: a header {magic, version, group, index, CRC}; blocks
// {length, pairs, CRC}; a trailer {length 0, blocks, pairs, CRC over the block CRCs}. A pair is key
// length, key, value length, value. All checksums are CRC32C.
const (
	streamMagic   = "FLSS"
	streamVersion = 1
	headerLen     = 4 + 1 + 4 + 8 + 4
	trailerLen    = 4 + 8 + 8 + 4 + 4
	blockBytes    = 64 << 10
	// maxBlockBytes bounds what a reader allocates for one block; one pair may be that large.
	maxBlockBytes = 64 << 20
)

// streamHead is the header of a stream.
type streamHead struct {
	group uint32
	index uint64 // raft's index of the snapshot; the state is at or after it
}

func (h streamHead) encode() []byte {
	b := append(make([]byte, 0, headerLen), streamMagic...)
	b = append(b, streamVersion)
	b = binary.BigEndian.AppendUint32(b, h.group)
	b = binary.BigEndian.AppendUint64(b, h.index)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func decodeStreamHead(b []byte) (streamHead, error) {
	if string(b[:4]) != streamMagic || binary.LittleEndian.Uint32(b[headerLen-4:]) != crc32.Checksum(b[:headerLen-4], castagnoli) {
		return streamHead{}, fmt.Errorf("%w: snapshot header", ErrCorrupt)
	}
	if b[4] != streamVersion {
		return streamHead{}, fmt.Errorf("%w: snapshot has format %d", ErrIdentity, b[4])
	}
	return streamHead{group: binary.BigEndian.Uint32(b[5:]), index: binary.BigEndian.Uint64(b[9:])}, nil
}

// streamReader produces a stream from a Pebble snapshot, on demand.
type streamReader struct {
	s      *stateDB
	snap   *pebble.Snapshot
	it     *pebble.Iterator
	prefix []byte
	end    []byte

	valid   bool
	done    bool
	buf     []byte // what Read has not returned yet is buf[off:]
	off     int
	blocks  uint64
	pairs   uint64
	sum     uint32
	sizing  bool
	sizeSum int64
}

// newStreamReader captures the group's generation as it is now. size is exact: raft refuses a stream
// of another length, so the pairs are walked once to measure and once to send.
func (s *stateDB) newStreamReader(head streamHead, generation uint32) (r *streamReader, size int64, err error) {
	if err := s.enter(); err != nil {
		return nil, 0, err
	}
	r = s.streamOf(head.group, generation)
	r.sizing = true
	err = r.rewind(head)
	for err == nil && !r.done {
		err = r.fill()
	}
	size = r.sizeSum
	if err == nil {
		r.sizing = false
		err = r.rewind(head)
	}
	if err != nil {
		return nil, 0, errors.Join(err, r.Close())
	}
	return r, size, nil
}

// streamOf captures a generation; the caller has entered.
func (s *stateDB) streamOf(group, generation uint32) *streamReader {
	return &streamReader{
		s: s, snap: s.db.NewSnapshot(), prefix: statePrefix(group, generation), end: statePrefix(group, generation+1),
	}
}

// newLiveReader is newStreamReader for a stream whose size nobody asks for.
func (s *stateDB) newLiveReader(head streamHead, generation uint32) (*streamReader, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	r := s.streamOf(head.group, generation)
	if err := r.rewind(head); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

func (r *streamReader) rewind(head streamHead) error {
	if r.it != nil {
		if err := r.it.Close(); err != nil {
			r.it = nil
			return err
		}
	}
	it, err := r.snap.NewIter(&pebble.IterOptions{LowerBound: r.prefix, UpperBound: r.end})
	r.it = it
	if err != nil {
		return err
	}
	r.valid, r.done = it.First(), false
	r.buf, r.off = append(r.buf[:0], head.encode()...), 0
	r.blocks, r.pairs, r.sum = 0, 0, 0
	r.sizeSum = int64(len(r.buf))
	return nil
}

// fill makes the next block, or the trailer.
func (r *streamReader) fill() error {
	r.buf, r.off = append(r.buf[:0], 0, 0, 0, 0), 0
	for r.valid && len(r.buf) < blockBytes {
		k := r.it.Key()[statePrefixLen:]
		v, err := r.it.ValueAndErr()
		if err != nil {
			return err
		}
		r.buf = append(binary.AppendUvarint(r.buf, uint64(len(k))), k...)
		r.buf = append(binary.AppendUvarint(r.buf, uint64(len(v))), v...)
		r.pairs++
		r.valid = r.it.Next()
	}
	if err := r.it.Error(); err != nil {
		return err
	}
	n := len(r.buf) - 4
	if n == 0 {
		r.buf = binary.BigEndian.AppendUint64(r.buf, r.blocks)
		r.buf = binary.BigEndian.AppendUint64(r.buf, r.pairs)
		r.buf = binary.LittleEndian.AppendUint32(r.buf, r.sum)
		r.buf = binary.LittleEndian.AppendUint32(r.buf, crc32.Checksum(r.buf, castagnoli))
		r.done = true
	} else {
		binary.BigEndian.PutUint32(r.buf, uint32(n))
		r.blocks++
		var crc [4]byte
		if !r.sizing {
			binary.LittleEndian.PutUint32(crc[:], crc32.Checksum(r.buf, castagnoli))
			r.sum = crc32.Update(r.sum, castagnoli, crc[:])
		}
		r.buf = append(r.buf, crc[:]...)
	}
	r.sizeSum += int64(len(r.buf))
	return nil
}

// Read implements io.Reader.
func (r *streamReader) Read(p []byte) (int, error) {
	if r.off == len(r.buf) {
		if r.done {
			return 0, io.EOF
		}
		if err := r.fill(); err != nil {
			err = fmt.Errorf("read state for a snapshot: %w", err)
			r.s.fst.fail(err)
			return 0, err
		}
	}
	n := copy(p, r.buf[r.off:])
	r.off += n
	return n, nil
}

// Close implements io.Closer.
func (r *streamReader) Close() error {
	if r.s == nil {
		return nil
	}
	var err error
	if r.it != nil {
		err = r.it.Close()
	}
	err = errors.Join(err, r.snap.Close())
	r.s.exit()
	r.s = nil
	return err
}

// readStream verifies a stream and gives its pairs to fn, which may be nil. The slices are valid
// during the call only. A stream that ends early, goes on too long or fails a checksum is corrupt.
func readStream(src io.Reader, fn func(k, v []byte) error) (streamHead, error) {
	r := bufio.NewReaderSize(src, blockBytes)
	var hb [headerLen]byte
	if _, err := io.ReadFull(r, hb[:]); err != nil {
		return streamHead{}, fmt.Errorf("%w: snapshot header: %w", ErrCorrupt, err)
	}
	head, err := decodeStreamHead(hb[:])
	if err != nil {
		return head, err
	}
	var blocks, pairs uint64
	var sum uint32
	var buf []byte
	for {
		var lb [4]byte
		if _, err := io.ReadFull(r, lb[:]); err != nil {
			return head, fmt.Errorf("%w: snapshot block %d: %w", ErrCorrupt, blocks, err)
		}
		n := binary.BigEndian.Uint32(lb[:])
		if n == 0 {
			return head, readTrailer(r, lb, blocks, pairs, sum)
		}
		if n > maxBlockBytes {
			return head, fmt.Errorf("%w: snapshot block %d of %d bytes", ErrCorrupt, blocks, n)
		}
		buf = append(buf[:0], lb[:]...)
		if buf, err = readN(r, buf, int(n)+4); err != nil {
			return head, fmt.Errorf("%w: snapshot block %d: %w", ErrCorrupt, blocks, err)
		}
		body, crc := buf[:4+n], buf[4+n:]
		if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(crc) {
			return head, fmt.Errorf("%w: checksum of snapshot block %d", ErrCorrupt, blocks)
		}
		sum = crc32.Update(sum, castagnoli, crc)
		blocks++
		count, err := eachPair(body[4:], fn)
		pairs += count
		if err != nil {
			return head, err
		}
	}
}

// readN appends n bytes of r to buf, growing as they come: a declared length allocates nothing.
func readN(r io.Reader, buf []byte, n int) ([]byte, error) {
	for n > 0 {
		step := min(n, blockBytes)
		at := len(buf)
		buf = append(buf, make([]byte, step)...)
		if _, err := io.ReadFull(r, buf[at:]); err != nil {
			return buf, err
		}
		n -= step
	}
	return buf, nil
}

func readTrailer(r *bufio.Reader, length [4]byte, blocks, pairs uint64, sum uint32) error {
	var t [trailerLen]byte
	copy(t[:], length[:])
	if _, err := io.ReadFull(r, t[4:]); err != nil {
		return fmt.Errorf("%w: snapshot trailer: %w", ErrCorrupt, err)
	}
	if binary.LittleEndian.Uint32(t[trailerLen-4:]) != crc32.Checksum(t[:trailerLen-4], castagnoli) ||
		binary.BigEndian.Uint64(t[4:]) != blocks || binary.BigEndian.Uint64(t[12:]) != pairs ||
		binary.LittleEndian.Uint32(t[20:]) != sum {
		return fmt.Errorf("%w: snapshot trailer", ErrCorrupt)
	}
	if _, err := r.ReadByte(); err != io.EOF {
		return fmt.Errorf("%w: bytes behind the snapshot trailer", ErrCorrupt)
	}
	return nil
}

func eachPair(b []byte, fn func(k, v []byte) error) (pairs uint64, err error) {
	for len(b) > 0 {
		var k, v []byte
		var ok bool
		if k, b, ok = cutField(b); ok {
			v, b, ok = cutField(b)
		}
		if !ok {
			return pairs, fmt.Errorf("%w: snapshot pair", ErrCorrupt)
		}
		pairs++
		if fn != nil {
			if err := fn(k, v); err != nil {
				return pairs, err
			}
		}
	}
	return pairs, nil
}

func cutField(b []byte) (field, rest []byte, ok bool) {
	n, w := binary.Uvarint(b)
	if w <= 0 || n > uint64(len(b)-w) {
		return nil, nil, false
	}
	return b[w : w+int(n)], b[w+int(n):], true
}
