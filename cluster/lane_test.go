package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
)

// fakeShard is the far end of a lane: it applies batches as a shard's machine
// does, behind a network that loses batches and answers at random.
type fakeShard struct {
	rng *rand.Rand

	mu      sync.Mutex
	last    uint64
	results map[uint64][]byte
	applied []string // payloads in the order of application
	fail    float64  // probability of each kind of failure
	down    bool
}

func newFakeShard(seed uint64, fail float64) *fakeShard {
	return &fakeShard{rng: rand.New(rand.NewPCG(seed, 1)), results: map[uint64][]byte{}, fail: fail}
}

var errFakeLink = errors.New("fake link broke")

func (s *fakeShard) sendBatch(_ uint32, batch []byte, done func(command.BatchResult, uint64, error)) {
	s.mu.Lock()
	if s.down || s.rng.Float64() < s.fail { // lost on the way there
		s.mu.Unlock()
		time.AfterFunc(time.Millisecond, func() { done(command.BatchResult{}, 0, errFakeLink) })
		return
	}
	res := s.applyLocked(batch)
	lost := s.rng.Float64() < s.fail // lost on the way back
	s.mu.Unlock()
	time.AfterFunc(time.Millisecond, func() {
		if lost {
			done(command.BatchResult{}, 0, errFakeLink)
			return
		}
		done(res, res.Seq, nil)
	})
}

func (s *fakeShard) applyLocked(raw []byte) command.BatchResult {
	b, err := command.DecodeBatch(raw)
	if err != nil {
		panic(err)
	}
	res := command.BatchResult{Node: b.Node, Incarnation: b.Incarnation, Seq: b.Seq, Code: command.OK}
	switch {
	case b.Seq <= s.last:
		res.Results = s.results[b.Seq]
		return res
	case b.Seq > s.last+1:
		res.Code = command.Gap
		return res
	}
	s.last = b.Seq
	var w command.ResultWriter
	it := b.Commands()
	for {
		var c command.Command
		ok, err := it.Next(&c)
		if err != nil {
			panic(err)
		}
		if !ok {
			break
		}
		if c.Kind == command.KindPublish {
			var p command.Publish
			if err := p.Decode(c.Payload); err != nil {
				panic(err)
			}
			s.applied = append(s.applied, string(p.Message))
		}
		w.Code(command.OK)
	}
	s.results[b.Seq] = w.Bytes()
	res.Results = s.results[b.Seq]
	return res
}

func publishOf(text string) func([]byte) []byte {
	return func(dst []byte) []byte {
		return command.AppendPublish(dst, &command.Publish{Message: []byte(text), Flags: command.ToInboxes})
	}
}

// runLane is a lane that runs under an incarnation, until stop returns.
func runLane(t *testing.T, far batchSender, giveUp time.Duration) (l *lane, ctx context.Context, stop func()) {
	l = newLane(1, "n1", far, sealBatch, giveUp, newMetrics(nil))
	l.reset(7, nil)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { l.run(ctx) })
	return l, ctx, func() { cancel(); wg.Wait() }
}

// TestLaneAppliesEachCommandOnceInOrder_I2_I4 sends commands through a lane
// whose batches and answers are lost at random: each command is applied once,
// in order, and each caller hears of it once.
func TestLaneAppliesEachCommandOnceInOrder_I2_I4(t *testing.T) {
	for seed := uint64(1); seed <= 20; seed++ {
		synctest.Test(t, func(t *testing.T) {
			shard := newFakeShard(seed, 0.2)
			l, ctx, stop := runLane(t, shard, time.Hour)

			const total = 500
			var mu sync.Mutex
			calls := make([]int, total)
			var failures []error
			for i := range total {
				err := l.add(ctx, publishOf(fmt.Sprint(i)), func(res command.Result, _ uint64, err error) {
					mu.Lock()
					defer mu.Unlock()
					calls[i]++
					if err != nil || res.Code != command.OK {
						failures = append(failures, fmt.Errorf("command %d: %v %v", i, res.Code, err))
					}
				})
				if err != nil {
					t.Fatal(err)
				}
				if i%7 == 0 {
					time.Sleep(time.Millisecond) // fake time: lets batches of all sizes form
				}
			}
			time.Sleep(time.Minute)
			synctest.Wait()
			stop()
			if len(failures) > 0 {
				t.Fatalf("seed %d: %d failures, first: %v", seed, len(failures), failures[0])
			}
			for i, n := range calls {
				if n != 1 {
					t.Fatalf("seed %d: caller %d was called %d times", seed, i, n)
				}
			}
			if len(shard.applied) != total {
				t.Fatalf("seed %d: %d commands applied, want %d", seed, len(shard.applied), total)
			}
			for i, got := range shard.applied {
				if got != fmt.Sprint(i) {
					t.Fatalf("seed %d: position %d holds command %s", seed, i, got)
				}
			}
		})
	}
}

// TestLaneGivesUp_I26: without a leader a caller hears within the limit, once,
// and the lane goes on by itself when the leader is back.
func TestLaneGivesUp_I26(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shard := newFakeShard(1, 0)
		shard.down = true
		l, ctx, stop := runLane(t, shard, 6*time.Second)

		start := time.Now()
		var heard time.Duration
		var got error
		undone := 0
		_ = l.addLate(ctx, publishOf("a"), func(_ command.Result, _ uint64, err error) { heard, got = time.Since(start), err },
			func(command.Result, uint64, error) { undone++ })
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if !errors.Is(got, ErrNoLeader) || heard < 6*time.Second || heard > 7*time.Second {
			t.Fatalf("caller heard %v after %v, want ErrNoLeader after 6 to 7 s", got, heard)
		}
		shard.mu.Lock()
		shard.down = false
		shard.mu.Unlock()
		ok := false
		_ = l.add(ctx, publishOf("b"), func(_ command.Result, _ uint64, err error) { ok = err == nil })
		time.Sleep(time.Second)
		synctest.Wait()
		if !ok {
			t.Fatal("the lane did not go on after the leader came back")
		}
		if undone != 1 {
			t.Fatalf("an outcome that came late was told %d times, want once", undone)
		}
		stop()
	})
}

// muteShard loses the answers to some batches without any failure.
type muteShard struct {
	*fakeShard
	mute int // how many answers to lose
}

func (s *muteShard) sendBatch(shard uint32, batch []byte, done func(command.BatchResult, uint64, error)) {
	if s.mute > 0 {
		s.mute--
		done = func(command.BatchResult, uint64, error) {}
	}
	s.fakeShard.sendBatch(shard, batch, done)
}

// TestLaneSendsAgainWhatIsNotAnswered: a command that is kept must not wait for ever for an answer that was lost,
// while later ones pass it.
func TestLaneSendsAgainWhatIsNotAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		far := &muteShard{fakeShard: newFakeShard(1, 0), mute: 1}
		l, _, stop := runLane(t, far, 6*time.Second)
		outcome := make(chan error, 2)
		for i := range 2 {
			cmd := command.Publish{Message: []byte(fmt.Sprint(i))}
			err := l.addKept(7, func(dst []byte) []byte { return command.AppendPublish(dst, &cmd) }, func(_ command.Result, _ uint64, err error) { outcome <- err })
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait() // each in a batch of its own
		}
		for range 2 {
			select {
			case err := <-outcome:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(time.Minute):
				t.Error("a command was never answered")
			}
		}
		if got := fmt.Sprint(far.applied); got != "[0 1]" {
			t.Errorf("applied %s", got)
		}
		stop()
	})
}

// TestLaneBlocksWhenFull: a full lane holds its publishers, and a reset lets
// them go with an error.
func TestLaneBlocksWhenFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shard := newFakeShard(1, 0)
		shard.down = true
		l, ctx, stop := runLane(t, shard, time.Hour)
		big := string(make([]byte, 1<<20))
		added := 0
		var last error
		var wg sync.WaitGroup
		wg.Go(func() {
			for last == nil {
				if last = l.add(ctx, publishOf(big), nil); last == nil {
					added++
				}
			}
		})
		synctest.Wait()
		if added < 8 || added > 9 {
			t.Fatalf("%d MiB were added to a lane of 8 MiB", added)
		}
		if l.tryAdd(publishOf("x")) {
			t.Fatal("tryAdd succeeded on a full lane")
		}
		l.fail(ErrLeaseLost)
		wg.Wait()
		stop()
		if !errors.Is(last, ErrLeaseLost) {
			t.Fatalf("the blocked publisher got %v", last)
		}
	})
}

// TestLaneOfferWaitsOnceForAFullLane: a QoS 0 message waits a moment for room. If there is none, those behind it
// do not wait until there was some again.
func TestLaneOfferWaitsOnceForAFullLane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shard := newFakeShard(1, 0)
		shard.down = true
		l, ctx, stop := runLane(t, shard, time.Hour)
		big := string(make([]byte, 1<<20))
		offer := func() (bool, time.Duration) {
			began := time.Now()
			ok := l.offer(ctx, publishOf(big))
			return ok, time.Since(began)
		}
		for range 8 {
			if ok, took := offer(); !ok || took != 0 {
				t.Fatalf("a lane with room: %v after %s", ok, took)
			}
		}
		for i, want := range []time.Duration{laneStall, 0, 0} {
			if ok, took := offer(); ok || took != want {
				t.Errorf("offer %d to a full lane: %v after %s, want false after %s", i, ok, took, want)
			}
		}
		shard.mu.Lock()
		shard.down = false
		shard.mu.Unlock()
		time.Sleep(time.Second) // of fake time: the lane sends again
		synctest.Wait()
		if ok, took := offer(); !ok || took != 0 {
			t.Errorf("a lane that was emptied: %v after %s", ok, took)
		}
		stop()
	})
}

// TestLaneAcksTravelTogether: acknowledgements of one session that come within
// a few milliseconds become one command, and those that somebody waits for are
// answered.
func TestLaneAcksTravelTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shard := newFakeShard(1, 0)
		l, _, stop := runLane(t, shard, time.Hour)
		ref := command.SessionRef{SessionKey: command.SessionKey{ClientID: "c"}, Epoch: 1}
		for seq := uint64(1); seq <= 50; seq++ {
			l.ack(ref, seq, []uint64{seq}, nil, laneAckDelay, nil)
		}
		time.Sleep(laneAckDelay + 5*time.Millisecond)
		synctest.Wait()
		if shard.last != 1 {
			t.Fatalf("50 acknowledgements took %d batches, want 1", shard.last)
		}
		var answered error = errFakeLink
		start := time.Now()
		var took time.Duration
		l.ack(ref, 51, nil, []uint64{51}, laneAckDelay, func(err error) { answered, took = err, time.Since(start) })
		time.Sleep(20 * time.Millisecond)
		synctest.Wait()
		if answered != nil || took >= laneAckDelay {
			t.Fatalf("a PUBREC was answered with %v after %v", answered, took)
		}
		stop()
	})
}

// TestRefusedAckIsNoSuccess_I2: an acknowledgement that the machine refused,
// because another node owns the session now, must not let PUBREL go out.
func TestRefusedAckIsNoSuccess_I2(t *testing.T) {
	for code, ok := range map[command.ResultCode]bool{command.OK: true, command.StaleEpoch: false, command.UnknownSession: false} {
		var got error
		ack := &pendingAck{dones: []func(error){func(err error) { got = err }}}
		results := command.EncodeResults(nil, []command.Result{{Code: code}})
		finishBatch([]*pendingAck{ack}, nil, command.BatchResult{Code: command.OK, Results: results}, 1)
		if (got == nil) != ok {
			t.Errorf("%v was told as %v", code, got)
		}
	}
}
