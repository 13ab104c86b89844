package transporttest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// pair connects a to b.
func pair(t *testing.T, h *Hub, a, b string) (net.Conn, net.Conn) {
	t.Helper()
	l, err := h.Node(b).Listen(b + ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := h.Node(a).Dial(t.Context(), l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return c, s
}

func mustWrite(t *testing.T, c net.Conn, s string) {
	t.Helper()
	if n, err := c.Write([]byte(s)); n != len(s) || err != nil {
		t.Fatalf("write: %d, %v", n, err)
	}
}

func mustRead(t *testing.T, c net.Conn, want string) {
	t.Helper()
	b := make([]byte, len(want))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != want {
		t.Fatalf("read %q, %v; want %q", b, err, want)
	}
}

func TestWritesNeverBlockAndCloseDeliversAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := pair(t, NewHub(), "a", "b")
		want := bytes.Repeat([]byte("0123456789"), 1<<20)
		for i := 0; i < len(want); i += 1 << 16 {
			mustWrite(t, c, string(want[i:min(i+1<<16, len(want))]))
		}
		c.Close()
		got, err := io.ReadAll(s)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("read %d bytes, %v; want %d", len(got), err, len(want))
		}
		if n, err := s.Write([]byte("x")); n != 1 || err != nil {
			t.Fatalf("first write after the end: %d, %v", n, err)
		}
		if _, err := s.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
			t.Fatalf("second write after the end: %v", err)
		}
		s.Close()
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Fatalf("read of a closed connection: %v", err)
		}
	})
}

func TestDelayAndBandwidth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHub()
		h.SetDelay("a", "b", 30*time.Millisecond, 0)
		h.SetDelay("b", "a", 20*time.Millisecond, 0)
		start := time.Now()
		c, s := pair(t, h, "a", "b")
		if d := time.Since(start); d != 50*time.Millisecond {
			t.Errorf("dial took %v; want the round trip", d)
		}
		start = time.Now()
		mustWrite(t, c, "ping")
		mustRead(t, s, "ping")
		mustWrite(t, s, "pong")
		mustRead(t, c, "pong")
		if d := time.Since(start); d != 50*time.Millisecond {
			t.Errorf("round trip took %v", d)
		}
		h.SetBandwidth("a", "b", 1000)
		start = time.Now()
		mustWrite(t, c, string(make([]byte, 500)))
		mustWrite(t, c, string(make([]byte, 500)))
		mustRead(t, s, string(make([]byte, 1000)))
		if d := time.Since(start); d != 1030*time.Millisecond {
			t.Errorf("1000 bytes at 1000 B/s took %v", d)
		}
	})
}

func TestJitterKeepsOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHub()
		c, s := pair(t, h, "a", "b")
		h.SetDelay("a", "b", 0, time.Second)
		var want []byte
		for i := range 200 {
			want = append(want, byte(i))
			mustWrite(t, c, string([]byte{byte(i)}))
		}
		mustRead(t, s, string(want))
	})
}

func TestCutHoldsBytesUntilHeal_OneWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHub()
		c, s := pair(t, h, "a", "b")
		h.Cut("a", "b")
		mustWrite(t, c, "held")
		s.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("read over a cut link: %v", err)
		}
		mustWrite(t, s, "other way")
		mustRead(t, c, "other way")
		s.SetReadDeadline(time.Time{})
		go func() {
			time.Sleep(time.Second)
			h.Heal("a", "b")
		}()
		start := time.Now()
		mustRead(t, s, "held")
		if d := time.Since(start); d != time.Second {
			t.Errorf("held bytes came after %v; want at the heal", d)
		}
		// The end of a stream is held, too.
		h.Cut("a", "b")
		c.Close()
		s.SetReadDeadline(time.Now().Add(time.Second))
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("read over a cut link after close: %v", err)
		}
		s.SetReadDeadline(time.Time{})
		h.HealAll()
		if _, err := s.Read(make([]byte, 1)); err != io.EOF {
			t.Fatalf("read after heal: %v", err)
		}
	})
}

func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := pair(t, NewHub(), "a", "b")
		// One set while the reader waits wakes it.
		go func() {
			time.Sleep(time.Second)
			s.SetReadDeadline(time.Unix(1, 0))
		}()
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		var ne net.Error
		if _, err := s.Read(make([]byte, 1)); !errors.As(err, &ne) || !ne.Timeout() {
			t.Fatalf("not a timeout: %v", err)
		}
		// Moved on, it reads again.
		s.SetReadDeadline(time.Now().Add(time.Hour))
		mustWrite(t, c, "x")
		mustRead(t, s, "x")
		// Extended while the reader waits, it does not fire.
		s.SetReadDeadline(time.Now().Add(time.Second))
		go func() {
			time.Sleep(500 * time.Millisecond)
			s.SetReadDeadline(time.Now().Add(10 * time.Second))
			time.Sleep(5 * time.Second)
			mustWrite(t, c, "y")
		}()
		mustRead(t, s, "y")
		c.SetWriteDeadline(time.Now().Add(-1))
		if _, err := c.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
	})
}

func TestDial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHub()
		a := h.Node("a")
		if _, err := a.Dial(t.Context(), "b:1"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("nobody listens: %v", err)
		}
		l, _ := h.Node("b").Listen("0.0.0.0:1")
		if _, err := h.Node("b").Listen("b:1"); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("listen twice: %v", err)
		}
		// A cut in either direction makes it wait.
		for _, dir := range [][2]string{{"a", "b"}, {"b", "a"}} {
			h.Cut(dir[0], dir[1])
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if _, err := a.Dial(ctx, "b:1"); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("dial over a cut: %v", err)
			}
			cancel()
			h.HealAll()
		}
		if _, err := a.Dial(t.Context(), "b:1"); err != nil {
			t.Errorf("dial: %v", err)
		}
		if _, err := h.Node("b").Dial(t.Context(), "localhost:1"); err != nil {
			t.Errorf("dial itself: %v", err)
		}
		l.Close()
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("accept after close: %v", err)
		}
		if _, err := a.Dial(t.Context(), "b:1"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("dial after close: %v", err)
		}
	})
}

func TestKillIsAResetBehindTheData(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHub()
		old := h.Node("a")
		c, s := pair(t, h, "a", "b")
		l, _ := old.Listen("a:7")
		mustWrite(t, c, "last words")
		h.Kill("a")
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("the dead reads: %v", err)
		}
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("the dead accepts: %v", err)
		}
		mustRead(t, s, "last words")
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the other side reads: %v", err)
		}
		if h.Conns("a") != 0 || h.Conns("b") != 0 {
			t.Errorf("open ends: %d, %d", h.Conns("a"), h.Conns("b"))
		}
		// The dead process is void; a new one is not.
		if _, err := old.Listen("a:7"); !errors.Is(err, ErrDead) {
			t.Errorf("the dead listens: %v", err)
		}
		bl, _ := h.Node("b").Listen("b:8")
		defer bl.Close()
		if _, err := old.Dial(t.Context(), "b:8"); !errors.Is(err, ErrDead) {
			t.Errorf("the dead dials: %v", err)
		}
		if _, err := h.Node("a").Listen("a:7"); err != nil {
			t.Errorf("the new process listens: %v", err)
		}
	})
}

func TestPowerOffIsSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHub()
		h.SetDelay("a", "b", time.Millisecond, 0)
		c, s := pair(t, h, "a", "b")
		c2, s2 := pair(t, h, "a", "b")
		mustWrite(t, c, "never arrives")
		h.PowerOff("a")
		for _, x := range []net.Conn{s, s2} {
			x.SetReadDeadline(time.Now().Add(time.Hour))
			if _, err := x.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("read from a machine without power: %v", err)
			}
			x.SetReadDeadline(time.Time{})
		}
		mustWrite(t, s, "into the void")
		_ = c2
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := h.Node("b").Dial(ctx, "a:7"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("dial a machine without power: %v", err)
		}
		go func() {
			time.Sleep(time.Second)
			h.PowerOn("a")
		}()
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("after the restart: %v", err)
		}
		// Who has sent nothing learns of it at the next write.
		mustWrite(t, s2, "x")
		if _, err := s2.Write([]byte("x")); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("write after the restart: %v", err)
		}
	})
}

func TestHalfClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := pair(t, NewHub(), "a", "b")
		mustWrite(t, c, "last words")
		if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("write after CloseWrite: %v", err)
		}
		mustRead(t, s, "last words")
		if _, err := s.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("read: %v", err)
		}
		for range 3 {
			mustWrite(t, s, "heard")
			mustRead(t, c, "heard")
		}
		s.Close()
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("read: %v", err)
		}
		c.Close()
	})
}

func TestPartitionAndReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHub()
		ab, ba := pair(t, h, "a", "b")
		ac, ca := pair(t, h, "a", "c")
		h.Partition([]string{"a", "b"}, []string{"c"})
		mustWrite(t, ab, "x")
		mustRead(t, ba, "x")
		mustWrite(t, ac, "y")
		ca.SetReadDeadline(time.Now().Add(time.Second))
		if _, err := ca.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("read across the partition: %v", err)
		}
		h.Reset("a", "b")
		for _, c := range []net.Conn{ab, ba} {
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("read after reset: %v", err)
			}
		}
		h.Isolate("a")
		h.HealAll()
		ca.SetReadDeadline(time.Time{})
		mustRead(t, ca, "y")
	})
}
