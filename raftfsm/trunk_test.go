package raftfsm_test

import (
	"errors"
	"io"
	"net"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flotilla-mqtt/flotilla/raftfsm"
	"github.com/flotilla-mqtt/flotilla/raftfsm/raftfsmtest"
	"github.com/hashicorp/raft"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// countedLayer counts the streams that arrive.
type countedLayer struct {
	*raftfsmtest.Layer
	accepted atomic.Int32
}

func (l *countedLayer) Accept() (net.Conn, error) {
	c, err := l.Layer.Accept()
	if err == nil {
		l.accepted.Add(1)
	}
	return c, err
}

// newTrunk opens the trunk of a node; it is closed after the transports that the test makes on it.
func newTrunk(t *testing.T, n *raftfsmtest.Network, node string) raftfsm.Trunk {
	t.Helper()
	return openTrunk(t, n.Layer(node, raftfsm.TrunkGroup), node, zap.NewNop())
}

func openTrunk(t *testing.T, l raftfsm.Layer, node string, lg *zap.Logger) raftfsm.Trunk {
	t.Helper()
	trunk := raftfsm.NewTrunk(l, node, lg)
	t.Cleanup(func() {
		if err := trunk.Close(); err != nil {
			t.Error(err)
		}
	})
	return trunk
}

// newTrunks opens the trunks of two nodes; counted is where the streams from a to b arrive.
func newTrunks(t *testing.T) (n *raftfsmtest.Network, counted *countedLayer, a, b raftfsm.Trunk) {
	t.Helper()
	n = raftfsmtest.NewNetwork()
	counted = &countedLayer{Layer: n.Layer("b", raftfsm.TrunkGroup)}
	return n, counted, newTrunk(t, n, "a"), openTrunk(t, counted, "b", zap.NewNop())
}

// transport makes the transport of a group on a trunk.
func transport(t *testing.T, trunk raftfsm.Trunk, n *raftfsmtest.Network, node string, group uint32) *raftfsm.TrunkTransport {
	t.Helper()
	tt := trunk.Transport(group, n.Layer(node, group))
	t.Cleanup(func() { _ = tt.Close() })
	return tt
}

// answerAll answers what arrives with the term of the request.
func answerAll(tt raft.Transport, stop <-chan struct{}) {
	for {
		select {
		case rpc := <-tt.Consumer():
			switch req := rpc.Command.(type) {
			case *raft.AppendEntriesRequest:
				rpc.Respond(&raft.AppendEntriesResponse{Term: req.Term, LastLog: uint64(len(req.Entries)), Success: true}, nil)
			case *raft.RequestVoteRequest:
				rpc.Respond(&raft.RequestVoteResponse{Term: req.Term, Granted: req.LeadershipTransfer}, nil)
			case *raft.RequestPreVoteRequest:
				rpc.Respond(&raft.RequestPreVoteResponse{Term: req.Term, Granted: true}, nil)
			case *raft.TimeoutNowRequest:
				rpc.Respond(&raft.TimeoutNowResponse{}, errors.New("not now"))
			}
		case <-stop:
			return
		}
	}
}

func header(node string) raft.RPCHeader {
	return raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(node), Addr: []byte(node)}
}

func sized(index uint64, size int) *raft.Log {
	return &raft.Log{Index: index, Term: 2, Type: raft.LogCommand, Data: make([]byte, size), Extensions: []byte("x"), AppendedAt: time.Unix(1, 2)}
}

// heartbeat sends one and returns the term that is answered.
func heartbeat(from *raftfsm.TrunkTransport, to raft.ServerID, term uint64) (uint64, error) {
	var resp raft.AppendEntriesResponse
	err := from.AppendEntries(to, raft.ServerAddress(to), &raft.AppendEntriesRequest{RPCHeader: header("a"), Term: term}, &resp)
	return resp.Term, err
}

// TestTrunkCarries sends every kind of message for two groups: one stream carries them all, and what is
// too large for it goes by the group's own.
func TestTrunkCarries(t *testing.T) {
	n, counted, a, b := newTrunks(t)
	stop := make(chan struct{})
	defer close(stop)
	var from []*raftfsm.TrunkTransport
	for group := uint32(1); group <= 2; group++ {
		from = append(from, transport(t, a, n, "a", group))
		go answerAll(transport(t, b, n, "b", group), stop)
	}
	large := &raft.AppendEntriesRequest{RPCHeader: header("a"), Term: 4, Entries: []*raft.Log{sized(1, 70<<10)}}
	var resp raft.AppendEntriesResponse
	if err := from[0].AppendEntries("b", "b", large, &resp); err != nil || resp.LastLog != 1 || counted.accepted.Load() != 0 {
		t.Fatalf("a large entry: %+v, %v; %d trunks", resp, err, counted.accepted.Load())
	}
	var wg sync.WaitGroup
	for i, tt := range from {
		wg.Go(func() {
			term := uint64(10 + i)
			req := &raft.AppendEntriesRequest{RPCHeader: header("a"), Term: term, Entries: []*raft.Log{sized(5, 10), sized(6, 0)}}
			var resp raft.AppendEntriesResponse
			if err := tt.AppendEntries("b", "b", req, &resp); err != nil || resp.Term != term || resp.LastLog != 2 || !resp.Success {
				t.Errorf("entries: %+v, %v", resp, err)
			}
			var vote raft.RequestVoteResponse
			if err := tt.RequestVote("b", "b", &raft.RequestVoteRequest{RPCHeader: header("a"), Term: term, LeadershipTransfer: true}, &vote); err != nil || vote.Term != term || !vote.Granted {
				t.Errorf("vote: %+v, %v", vote, err)
			}
			var pre raft.RequestPreVoteResponse
			if err := tt.RequestPreVote("b", "b", &raft.RequestPreVoteRequest{RPCHeader: header("a"), Term: term}, &pre); err != nil || pre.Term != term || !pre.Granted {
				t.Errorf("pre-vote: %+v, %v", pre, err)
			}
			if err := tt.TimeoutNow("b", "b", &raft.TimeoutNowRequest{RPCHeader: header("a")}, &raft.TimeoutNowResponse{}); err == nil {
				t.Error("the other end's error was lost")
			}
		})
	}
	wg.Wait()
	if got := counted.accepted.Load(); got != 1 {
		t.Errorf("%d streams, want one for both groups", got)
	}
}

// TestTrunkStuckGroup: a group whose raft reads nothing keeps neither the messages of another group
// back nor the stream: its own calls fail, and their stream goes on.
func TestTrunkStuckGroup(t *testing.T) {
	n, counted, a, b := newTrunks(t)
	stuck, well := transport(t, a, n, "a", 1), transport(t, a, n, "a", 2)
	transport(t, b, n, "b", 1)
	stop := make(chan struct{})
	defer close(stop)
	go answerAll(transport(t, b, n, "b", 2), stop)
	var wg sync.WaitGroup
	for range 12 { // more than may wait, too
		wg.Go(func() {
			if _, err := heartbeat(stuck, "b", 1); err == nil {
				t.Error("nobody can have answered")
			}
		})
	}
	failed := make(chan struct{})
	go func() {
		wg.Wait()
		close(failed)
	}()
	for done := false; !done; {
		if term, err := heartbeat(well, "b", 3); err != nil || term != 3 {
			t.Fatalf("the other group: %d, %v", term, err)
		}
		select {
		case <-failed:
			done = true
		default:
		}
	}
	if got := counted.accepted.Load(); got != 1 {
		t.Errorf("%d streams, want the one", got)
	}
}

// TestTrunkDeadSaysNothing (G5): what raft answers after the replica's death does not leave the node.
func TestTrunkDeadSaysNothing(t *testing.T) {
	n, _, a, b := newTrunks(t)
	from, to := transport(t, a, n, "a", 1), transport(t, b, n, "b", 1)
	go func() {
		rpc := <-to.Consumer()
		to.Dead.Store(true)
		rpc.Respond(&raft.AppendEntriesResponse{Term: 1, Success: true}, nil)
	}()
	if _, err := heartbeat(from, "b", 1); !errors.Is(err, raftfsm.ErrNoAnswer) {
		t.Fatalf("%v, want no answer", err)
	}
}

// TestTrunkClosedReplica: whoever waits for a replica that is closed, or asks one that is not there, is
// told so instead of waiting.
func TestTrunkClosedReplica(t *testing.T) {
	n, _, a, b := newTrunks(t)
	from, to := transport(t, a, n, "a", 1), transport(t, b, n, "b", 1)
	go func() {
		<-to.Consumer()
		_ = to.Close()
	}()
	for range 2 {
		if _, err := heartbeat(from, "b", 1); err == nil || errors.Is(err, raftfsm.ErrNoAnswer) {
			t.Fatalf("%v, want that there is no replica", err)
		}
	}
	_ = from.Close()
	if _, err := heartbeat(from, "b", 1); !errors.Is(err, net.ErrClosed) {
		t.Fatalf("%v, want that this end is closed", err)
	}
}

// TestTrunkLeadsNowhere: a stream that brings nothing back is given up, and the next call dials.
func TestTrunkLeadsNowhere(t *testing.T) {
	n, counted, a, b := newTrunks(t)
	from, to := transport(t, a, n, "a", 1), transport(t, b, n, "b", 1)
	stop := make(chan struct{})
	defer close(stop)
	go answerAll(to, stop)
	if _, err := heartbeat(from, "b", 1); err != nil {
		t.Fatal(err)
	}
	n.Cut("b", "a")
	if _, err := heartbeat(from, "b", 1); !errors.Is(err, raftfsm.ErrNoAnswer) {
		t.Fatalf("%v, want no answer", err)
	}
	n.Heal("b", "a")
	if term, err := heartbeat(from, "b", 2); err != nil || term != 2 {
		t.Fatalf("after the heal: %d, %v", term, err)
	}
	if got := counted.accepted.Load(); got != 2 {
		t.Errorf("%d streams, want a second one", got)
	}
}

// TestTrunkDialsOnce: groups that need a stream at the same time share one dial.
func TestTrunkDialsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, counted, a, b := newTrunks(t)
		stop := make(chan struct{})
		defer close(stop)
		n.Cut("a", "b") // the dial hangs
		var calls sync.WaitGroup
		for group := range uint32(8) {
			go answerAll(transport(t, b, n, "b", group), stop)
			from := transport(t, a, n, "a", group)
			calls.Go(func() {
				if _, err := heartbeat(from, "b", 1); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		n.Heal("a", "b")
		calls.Wait()
		if got := counted.accepted.Load(); got != 1 {
			t.Errorf("%d streams, want one", got)
		}
	})
}

// TestTrunkCloseInterruptsDial: a replica that is closed does not wait for the dial to a node that does not answer.
func TestTrunkCloseInterruptsDial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, _, a, _ := newTrunks(t)
		from := transport(t, a, n, "a", 1)
		n.Cut("a", "b")
		failed := make(chan error)
		go func() {
			_, err := heartbeat(from, "b", 1)
			failed <- err
		}()
		synctest.Wait() // it dials
		begun := time.Now()
		_ = from.Close()
		if err := <-failed; !errors.Is(err, net.ErrClosed) || time.Since(begun) > 0 {
			t.Errorf("%v after %v, want that this end is closed, at once", err, time.Since(begun))
		}
	})
}

// TestTrunkGarbage: a stream that carries something else is closed, and an operator reads of it; one that just ends is no news.
func TestTrunkGarbage(t *testing.T) {
	for text, warnings := range map[string]int{"GET / HTTP/1.1\r\nHost: broker\r\n\r\n": 1, "": 0} {
		synctest.Test(t, func(t *testing.T) {
			n := raftfsmtest.NewNetwork()
			core, logs := observer.New(zap.WarnLevel)
			openTrunk(t, n.Layer("b", raftfsm.TrunkGroup), "b", zap.New(core))
			c, err := n.Layer("a", raftfsm.TrunkGroup).Dial("b", time.Second)
			if err != nil {
				t.Fatal(err)
			}
			if text == "" {
				_ = c.Close()
			} else if _, err := c.Write([]byte(text)); err != nil {
				t.Error(err)
			} else if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
				t.Errorf("garbage was answered, or the stream not closed: %v", err)
			}
			synctest.Wait()
			if logs.Len() != warnings {
				t.Errorf("%q: %d warnings, want %d: %v", text, logs.Len(), warnings, logs.All())
			}
		})
	}
}

// TestTrunkBreaks: calls under way on a stream that breaks fail at once, and the next one dials.
func TestTrunkBreaks(t *testing.T) {
	n, _, a, b := newTrunks(t)
	from, to := transport(t, a, n, "a", 1), transport(t, b, n, "b", 1)
	go func() {
		<-to.Consumer()
		n.Reset("b")
	}()
	if _, err := heartbeat(from, "b", 1); err == nil || errors.Is(err, raftfsm.ErrNoAnswer) {
		t.Fatalf("%v, want a broken stream", err)
	}
	stop := make(chan struct{})
	defer close(stop)
	go answerAll(to, stop)
	if term, err := heartbeat(from, "b", 2); err != nil || term != 2 {
		t.Fatalf("on the next stream: %d, %v", term, err)
	}
}

// TestTrunkMixed: a node without a trunk (an older version) is reached by the group's own stream, and
// makes a group with others that have one.
func TestTrunkMixed(t *testing.T) {
	n := raftfsmtest.NewNetwork()
	from := transport(t, newTrunk(t, n, "a"), n, "a", 1)
	old := raftfsm.NewSerialTransport(raftfsm.NewGatedLayer(n.Layer("b", 1), "b"))
	defer func() { _ = old.(raft.WithClose).Close() }()
	stop := make(chan struct{})
	defer close(stop)
	go answerAll(old, stop)
	for term := range uint64(3) {
		if got, err := heartbeat(from, "b", term); err != nil || got != term {
			t.Fatalf("%d, %v", got, err)
		}
	}
	c := raftfsmtest.NewCluster(t, raftfsmtest.Options{NoTrunk: func(node int) bool { return node == 1 }})
	defer c.Close()
	for i := range 20 {
		c.MustPropose(1, []byte{byte(i), 1})
	}
	c.WaitEqual(1)
}

// TestFrameWriterTakesAlong: frames that come while one is written leave with one write.
func TestFrameWriterTakesAlong(t *testing.T) {
	c := &slowConn{entered: make(chan int), leave: make(chan struct{})}
	send := raftfsm.Writer(c)
	var first, rest sync.WaitGroup
	first.Go(func() { _ = send(1) })
	if got := <-c.entered; got != raftfsm.FrameSize {
		t.Fatalf("the first write has %d bytes, want one frame", got)
	}
	for i := range uint64(9) {
		rest.Go(func() { _ = send(2 + i) })
	}
	rest.Wait() // nobody who is taken along waits
	c.leave <- struct{}{}
	if got := <-c.entered; got != 9*raftfsm.FrameSize {
		t.Errorf("the second write has %d bytes, want nine frames", got)
	}
	c.leave <- struct{}{}
	first.Wait()
}

// slowConn says what is being written, and takes its time.
type slowConn struct {
	net.Conn
	entered chan int
	leave   chan struct{}
}

func (c *slowConn) SetWriteDeadline(time.Time) error { return nil }

func (c *slowConn) Write(b []byte) (int, error) {
	c.entered <- len(b)
	<-c.leave
	return len(b), nil
}

// TestFrames encodes and decodes every message.
func TestFrames(t *testing.T) {
	h := header("n1")
	for _, tc := range []struct {
		kind byte
		body any
		into any
	}{
		{raftfsm.FrameAppend, &raft.AppendEntriesRequest{RPCHeader: h, Term: 3}, nil},
		{raftfsm.FrameAppend, &raft.AppendEntriesRequest{
			RPCHeader: h, Term: 3, PrevLogEntry: 1 << 40, PrevLogTerm: 2, LeaderCommitIndex: 9, Entries: []*raft.Log{sized(7, 300), sized(8, 1)},
		}, nil},
		{raftfsm.FrameVote, &raft.RequestVoteRequest{RPCHeader: h, Term: 3, LastLogIndex: 4, LastLogTerm: 2, LeadershipTransfer: true}, nil},
		{raftfsm.FramePreVote, &raft.RequestPreVoteRequest{RPCHeader: h, Term: 3, LastLogIndex: 4, LastLogTerm: 2}, nil},
		{raftfsm.FrameTimeoutNow, &raft.TimeoutNowRequest{RPCHeader: h}, nil},
		{raftfsm.FrameAnswer, &raft.AppendEntriesResponse{RPCHeader: h, Term: 3, LastLog: 5, Success: true}, &raft.AppendEntriesResponse{}},
		{raftfsm.FrameAnswer, &raft.AppendEntriesResponse{RPCHeader: h, Term: 3, LastLog: 5, NoRetryBackoff: true}, &raft.AppendEntriesResponse{}},
		{raftfsm.FrameAnswer, &raft.RequestVoteResponse{RPCHeader: h, Term: 3, Granted: true}, &raft.RequestVoteResponse{}},
		{raftfsm.FrameAnswer, &raft.RequestPreVoteResponse{RPCHeader: h, Term: 3, Granted: true}, &raft.RequestPreVoteResponse{}},
		{raftfsm.FrameAnswer, &raft.TimeoutNowResponse{RPCHeader: h}, &raft.TimeoutNowResponse{}},
	} {
		got, err := raftfsm.Roundtrip(tc.kind, 5, tc.body, tc.into)
		if err != nil || !reflect.DeepEqual(got, tc.body) {
			t.Errorf("%T: %+v, %v, want %+v", tc.body, got, err, tc.body)
		}
	}
	if _, err := raftfsm.Roundtrip(raftfsm.FrameRefusal, 5, "no", &raft.TimeoutNowResponse{}); err == nil {
		t.Error("a refusal is an answer")
	}
	if _, err := raftfsm.Roundtrip(raftfsm.FrameTimeoutNow, 5, &raft.AppendEntriesRequest{RPCHeader: h}, nil); !errors.Is(err, raftfsm.ErrFrame) {
		t.Errorf("too many bytes: %v", err)
	}
}

// FuzzFrames: whatever a stream carries, it ends with an error, and what is read as a request can be written again.
func FuzzFrames(f *testing.F) {
	f.Add([]byte{0, 0, 0, 16, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 3, 1, 'a'})
	f.Add([]byte{0, 0, 0, 22, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 3, 0, 0, 1, 1, 1, 0, 0})
	f.Add([]byte{0, 0, 0, 22, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 3, 0, 0, 1, 1, 1, 0, 200})
	f.Fuzz(func(t *testing.T, b []byte) {
		frames, changed := raftfsm.ReadFrames(b)
		if changed != nil || frames > len(b)/raftfsm.FrameSize {
			t.Fatalf("%d frames of %d bytes, %v", frames, len(b), changed)
		}
	})
}
