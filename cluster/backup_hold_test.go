package cluster

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestOriginHold: while a backup holds a pump, nothing is sent and nothing is forgotten; then it goes on.
func TestOriginHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		targets := newOriginTargets()
		src := new(originList)
		n := newOriginNode(ctx, "n1", 1, targets, &wg)
		p := newOriginPump(9, src, n, src.tell(rand.New(rand.NewPCG(1, 5))))
		pctx, stop := context.WithCancel(ctx)
		wg.Go(func() { p.run(pctx) })
		feed := func(count int) {
			for range count {
				src.add(originKeys[0], false)
			}
			p.kick()
		}
		// What went out is what the pump takes for sent or confirmed: the targets' own lists come later.
		sent := func() uint64 {
			p.mu.Lock()
			defer p.mu.Unlock()
			return p.high
		}
		left := func() int {
			src.mu.Lock()
			defer src.mu.Unlock()
			return len(src.items)
		}
		drained := func(what string) {
			t.Helper()
			for end := time.Now().Add(20 * time.Second); left() > 0; _ = sleep(ctx, 10*time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("%s: sent up to %d, %d left", what, sent(), left())
				}
			}
		}
		feed(500)
		drained("the pump does not run")
		feed(10)
		if err := p.holdFor(ctx, "b1", 12*time.Second); err != nil {
			t.Fatal(err)
		}
		feed(500)
		at := sent()
		synctest.Wait() // what was under way is confirmed, and nothing is begun
		held := left()
		<-time.After(10 * time.Second) // nothing happens in this time
		synctest.Wait()
		if sent() != at || left() != held || held < 500 {
			t.Fatalf("under a hold: sent up to %d, then %d; %d left, then %d", at, sent(), held, left())
		}
		if err := p.holdFor(ctx, "b2", time.Second); err == nil {
			t.Fatal("a second backup got the pump")
		}
		if p.letGo("b2") || !p.letGo("b1") || p.letGo("b1") {
			t.Fatal("who held it?")
		}
		drained("after the hold")
		if sent() == at {
			t.Fatal("nothing was sent after the hold")
		}
		// A hold that nobody ends ends by itself, and who held it is told.
		if err := p.holdFor(ctx, "b3", time.Second); err != nil {
			t.Fatal(err)
		}
		feed(5)
		drained("a hold that lapsed")
		if p.letGo("b3") {
			t.Fatal("a hold that lapsed was still held")
		}
		stop()
		cancel()
		wg.Wait()
	})
}
