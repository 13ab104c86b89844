package cluster

import (
	"context"
	"fmt"
	"time"
)

// What one shard tells another travels as originated entries: wills, released QoS 2 messages, what shares and their
// members say to each other. A source forgets an entry when every target has it, and a target remembers which ones it
// has. So a backup whose parts are taken at different times could lose one (the target was captured before it came, the
// source after it was forgotten) or hold the effect of one that its source will give to another message. Therefore
// a backup holds the pumps of all shards before it captures the first one and until it has captured the last: nothing
// is sent, nothing is forgotten. What is under way may still arrive, and is then sent again after a restore and
// known, or it is new. The parts are thus one cut for everything that goes from shard to shard.

// originHold is the hold of a pump. The pump's lock guards it.
type originHold struct {
	token string
	until time.Time
	quiet chan struct{} // closed once the pump's goroutine has seen it
	seen  bool
}

// heldLocked says that nothing may be sent or reported.
func (h *originHold) held() bool { return h.token != "" && time.Now().Before(h.until) }

// see notes that the pump's goroutine knows of the hold.
func (h *originHold) see() bool {
	if !h.held() {
		return false
	}
	if !h.seen {
		h.seen = true
		close(h.quiet)
	}
	return true
}

// holdFor holds the pump and returns when it is quiet. The hold ends by itself after ttl: a backup that dies stops nothing.
func (p *originPump) holdFor(ctx context.Context, token string, ttl time.Duration) error {
	p.mu.Lock()
	if p.hold.held() && p.hold.token != token {
		p.mu.Unlock()
		return fmt.Errorf("%w: another backup is being taken of shard %d", ErrBackupBusy, p.shard)
	}
	quiet := make(chan struct{})
	p.hold = originHold{token: token, until: time.Now().Add(ttl), quiet: quiet}
	p.mu.Unlock()
	p.kick()
	select {
	case <-quiet:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// letGo ends a hold. It answers true if the pump was quiet for all of the time since holdFor returned.
func (p *originPump) letGo(token string) bool {
	p.mu.Lock()
	held := p.hold.held() && p.hold.token == token && p.hold.seen && !p.ended
	if p.hold.token == token {
		p.hold = originHold{}
	}
	p.mu.Unlock()
	p.kick()
	return held
}
