package peer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flotilla-mqtt/flotilla/transport/transporttest"
	"go.uber.org/goleak"
	"go.uber.org/zap/zaptest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fleet is some nodes on a network in memory. Addresses are "id:1".
type fleet struct {
	t     *testing.T
	hub   *transporttest.Hub
	nodes map[string]*testNode
}

type testNode struct {
	*Links
	id string
	nw *transporttest.Node
	ls net.Listener
	wg sync.WaitGroup
}

func newFleet(t *testing.T) *fleet {
	f := &fleet{t: t, hub: transporttest.NewHub(), nodes: map[string]*testNode{}}
	t.Cleanup(f.stop)
	return f
}

func (f *fleet) stop() {
	for id := range f.nodes {
		f.stopNode(id)
	}
}

// start starts a node. Connections are served; the first bytes name the caller
// (the preamble of the real thing).
func (f *fleet) start(id string, handlers map[Kind]Handler, o Options) *testNode {
	f.t.Helper()
	n := &testNode{id: id, nw: f.hub.Node(id)}
	var err error
	if n.ls, err = n.nw.Listen(id + ":1"); err != nil {
		f.t.Fatal(err)
	}
	n.Links = NewNode(id, func(ctx context.Context, to string) (net.Conn, error) {
		c, err := n.nw.Dial(ctx, to+":1")
		if err == nil {
			_, err = c.Write([]byte(id))
		}
		return c, err
	}, handlers, zaptest.NewLogger(f.t), o)
	n.wg.Go(func() {
		for {
			c, err := n.ls.Accept()
			if err != nil {
				return
			}
			n.wg.Go(func() {
				var from [1]byte
				if _, err := c.Read(from[:]); err != nil {
					c.Close()
					return
				}
				_ = n.Serve(c, string(from[:]))
			})
		}
	})
	f.nodes[id] = n
	return n
}

func (f *fleet) stopNode(id string) {
	n := f.nodes[id]
	delete(f.nodes, id)
	n.ls.Close()
	n.Close()
	n.wg.Wait()
}

func echo(_ string, p []byte, reply func([]byte, error)) { reply(p, nil) }

// bubble runs a test in a bubble of synctest, with a real-time limit outside.
func bubble(t *testing.T, fn func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, fn)
}

func mustCall(t *testing.T, n *testNode, to, payload string) {
	t.Helper()
	got, err := n.CallWait(t.Context(), to, KindQuery, []byte(payload))
	if err != nil || string(got) != payload {
		t.Fatalf("call %s -> %s: %q, %v; want %q", n.id, to, got, err, payload)
	}
}

func TestCallAndSend(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		var got []string
		b := map[Kind]Handler{
			KindQuery: echo,
			KindForward: func(from string, p []byte, reply func([]byte, error)) {
				if reply != nil {
					t.Error("a one-way frame has a reply function")
				}
				got = append(got, from+":"+string(p))
			},
			KindFetch: func(_ string, p []byte, reply func([]byte, error)) { reply(nil, errors.New("no such inbox")) },
			KindAdmin: func(_ string, p []byte, reply func([]byte, error)) { reply(make([]byte, MaxPayload+1), nil) },
		}
		a := f.start("a", nil, Options{})
		f.start("b", b, Options{})
		if a.Up("b") {
			t.Error("up before anything was sent")
		}
		if err := a.Send("b", KindForward, []byte("one")); err != nil {
			t.Fatal(err)
		}
		if err := a.Send("b", KindOrigin, nil); err != nil { // unknown there: ignored
			t.Fatal(err)
		}
		mustCall(t, a, "b", "two")
		if len(got) != 1 || got[0] != "a:one" {
			t.Errorf("one-way frames: %q", got)
		}
		if !a.Up("b") {
			t.Error("not up")
		}
		var re *RemoteError
		if _, err := a.CallWait(t.Context(), "b", KindFetch, nil); !errors.As(err, &re) || re.Message != "no such inbox" {
			t.Errorf("error of the handler: %v", err)
		}
		if _, err := a.CallWait(t.Context(), "b", KindWake, nil); !errors.Is(err, ErrUnknownKind) {
			t.Errorf("unknown kind: %v", err)
		}
		if _, err := a.CallWait(t.Context(), "b", KindAdmin, nil); !errors.Is(err, ErrTooLarge) {
			t.Errorf("too large a reply: %v", err)
		}
		if err := a.Send("b", KindForward, make([]byte, MaxPayload+1)); !errors.Is(err, ErrTooLarge) {
			t.Errorf("too large a frame: %v", err)
		}
		mustCall(t, a, "b", strings.Repeat("x", MaxPayload))
		if n := f.nodes["b"].unknown.Load(); n != 1 {
			t.Errorf("unknown frames: %d", n)
		}
	})
}

func TestCallToItself(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		a := f.start("a", map[Kind]Handler{KindQuery: echo}, Options{})
		mustCall(t, a, "a", "me")
		mustCall(t, a, "a", strings.Repeat("x", 1<<20))
	})
}

// Many senders share a link; the frames of each arrive in its order, and calls
// are in order with one-way frames.
func TestOrderUnderConcurrentSenders(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		const senders, each = 16, 500
		var last [senders]uint32
		take := func(_ string, p []byte, reply func([]byte, error)) {
			s, n := p[0], binary.BigEndian.Uint32(p[1:])
			if n != last[s]+1 {
				t.Errorf("sender %d: %d after %d", s, n, last[s])
			}
			last[s] = n
			if reply != nil {
				reply(p, nil)
			}
		}
		a := f.start("a", nil, Options{})
		f.start("b", map[Kind]Handler{KindForward: take, KindLaneBatch: take}, Options{})
		f.hub.SetDelay("a", "b", time.Millisecond, time.Millisecond)
		var wg sync.WaitGroup
		var replies atomic.Int32
		for s := range senders {
			wg.Go(func() {
				for n := range each {
					p := binary.BigEndian.AppendUint32([]byte{byte(s)}, uint32(n+1))
					if n%3 == 0 {
						wg.Add(1)
						a.Call("b", KindLaneBatch, p, func(resp []byte, err error) {
							defer wg.Done()
							if err != nil || string(resp) != string(p) {
								t.Errorf("reply %x, %v; want %x", resp, err, p)
							}
							replies.Add(1)
						})
					} else if err := a.Send("b", KindForward, p); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		synctest.Wait()
		time.Sleep(time.Second) // of the bubble: the last one-way frames are under way
		synctest.Wait()
		for s, n := range last {
			if n != each {
				t.Errorf("sender %d: %d of %d arrived", s, n, each)
			}
		}
		st := a.Stats()[0]
		t.Logf("%d frames in %d writes", st.FramesSent, st.Writes)
		if st.Writes*4 > st.FramesSent {
			t.Errorf("%d frames took %d writes: not coalesced", st.FramesSent, st.Writes)
		}
		if int(replies.Load()) != senders*((each+2)/3) {
			t.Errorf("%d replies", replies.Load())
		}
	})
}

// A frame on an idle link leaves at once: no timer takes part.
func TestIdleLinkSendsAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		a := f.start("a", nil, Options{})
		f.start("b", map[Kind]Handler{KindQuery: echo}, Options{})
		start := time.Now()
		for range 100 {
			mustCall(t, a, "b", "x")
		}
		if d := time.Since(start); d != 0 {
			t.Errorf("100 calls took %v of fake time", d)
		}
	})
}

// onceErrs counts how often each call was completed, and with what.
type onceErrs struct {
	mu    sync.Mutex
	count map[int]int
	errs  []error
}

func (o *onceErrs) done(i int) func([]byte, error) {
	return func(_ []byte, err error) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.count[i]++
		o.errs = append(o.errs, err)
	}
}

func (o *onceErrs) check(t *testing.T, n int, want error) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.count) != n || len(o.errs) != n {
		t.Errorf("%d calls completed %d times; want %d, once each", len(o.count), len(o.errs), n)
	}
	for _, err := range o.errs {
		if !errors.Is(err, want) {
			t.Errorf("a call failed with %v; want %v", err, want)
			return
		}
	}
}

func TestBrokenLinkFailsCallsOnceAndReconnects(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		var down, up []string
		a := f.start("a", nil, Options{OnUp: func(n string) { up = append(up, n) }, OnDown: func(n string) { down = append(down, n) }})
		var replies []func([]byte, error)
		f.start("b", map[Kind]Handler{
			KindQuery: echo,
			KindFetch: func(_ string, _ []byte, r func([]byte, error)) { replies = append(replies, r) },
		}, Options{})
		mustCall(t, a, "b", "warm")
		time.Sleep(2 * time.Second)
		o := &onceErrs{count: map[int]int{}}
		const n = 50
		for i := range n {
			a.Call("b", KindFetch, nil, o.done(i))
		}
		synctest.Wait()
		f.hub.Reset("a", "b")
		synctest.Wait()
		o.check(t, n, ErrLinkDown)
		if a.Up("b") || len(down) != 1 || len(up) != 1 {
			t.Errorf("up %v, OnUp %v, OnDown %v", a.Up("b"), up, down)
		}
		// It lived for long enough: the next frame dials at once.
		start := time.Now()
		mustCall(t, a, "b", "again")
		if d := time.Since(start); d != 0 {
			t.Errorf("reconnect took %v", d)
		}
		// Late replies of the old connection go nowhere.
		for _, r := range replies {
			r([]byte("late"), nil)
		}
		mustCall(t, a, "b", "still")
		o.check(t, n, ErrLinkDown)
		if st := a.Stats()[0]; st.PendingCalls != 0 || st.Breaks != 1 || st.Dials != 2 {
			t.Errorf("%+v", st)
		}
	})
}

// TestConnectionThatLivedAboutBackoffMax: what a connection took with it is failed while the time passes after which it counts as
// one that lived. The link must not take both sides: refuse frames as after a failure, and wait for one as after a success.
func TestConnectionThatLivedAboutBackoffMax(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		a := f.start("a", nil, Options{BackoffMax: time.Second})
		f.start("b", map[Kind]Handler{
			KindQuery: echo,
			KindFetch: func(string, []byte, func([]byte, error)) {},
		}, Options{})
		a.Call("b", KindFetch, nil, func([]byte, error) { time.Sleep(10 * time.Millisecond) })
		time.Sleep(time.Second - 5*time.Millisecond)
		f.hub.Reset("a", "b")
		time.Sleep(5 * time.Second)
		mustCall(t, a, "b", "again")
	})
}

func TestUnreachableNodeBacksOff(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		a := f.start("a", nil, Options{})
		if _, err := a.CallWait(t.Context(), "b", KindQuery, nil); !errors.Is(err, ErrLinkDown) {
			t.Fatalf("nobody there: %v", err)
		}
		// In the pause frames are refused, at once.
		start := time.Now()
		if err := a.Send("b", KindForward, nil); !errors.Is(err, ErrLinkDown) {
			t.Errorf("send: %v", err)
		}
		if _, err := a.CallWait(t.Context(), "b", KindQuery, nil); !errors.Is(err, ErrLinkDown) {
			t.Errorf("call: %v", err)
		}
		if d := time.Since(start); d != 0 {
			t.Errorf("took %v", d)
		}
		// A call per 10 ms for 10 s makes no more than some attempts.
		for range 1000 {
			_, _ = a.CallWait(t.Context(), "b", KindQuery, nil)
			time.Sleep(10 * time.Millisecond)
		}
		if n := a.Stats()[0].Dials; n < 10 || n > 20 {
			t.Errorf("%d dials in 10 s; want about one per second", n)
		}
		f.start("b", map[Kind]Handler{KindQuery: echo}, Options{})
		time.Sleep(time.Second)
		mustCall(t, a, "b", "there")
	})
}

// Silence breaks a link, in whichever direction it is cut; the other side's
// closing is noticed where it can be.
func TestCutLinkIsDeclaredDead(t *testing.T) {
	for _, cut := range [][2]string{{"a", "b"}, {"b", "a"}} {
		bubble(t, func(t *testing.T) {
			f := newFleet(t)
			a := f.start("a", nil, Options{})
			f.start("b", map[Kind]Handler{KindQuery: echo}, Options{})
			mustCall(t, a, "b", "warm")
			time.Sleep(20 * time.Second)
			if !a.Up("b") || a.Stats()[0].Breaks != 0 {
				t.Fatal("an idle link does not stay up")
			}
			f.hub.Cut(cut[0], cut[1])
			start := time.Now()
			_, err := a.CallWait(t.Context(), "b", KindQuery, nil)
			if !errors.Is(err, ErrLinkDown) {
				t.Errorf("cut %v: %v", cut, err)
			}
			if d := time.Since(start); d < 4*time.Second || d > 5*time.Second+time.Millisecond {
				t.Errorf("cut %v: noticed after %v", cut, d)
			}
			f.hub.HealAll()
			time.Sleep(2 * time.Second)
			mustCall(t, a, "b", "healed")
		})
	}
}

func TestHeartbeatMeasuresRTT(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		f.hub.SetDelay("a", "b", 20*time.Millisecond, 0)
		f.hub.SetDelay("b", "a", 10*time.Millisecond, 0)
		a := f.start("a", nil, Options{})
		f.start("b", map[Kind]Handler{KindQuery: echo}, Options{})
		mustCall(t, a, "b", "x")
		time.Sleep(3 * time.Second)
		if rtt := a.Stats()[0].RTT; rtt != 30*time.Millisecond {
			t.Errorf("RTT %v", rtt)
		}
	})
}

func TestFullQueueIsBusy(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		a := f.start("a", nil, Options{QueueBytes: 1 << 20, DialTimeout: time.Minute})
		var got int
		f.start("b", map[Kind]Handler{KindQuery: echo, KindForward: func(string, []byte, func([]byte, error)) { got++ }}, Options{})
		f.hub.Cut("a", "b") // the dial hangs, the queue fills
		sent := 0
		for {
			err := a.Send("b", KindForward, make([]byte, 1000))
			if errors.Is(err, ErrBusy) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			sent++
		}
		if want := (1 << 20) / (1000 + headerBytes); sent != want {
			t.Errorf("%d frames were taken, want %d", sent, want)
		}
		if _, err := a.CallWait(t.Context(), "b", KindQuery, make([]byte, 1000)); !errors.Is(err, ErrBusy) {
			t.Errorf("call: %v", err)
		}
		o := &onceErrs{count: map[int]int{}}
		a.Call("b", KindQuery, make([]byte, 1000), o.done(0))
		synctest.Wait()
		o.check(t, 1, ErrBusy)
		f.hub.HealAll()
		synctest.Wait()
		mustCall(t, a, "b", "flows")
		if got != sent {
			t.Errorf("%d of %d arrived", got, sent)
		}
	})
}

// A dial that took longer than the one after it must not replace it.
func TestOutOfOrderDial(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		b := f.start("b", map[Kind]Handler{KindQuery: echo}, Options{})
		l, err := f.hub.Node("x").Listen("x:9")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		serve := func(boot, dial uint64) (net.Conn, chan error) {
			c, err := f.hub.Node("y").Dial(t.Context(), "x:9")
			if err != nil {
				t.Fatal(err)
			}
			s, _ := l.Accept()
			res := make(chan error, 1)
			go func() { res <- b.Serve(s, "a") }()
			p := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, boot), dial)
			if _, err := c.Write(appendFrame(nil, kindLink, 0, 0, p)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			return c, res
		}
		_, second := serve(1, 2)
		_, first := serve(1, 1)
		select {
		case err := <-first:
			if !errors.Is(err, ErrSuperseded) {
				t.Errorf("the older dial: %v", err)
			}
		default:
			t.Error("the older dial was taken")
		}
		// A newer one, and a new process, do replace it.
		_, third := serve(1, 3)
		if err := <-second; !errors.Is(err, ErrSuperseded) {
			t.Errorf("the replaced one: %v", err)
		}
		c4, fourth := serve(2, 1)
		if err := <-third; !errors.Is(err, ErrSuperseded) {
			t.Errorf("the replaced one: %v", err)
		}
		c4.Close()
		if err := <-fourth; err == nil || errors.Is(err, ErrSuperseded) {
			t.Errorf("the last one: %v", err)
		}
	})
}

// Frames of the old connection are handled before those of the new one: the
// newer connection waits until the older one's reader has ended.
func TestOrderAcrossReconnect(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		var mu sync.Mutex
		var last uint32
		busy := atomic.Int32{}
		a := f.start("a", nil, Options{BackoffMin: time.Millisecond, BackoffMax: 2 * time.Millisecond})
		f.start("b", map[Kind]Handler{KindForward: func(_ string, p []byte, _ func([]byte, error)) {
			if busy.Add(1) != 1 {
				t.Error("two frames of one node are handled at once")
			}
			time.Sleep(50 * time.Microsecond) // slow, but not blocked
			n := binary.BigEndian.Uint32(p)
			mu.Lock()
			if n <= last {
				t.Errorf("%d after %d", n, last)
			}
			last = n
			mu.Unlock()
			busy.Add(-1)
		}}, Options{})
		f.hub.SetDelay("a", "b", 0, 3*time.Millisecond)
		for n := uint32(1); n <= 3000; n++ {
			_ = a.Send("b", KindForward, binary.BigEndian.AppendUint32(nil, n))
			time.Sleep(100 * time.Microsecond)
			if n%100 == 0 {
				f.hub.Reset("a", "b")
			}
		}
		time.Sleep(time.Second)
		if b := a.Stats()[0].Breaks; b < 10 {
			t.Errorf("%d breaks only", b)
		}
		if last < 2900 {
			t.Errorf("the last frame that arrived is %d", last)
		}
	})
}

// The same, directed: frames that the old connection had delivered, but whose
// turn had not come, are handled before the first one of the new connection.
func TestNewConnectionWaitsForTheOld(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		gate := make(chan struct{})
		var order []string
		a := f.start("a", nil, Options{})
		f.start("b", map[Kind]Handler{KindQuery: echo, KindForward: func(_ string, p []byte, _ func([]byte, error)) {
			if string(p) == "1" {
				<-gate
			}
			order = append(order, string(p))
		}}, Options{})
		mustCall(t, a, "b", "warm")
		time.Sleep(2 * time.Second)
		f.hub.Cut("a", "b") // so that all three arrive together
		for _, p := range []string{"1", "2", "3"} {
			if err := a.Send("b", KindForward, []byte(p)); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		f.hub.HealAll()
		synctest.Wait()
		f.hub.Reset("a", "b")
		synctest.Wait()
		if err := a.Send("b", KindForward, []byte("4")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if !a.Up("b") || len(order) != 0 {
			t.Fatalf("up %v; handled %q while the first frame is", a.Up("b"), order)
		}
		close(gate)
		synctest.Wait()
		if got := strings.Join(order, ""); got != "1234" {
			t.Errorf("handled in the order %s", got)
		}
	})
}

func TestCloseFailsCallsAndEndsAll(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		a := f.start("a", nil, Options{})
		f.start("b", map[Kind]Handler{KindFetch: func(string, []byte, func([]byte, error)) {}}, Options{})
		f.hub.Cut("a", "c")
		o := &onceErrs{count: map[int]int{}}
		a.Call("b", KindFetch, nil, o.done(0)) // under way
		a.Call("c", KindFetch, nil, o.done(1)) // dialling
		synctest.Wait()
		f.stopNode("a")
		synctest.Wait()
		o.check(t, 2, ErrLinkDown)
		o.check(t, 2, ErrClosed)
		if err := a.Send("b", KindForward, nil); !errors.Is(err, ErrClosed) {
			t.Errorf("send: %v", err)
		}
		a.Call("b", KindFetch, nil, o.done(2))
		synctest.Wait()
		o.check(t, 3, ErrLinkDown)
		near, far := net.Pipe()
		defer near.Close()
		if err := a.Serve(far, "b"); !errors.Is(err, ErrClosed) {
			t.Errorf("serve: %v", err)
		}
	})
}

func TestCallWaitGivesUp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		a := f.start("a", nil, Options{})
		f.start("b", map[Kind]Handler{KindFetch: func(string, []byte, func([]byte, error)) {}}, Options{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := a.CallWait(ctx, "b", KindFetch, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if n := a.Stats()[0].PendingCalls; n != 0 {
			t.Errorf("%d calls pending", n)
		}
	})
}

func TestDisconnect(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		a := f.start("a", map[Kind]Handler{KindQuery: echo}, Options{})
		b := f.start("b", map[Kind]Handler{KindQuery: echo, KindFetch: func(string, []byte, func([]byte, error)) {}}, Options{})
		mustCall(t, a, "b", "x")
		mustCall(t, b, "a", "x")
		o := &onceErrs{count: map[int]int{}}
		a.Call("b", KindFetch, nil, o.done(0))
		synctest.Wait()
		a.Disconnect("b")
		synctest.Wait()
		o.check(t, 1, ErrLinkDown)
		if a.Up("b") || b.Up("a") {
			t.Error("still up")
		}
		mustCall(t, a, "b", "anew")
	})
}

// Replies that the other side does not read stop the reading of requests, and
// in the end the link; memory stays bounded.
func TestUnreadRepliesAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var handled atomic.Int32
		big := make([]byte, 1<<20)
		b := NewNode("b", nil, map[Kind]Handler{KindFetch: func(_ string, _ []byte, r func([]byte, error)) {
			handled.Add(1)
			r(big, nil)
		}}, zaptest.NewLogger(t), Options{})
		near, far := net.Pipe() // its writes block
		defer near.Close()
		res := make(chan error, 1)
		go func() { res <- b.Serve(far, "a") }()
		out := appendFrame(nil, kindLink, 0, 0, make([]byte, 16))
		for i := range uint32(1000) {
			out = appendFrame(out, KindFetch, flagCall, i, nil)
		}
		go func() { _, _ = near.Write(out) }()
		if err := <-res; err == nil {
			t.Error("no error")
		}
		if n := handled.Load(); n > replySoft>>20+2 {
			t.Errorf("%d requests of 1 MiB replies were handled", n)
		}
		b.Close()
	})
}

func TestProtocolViolationsEndALink(t *testing.T) {
	hello := appendFrame(nil, kindLink, 0, 0, make([]byte, 16))
	for name, in := range map[string][]byte{
		"no hello":     appendFrame(nil, KindForward, 0, 0, nil),
		"short hello":  appendFrame(nil, kindLink, 0, 0, make([]byte, 15)),
		"garbage":      []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
		"second hello": append(hello[:len(hello):len(hello)], hello...),
		"a reply":      appendFrame(hello[:len(hello):len(hello)], KindForward, flagReply, 1, nil),
		"huge":         header{length: 1 << 31, kind: 1}.append(hello[:len(hello):len(hello)]),
	} {
		bubble(t, func(t *testing.T) {
			b := NewNode("b", nil, map[Kind]Handler{KindForward: func(string, []byte, func([]byte, error)) {}}, nil, Options{})
			defer b.Close()
			near, far := net.Pipe()
			defer near.Close()
			go func() { _, _ = near.Write(in) }()
			if err := b.Serve(far, "a"); !errors.Is(err, ErrProtocol) {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	bubble(t, func(t *testing.T) { // silence before the hello
		b := NewNode("b", nil, nil, nil, Options{})
		defer b.Close()
		near, far := net.Pipe()
		defer near.Close()
		start := time.Now()
		if err := b.Serve(far, "a"); err == nil || time.Since(start) > 5*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

// Random resets: each call is completed exactly once.
func TestCallsCompleteOnceUnderFaults(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t)
		a := f.start("a", nil, Options{BackoffMin: time.Millisecond, BackoffMax: 5 * time.Millisecond})
		f.start("b", map[Kind]Handler{KindQuery: echo}, Options{})
		f.hub.SetDelay("a", "b", time.Millisecond, 2*time.Millisecond)
		const n = 2000
		var done [n]atomic.Int32
		var wg sync.WaitGroup
		good := atomic.Int32{}
		for i := range n {
			wg.Add(1)
			want := fmt.Sprint(i)
			a.Call("b", KindQuery, []byte(want), func(resp []byte, err error) {
				if done[i].Add(1) != 1 {
					t.Errorf("call %d completed twice", i)
					return
				}
				if err == nil && string(resp) != want {
					t.Errorf("call %d got the reply %q", i, resp)
				}
				if err == nil {
					good.Add(1)
				}
				wg.Done()
			})
			time.Sleep(200 * time.Microsecond)
			if i%97 == 0 {
				f.hub.Reset("a", "b")
			}
		}
		wg.Wait()
		t.Logf("%d of %d succeeded", good.Load(), n)
		if good.Load() < n/4 {
			t.Errorf("%d of %d succeeded", good.Load(), n)
		}
	})
}
