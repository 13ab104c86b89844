package session

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

const (
	// replayMessages and replayBytes bound one page of retained messages. A
	// read goes to every shard and waits for its quorum, so it must not be made
	// for each free place of a small Receive Maximum; and a page is one command
	// of the session's shard, which others wait behind.
	replayMessages, replayBytes = 256, 64 << 10
	// replayFirst is the first page, before the size of the messages is known.
	replayFirst = 16
	// replayInflight is how much a client may have unacknowledged for its inbox
	// to get another page: a Receive Maximum may be 65,535.
	replayInflight = 256
)

// replay sends the retained messages that match a subscription.
type replay struct {
	sub   command.Subscription
	after string // where it stands
	size  int    // average bytes of the messages so far
	// inbox says that the session's shard keeps where it stands: pages become
	// entries of the inbox. Else they are sent on this connection, and end with it.
	inbox bool
	held  bool // its subscription is being changed

	// horizon is where it ends in time: what is stored later arrives live.
	horizon Horizon
	// page is what was read and is not sent, or whose commit is not known.
	page  []command.Message
	next  string // where it stands behind page, "" at the end
	paged bool   // page and next are set
	at    int64  // when page was read, ns of Server.now

	reading  bool     // a page is being read
	overtook []string // topics of which a newer message came live meanwhile
}

// horizonTimeout bounds how long a SUBACK waits for the horizon of its replays.
// Without a horizon a replay takes its own when it begins to read, and what was
// published between SUBACK and that read comes twice, live and as retained.
const horizonTimeout = time.Second

// nextReplayLocked returns the replay whose turn it is, nil for none. What
// comes from the inbox waits until the inbox has nothing else to be fetched, so
// that no more than a page is ever queued there; the others take turns with it.
func (c *Conn) nextReplayLocked(turn int, inbox bool) *replay {
	for _, r := range c.replays {
		if r.held || inbox && (r.inbox || turn%2 == 1) || r.inbox && c.win.Len() >= replayInflight {
			continue
		}
		return r
	}
	return nil
}

// pumpReplay brings one replay forward by up to a page.
func (c *Conn) pumpReplay(r *replay) error {
	c.mu.Lock()
	read := !r.paged && !r.held
	if r.held || c.cause.kind != 0 {
		c.mu.Unlock()
		return nil
	}
	c.replaying = r
	c.mu.Unlock()
	defer c.replayed()
	if read {
		if err := c.readReplay(c.ctx, r); err != nil {
			return err
		}
	}
	if r.inbox {
		return c.replayToInbox(r)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.replayHereLocked(r)
	return nil
}

// rereads is how often a page is read again because newer messages came live.
const rereads = 3

// readReplay reads the next page of a replay. A message of which a newer one came live meanwhile is not sent behind
// that: the page is read again, so that the client gets the newer one as the retained message that it asked for. If it
// lies behind the horizon, or the topic changes faster than it can be read, the live one is all that the client gets.
func (c *Conn) readReplay(ctx context.Context, r *replay) error {
	for again := rereads; ; again-- {
		c.mu.Lock()
		q := RetainedQuery{Tenant: c.ident.Tenant, Filter: r.sub.Filter, After: r.after, Limit: r.limit(), Horizon: r.horizon}
		r.reading, r.overtook = !r.inbox, nil
		c.mu.Unlock()
		page, err := c.srv.be.Retained.Retained(ctx, q)
		if stale := c.pageRead(r, &page, err, again > 0); !stale {
			return err
		}
	}
}

// pageRead takes a page for a replay; it is refused, if it may be, when it is stale.
func (c *Conn) pageRead(r *replay, page *RetainedPage, err error, refuse bool) (stale bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r.reading = false
	if err != nil {
		return false
	}
	older := func(m command.Message) bool { return slices.Contains(r.overtook, string(m.Topic)) }
	if len(r.overtook) > 0 && slices.ContainsFunc(page.Msgs, older) {
		if refuse {
			return true
		}
		page.Msgs = slices.DeleteFunc(page.Msgs, older)
	}
	r.page, r.next, r.paged, r.at, r.horizon = c.wanted(r, page.Msgs), page.Next, true, c.srv.now(), page.Horizon
	return false
}

// limit is how many messages the next page may hold.
func (r *replay) limit() int {
	if r.size == 0 {
		return replayFirst
	}
	return min(max(1, replayBytes/r.size), replayMessages)
}

// wanted leaves out what the client must not get, and learns the size of the rest.
func (c *Conn) wanted(r *replay, msgs []command.Message) []command.Message {
	sum := 0
	for i := range msgs {
		sum += len(msgs[i].Topic) + len(msgs[i].Payload) + len(msgs[i].Props) + 16
	}
	if len(msgs) > 0 {
		r.size = sum / len(msgs)
	}
	return slices.DeleteFunc(msgs, func(m command.Message) bool {
		if r.sub.NoLocal && m.Publisher == c.ident.ClientID {
			return true
		}
		if c.srv.checkReceive && !c.srv.cfg.Authorizer.MayReceive(&c.ident, m.Topic) {
			c.srv.m.dropped[dropDenied].Inc()
			return true
		}
		return false
	})
}

// replayed ends the use of a replay by the pump.
func (c *Conn) replayed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.replaying = nil
	if c.quiet != nil {
		c.quiet.Broadcast()
	}
}

// replayToInbox lets the session's shard take a page. If the outcome is not
// known, the same page is offered again: the shard takes it once.
func (c *Conn) replayToInbox(r *replay) error {
	p := ReplayPage{Filter: r.sub.Filter, After: r.after, Next: r.next, Last: r.next == ""}
	for i := range r.page {
		m := r.page[i]
		if min(m.QoS, r.sub.QoS) > 0 && c.fresh(r, &m) {
			p.Msgs = append(p.Msgs, m)
		}
	}
	if err := c.srv.be.Inbox.Replay(c.ctx, c.ref, p); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause.kind != 0 {
		return nil
	}
	c.due = c.due || len(p.Msgs) > 0
	for i := range r.page {
		if min(r.page[i].QoS, r.sub.QoS) == 0 {
			c.sendRetainedLocked(r, &r.page[i])
		}
	}
	r.page = nil
	c.pagedLocked(r)
	c.flushLocked()
	return nil
}

// fresh takes the time since the read from what remains of a message's expiry,
// and reports whether anything does.
func (c *Conn) fresh(r *replay, m *command.Message) (ok bool) {
	if !m.HasExpiry {
		return true
	}
	m.Expiry, ok = remaining(m.Expiry, time.Duration(c.srv.now()-r.at))
	return ok
}

// replayHereLocked sends what there is room for.
func (c *Conn) replayHereLocked(r *replay) {
	if c.cause.kind != 0 || !slices.Contains(c.replays, r) {
		return // unsubscribed or replaced meanwhile
	}
	for len(r.page) > 0 {
		if c.roomBytesLocked() <= 0 {
			c.flushLocked()
			return
		}
		if !c.sendRetainedLocked(r, &r.page[0]) {
			// It goes on when there is room; with room in the quota it is the
			// packet ids that are missing.
			c.spanned = c.win.Free() > 0
			c.flushLocked()
			return
		}
		r.page = r.page[1:]
	}
	c.pagedLocked(r)
	c.flushLocked()
}

// pagedLocked moves a replay behind its page.
func (c *Conn) pagedLocked(r *replay) {
	r.paged, r.after = false, r.next
	i := slices.Index(c.replays, r)
	if i < 0 {
		return
	}
	// The next replay gets its turn: none waits for the longest.
	c.replays = slices.Delete(c.replays, i, i+1)
	if r.next != "" {
		c.replays = append(c.replays, r)
	}
	if len(c.replays) == 0 {
		c.replays = nil // most connections never have one again
	}
}

// overtakenLocked drops the copy of a retained message that waits to be sent: the
// client gets a newer one live, and must not see the older one after it.
func (c *Conn) overtakenLocked(m *command.Message) {
	for _, r := range c.replays {
		if r.inbox {
			continue
		}
		if r.reading {
			r.overtook = append(r.overtook, string(m.Topic))
		}
		for i := range r.page {
			if bytes.Equal(r.page[i].Topic, m.Topic) {
				r.page = slices.Delete(r.page, i, i+1)
				break
			}
		}
	}
}

// sendRetainedLocked sends one retained message; false if there is no room.
func (c *Conn) sendRetainedLocked(r *replay, m *command.Message) bool {
	left := *m
	if !c.fresh(r, &left) {
		c.srv.m.dropped[dropExpired].Inc()
		return true
	}
	p := mqtt.Publish{
		QoS: min(m.QoS, r.sub.QoS), Retain: true, Topic: m.Topic, Payload: m.Payload, Props: m.Props,
		HasExpiry: m.HasExpiry, Expiry: left.Expiry,
	}
	if r.sub.ID != 0 {
		p.SubscriptionIDs = []uint32{r.sub.ID}
	}
	switch c.sendLocalLocked(&p) {
	case sendFull:
		return false
	case sendOK:
		c.srv.m.pubDelivered[p.QoS].Inc()
		c.srv.m.sent[mqtt.TypePublish].Inc()
	}
	return true
}

// holdReplays keeps the pump from the replays of subscriptions that are about to
// be replaced, and waits for what it is doing: a page of the old subscription
// must not arrive behind the new one.
func (c *Conn) holdReplays(subs []command.Subscription) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.replays) == 0 {
		return
	}
	has := func(r *replay) bool {
		return slices.ContainsFunc(subs, func(s command.Subscription) bool { return s.Filter == r.sub.Filter })
	}
	for _, r := range c.replays {
		r.held = r.held || has(r)
	}
	if c.quiet == nil {
		c.quiet = sync.NewCond(&c.mu)
	}
	for c.replaying != nil && has(c.replaying) && c.cause.kind == 0 {
		c.quiet.Wait()
	}
}

// subscribed adds the replays of new subscriptions, which are held yet.
func (c *Conn) subscribed(subs []command.Subscription, granted []Granted) (fresh []*replay) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range subs {
		s, g := &subs[i], &granted[i]
		if old := slices.IndexFunc(c.replays, func(r *replay) bool { return r.sub.Filter == s.Filter }); old >= 0 && g.Code <= 2 {
			c.replays[old].held, c.replays[old].sub = false, *s
		} else if old >= 0 {
			c.replays[old].held = false
		}
		if !g.Replay && !c.wantsRetained(s, g) {
			continue
		}
		c.dropReplayLocked(s.Filter)
		r := &replay{sub: *s, inbox: g.Replay, held: true}
		c.replays = append(c.replays, r)
		fresh = append(fresh, r)
	}
	return fresh
}

// beginReplays gives replays their horizon, now that their subscriptions are
// effective: what is stored behind it finds them and arrives live, so there is no
// gap (I14). And SUBACK has not left yet: what is published in answer to it is
// behind the horizon, and comes once, live, with RETAIN 0 (v5:MQTT-3.3.1-12,
// v311:MQTT-3.3.1-9). A single replay reads its first page on the way.
func (c *Conn) beginReplays(fresh []*replay) {
	if len(fresh) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(c.ctx, horizonTimeout)
	defer cancel()
	if len(fresh) == 1 && !fresh[0].inbox {
		_ = c.readReplay(ctx, fresh[0]) // else the pump reads it, and tells why it cannot
		return
	}
	filters := make([]string, len(fresh))
	for i, r := range fresh {
		filters[i] = r.sub.Filter
	}
	horizon, err := c.srv.be.Retained.Horizon(ctx, c.ident.Tenant, filters)
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range fresh {
		r.horizon = horizon
	}
}

// releaseReplays lets the pump have them.
func (c *Conn) releaseReplays(fresh []*replay) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range fresh {
		r.held = false
	}
	c.wantPumpLocked()
}

// wantsRetained reports whether a subscription asks for retained messages.
// v5:MQTT-3.3.1-9, v5:MQTT-3.3.1-10, v5:MQTT-3.3.1-11
func (c *Conn) wantsRetained(s *command.Subscription, g *Granted) bool {
	return c.lim.RetainAvailable && g.Code <= 2 && !isShare(s.Filter) && // v5:MQTT-4.8.2: none for shares
		(s.RetainHandling == 0 || s.RetainHandling == 1 && !g.Existed)
}

func (c *Conn) dropReplayLocked(filter string) {
	c.replays = slices.DeleteFunc(c.replays, func(r *replay) bool { return r.sub.Filter == filter })
}
