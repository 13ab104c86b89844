package peer

import (
	"net"
	"sync/atomic"
	"time"
)

// writeChunk bounds one write call, so that a slow link makes progress within
// the write deadline.
const writeChunk = 256 << 10

// wire is one connection, seen from either side: its outbox is drained here,
// its reads tell whether the other side lives.
type wire struct {
	conn  net.Conn
	out   *outbox
	limit time.Duration // of silence, and of one write
	beat  time.Duration

	readSet  time.Time // when the read deadline was moved last; reader only
	writeSet time.Time // likewise; writer only
	count    *counters
}

// counters of one link; they outlive its connections.
type counters struct {
	framesSent, bytesSent, writes atomic.Uint64
	framesReceived, bytesReceived atomic.Uint64
	dials, breaks, dropped        atomic.Uint64
	rtt                           atomic.Int64 // nanoseconds
}

// Read implements io.Reader for the frame reader. The deadline moves with
// what arrives, but not at every read: moving it costs as much as a small read.
func (w *wire) Read(p []byte) (int, error) {
	if now := time.Now(); now.Sub(w.readSet) > w.limit/8 {
		w.readSet = now
		if err := w.conn.SetReadDeadline(now.Add(w.limit)); err != nil {
			return 0, err
		}
	}
	n, err := w.conn.Read(p)
	w.count.bytesReceived.Add(uint64(n))
	return n, err
}

func (w *wire) write(b []byte) error {
	for len(b) > 0 {
		if now := time.Now(); now.Sub(w.writeSet) > w.limit/8 {
			w.writeSet = now
			if err := w.conn.SetWriteDeadline(now.Add(w.limit)); err != nil {
				return err
			}
		}
		n, err := w.conn.Write(b[:min(len(b), writeChunk)])
		w.count.writes.Add(1)
		w.count.bytesSent.Add(uint64(n))
		w.out.progress(n)
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// flush writes what waits, until nothing does.
func (w *wire) flush() error {
	for {
		b, frames := w.out.take()
		if frames == 0 {
			return nil
		}
		err := w.write(b)
		w.out.written(b)
		if err != nil {
			return err
		}
		w.count.framesSent.Add(uint64(frames))
	}
}

// pump writes frames as they come, until stop is closed or a write fails.
// beat is called once per heartbeat interval.
func (w *wire) pump(stop <-chan struct{}, beat func()) error {
	tick := time.NewTicker(w.beat)
	defer tick.Stop()
	for {
		if err := w.flush(); err != nil {
			return err
		}
		select {
		case <-w.out.wake:
		case <-tick.C:
			w.out.shrink()
			beat()
		case <-stop:
			return nil
		}
	}
}
