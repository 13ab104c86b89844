package peer

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// loopback connects two nodes over TCP.
func loopback(tb testing.TB, handlers map[Kind]Handler) (a *Links) {
	tb.Helper()
	ls, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	b := NewNode("b", nil, handlers, nil, Options{})
	a = NewNode("a", func(ctx context.Context, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", ls.Addr().String())
	}, nil, nil, Options{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ls.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { _ = b.Serve(c, "a") })
		}
	})
	tb.Cleanup(func() {
		a.Close()
		ls.Close()
		b.Close()
		wg.Wait()
	})
	return a
}

// sink counts frames and says when enough have come.
type sink struct {
	n    atomic.Int64
	want int64
	done chan struct{}
}

func (s *sink) handle(string, []byte, func([]byte, error)) {
	if s.n.Add(1) == s.want {
		close(s.done)
	}
}

func benchSend(b *testing.B, size int) {
	s := &sink{done: make(chan struct{}), want: int64(b.N)}
	a := loopback(b, map[Kind]Handler{KindForward: s.handle, KindQuery: echo})
	if _, err := a.CallWait(b.Context(), "b", KindQuery, nil); err != nil {
		b.Fatal(err)
	}
	p := make([]byte, size)
	b.SetBytes(int64(size))
	b.ReportAllocs()
	b.ResetTimer()
	for i := 0; i < b.N; {
		switch err := a.Send("b", KindForward, p); err {
		case nil:
			i++
		case ErrBusy: // a lane would wait for replies; here the queue is waited for
			<-a.link("b").out.room
		default:
			b.Fatal(err)
		}
	}
	<-s.done
	b.StopTimer()
	st := a.Stats()[0]
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "frames/s")
	b.ReportMetric(float64(st.FramesSent)/float64(st.Writes), "frames/write")
}

func BenchmarkSend512B(b *testing.B)  { benchSend(b, 512) }
func BenchmarkSend16KiB(b *testing.B) { benchSend(b, 16<<10) }

// BenchmarkCallLone is the latency of one call on an idle link.
func BenchmarkCallLone(b *testing.B) {
	a := loopback(b, map[Kind]Handler{KindQuery: echo})
	p := make([]byte, 512)
	done := make(chan error, 1)
	b.ReportAllocs()
	for range b.N {
		a.Call("b", KindQuery, p, func(_ []byte, err error) { done <- err })
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCallPipelined keeps 64 calls under way.
func BenchmarkCallPipelined(b *testing.B) {
	a := loopback(b, map[Kind]Handler{KindQuery: echo})
	p := make([]byte, 512)
	window := make(chan struct{}, 64)
	done := func(_ []byte, err error) {
		if err != nil {
			b.Error(err)
		}
		<-window
	}
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		window <- struct{}{}
		a.Call("b", KindQuery, p, done)
	}
	for range cap(window) {
		window <- struct{}{}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
}

// A frame costs no allocation on the way out and in; a call costs the reply function.
func TestAllocationsPerFrame(t *testing.T) {
	got := make(chan struct{}, 1)
	a := loopback(t, map[Kind]Handler{
		KindForward: func(string, []byte, func([]byte, error)) { got <- struct{}{} },
		KindQuery:   echo,
	})
	p := make([]byte, 512)
	replied := make(chan error, 1)
	done := func(_ []byte, err error) { replied <- err }
	one := func() {
		if err := a.Send("b", KindForward, p); err != nil {
			t.Fatal(err)
		}
		<-got
	}
	call := func() {
		a.Call("b", KindQuery, p, done)
		if err := <-replied; err != nil {
			t.Fatal(err)
		}
	}
	call()
	if n := testing.AllocsPerRun(2000, one); n > 0.1 {
		t.Errorf("%v allocations per one-way frame", n)
	}
	if n := testing.AllocsPerRun(2000, call); n > 1.1 {
		t.Errorf("%v allocations per call", n)
	}
}
