package bench

import (
	"encoding/binary"
	"time"
)

// headerBytes is the least size of a payload: run (8), stream (4), sequence
// (8), time (8), all little endian.
const headerBytes = 28

// header is the beginning of each payload.
type header struct {
	run    uint64 // tells messages of this run from older ones
	stream uint32 // publisher and topic
	seq    uint64 // from 1, per stream
	at     int64  // ns since the run's clock began
}

func (h *header) put(b []byte) {
	binary.LittleEndian.PutUint64(b, h.run)
	binary.LittleEndian.PutUint32(b[8:], h.stream)
	binary.LittleEndian.PutUint64(b[12:], h.seq)
	binary.LittleEndian.PutUint64(b[20:], uint64(h.at))
}

func readHeader(b []byte) (h header, ok bool) {
	if len(b) < headerBytes {
		return h, false
	}
	return header{
		run:    binary.LittleEndian.Uint64(b),
		stream: binary.LittleEndian.Uint32(b[8:]),
		seq:    binary.LittleEndian.Uint64(b[12:]),
		at:     int64(binary.LittleEndian.Uint64(b[20:])),
	}, true
}

// clock gives cheap monotonic times within the process.
type clock struct{ began time.Time }

func (c clock) now() int64 { return int64(time.Since(c.began)) }
