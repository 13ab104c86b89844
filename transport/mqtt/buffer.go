package mqtt

import "sync"

// Sizes of read buffers in bytes.
const (
	// smallBuffer lies within the Reader: all that an idle connection holds.
	smallBuffer = 512
	// firstBuffer is the smallest lent buffer, a power of two.
	firstBuffer = 4 << 10
	// busyBuffer is the largest buffer that is used without a packet that
	// needs it: it bounds what a connection reads ahead.
	busyBuffer = 16 << 10
	// poolClasses powers of two from firstBuffer on are pooled, up to 64 KiB.
	// Larger buffers are rare and left to the garbage collector.
	poolClasses = 5
)

// BufferPool lends read buffers. It is safe for concurrent use.
type BufferPool struct {
	classes [poolClasses]sync.Pool
}

// NewBufferPool returns an empty pool.
func NewBufferPool() *BufferPool { return &BufferPool{} }

// buffer is a lent buffer: a pointer, so that giving it back needs no memory.
type buffer struct {
	b     []byte
	class int // index of its pool; poolClasses = not pooled
}

// get returns a buffer of at least n bytes, its size being a power of two.
func (p *BufferPool) get(n int) *buffer {
	class, size := 0, firstBuffer
	for size < n {
		class++
		size <<= 1
	}
	if class >= poolClasses {
		return &buffer{b: make([]byte, size), class: poolClasses}
	}
	if b, ok := p.classes[class].Get().(*buffer); ok {
		return b
	}
	return &buffer{b: make([]byte, size), class: class}
}

func (p *BufferPool) put(b *buffer) {
	if b.class < poolClasses {
		p.classes[b.class].Put(b)
	}
}
