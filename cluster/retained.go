package cluster

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/flotilla-mqtt/flotilla/cluster/peer"
	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
	"github.com/flotilla-mqtt/flotilla/session"
)

// Retained implements session.Retained. One page is read from every shard that
// may hold matches, merged in topic order.
func (n *Node) Retained(ctx context.Context, q session.RetainedQuery) (session.RetainedPage, error) {
	if isSysFilter(q.Filter) {
		msgs, next := n.sys.retained(q.Filter, q.After, q.Limit)
		return session.RetainedPage{Msgs: msgs, Next: next}, nil
	}
	if !n.mayRoute() {
		return session.RetainedPage{}, session.ErrUnavailable
	}
	infos, next, horizon, err := n.retained(ctx, &q)
	if err != nil {
		return session.RetainedPage{}, fmt.Errorf("%w: %w", session.ErrUnavailable, err)
	}
	page := session.RetainedPage{Msgs: make([]command.Message, 0, len(infos)), Next: next, Horizon: horizon}
	for i := range infos {
		m := infos[i].Msg
		m.HasExpiry = infos[i].ExpiresAt != 0
		if m.HasExpiry {
			left := infos[i].ExpiresAt - infos[i].now
			if left <= 0 {
				continue
			}
			m.Expiry = uint32((left + 999) / 1000)
		}
		page.Msgs = append(page.Msgs, m)
	}
	return page, nil
}

// Horizon implements session.Retained: one round of the quorum of each shard that
// may hold matches.
func (n *Node) Horizon(ctx context.Context, tenant string, filters []string) (session.Horizon, error) {
	var shards []uint32
	for _, f := range filters {
		if !isSysFilter(f) {
			shards = append(shards, n.retainedShards(tenant, f)...)
		}
	}
	slices.Sort(shards)
	_, horizon, err := n.retainedPages(ctx, slices.Compact(shards), &session.RetainedQuery{Tenant: tenant})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", session.ErrUnavailable, err)
	}
	return horizon, nil
}

// retainedShards are those that may hold topics that match a filter.
func (n *Node) retainedShards(tenant, filter string) []uint32 {
	if !strings.ContainsAny(filter, "+#") {
		return []uint32{n.topicShard(tenant, []byte(filter))}
	}
	var shards []uint32
	for _, l := range n.allLanes() {
		shards = append(shards, l.shard)
	}
	return shards
}

// retainedMsg is a retained message and its group's clock when it was read.
type retainedMsg struct {
	state.RetainedInfo
	now int64
}

// retained reads a page, and where the next one begins.
func (n *Node) retained(ctx context.Context, q *session.RetainedQuery) ([]retainedMsg, string, session.Horizon, error) {
	shards := n.retainedShards(q.Tenant, q.Filter)
	part := *q
	part.Limit = shareOfPage(q.Limit, len(shards))
	pages, horizon, err := n.retainedPages(ctx, shards, &part)
	if err != nil {
		return nil, "", nil, err
	}
	var all []retainedMsg
	cut := "" // topics above it may be missing from a shard that had more
	for i := range pages {
		p := &pages[i]
		for _, it := range p.Items {
			all = append(all, retainedMsg{it, p.Now})
		}
		if p.More && len(p.Items) > 0 {
			last := string(p.Items[len(p.Items)-1].Msg.Topic)
			if cut == "" || last < cut {
				cut = last
			}
		}
	}
	slices.SortFunc(all, func(a, b retainedMsg) int { return strings.Compare(string(a.Msg.Topic), string(b.Msg.Topic)) })
	end := len(all)
	if cut != "" {
		end, _ = slices.BinarySearchFunc(all, cut, func(r retainedMsg, t string) int {
			if string(r.Msg.Topic) <= t {
				return -1
			}
			return 1
		})
	}
	end = min(end, q.Limit)
	switch {
	case end == len(all) && cut == "":
		return all, "", horizon, nil
	case end == 0:
		return nil, "", horizon, nil
	}
	return all[:end], string(all[end-1].Msg.Topic), horizon, nil
}

// shareOfPage is how many messages of a page are asked of each shard. Topics are spread by their hash, so half as many
// again as the even share fill the page nearly always; asking each for a whole page would read, and throw away, all but
// one of them.
func shareOfPage(limit, shards int) int {
	if shards == 1 {
		return limit
	}
	return min(limit, limit*3/(2*shards)+8)
}

// retainedPages reads all shards at the same time: each read waits for a round
// of its shard's quorum. The horizon is that of the question, or else of the answers.
func (n *Node) retainedPages(ctx context.Context, shards []uint32, q *session.RetainedQuery) ([]state.RetainedPage, session.Horizon, error) {
	pages, errs := make([]state.RetainedPage, len(shards)), make([]error, len(shards))
	var wg sync.WaitGroup
	for i, shard := range shards {
		wg.Go(func() {
			pages[i], errs[i] = n.retainedOf(ctx, shard, state.RetainedQuery{
				Tenant: q.Tenant, Filter: q.Filter, After: q.After, Limit: q.Limit, Horizon: q.Horizon[shard],
			})
		})
	}
	wg.Wait()
	horizon := q.Horizon
	if horizon == nil {
		horizon = make(session.Horizon, len(shards))
	}
	for i, shard := range shards {
		if errs[i] != nil {
			return nil, nil, fmt.Errorf("read retained messages of shard %d: %w", shard, errs[i])
		}
		if q.Horizon == nil {
			horizon[shard] = pages[i].Horizon
		}
	}
	return pages, horizon, nil
}

// retainedOf reads one shard, linearizably: from the local replica once it has
// applied what was committed before the call, or from the leader.
func (n *Node) retainedOf(ctx context.Context, shard uint32, q state.RetainedQuery) (state.RetainedPage, error) {
	if r := n.replica(shard); r != nil {
		index, err := n.readIndex(ctx, shard)
		if planted("retained-read-stale") {
			return state.RetainedPage{}, nil
		}
		if err == nil {
			err = r.group.WaitApplied(ctx, index)
		}
		if err != nil {
			return state.RetainedPage{}, err
		}
		page, err := r.mach.Retained(q)
		page.Now = max(page.Now, r.clock.now()) // an idle group's last entry may be old
		return page, err
	}
	leader := n.leaderOf(shard)
	if leader == "" || leader == n.id {
		return state.RetainedPage{}, ErrNoLeader
	}
	b := putUint(nil, uint64(shard))
	b = putBytes(putBytes(putBytes(b, q.Tenant), q.Filter), q.After)
	b = putUint(putUint(b, uint64(q.Limit)), q.Horizon)
	timed := n.control.view().FeatureLevel >= featureRetainedNow
	if timed {
		b = putBool(b, true)
	}
	resp, err := n.query(ctx, leader, queryRetained, b)
	if err != nil {
		n.hint(shard, "")
		return state.RetainedPage{}, err
	}
	page, err := decodeRetained(resp, timed)
	if !timed {
		page.Now = n.now()
	}
	return page, err
}

// answerRetained reads a shard for a node that has no replica of it.
func (n *Node) answerRetained(ctx context.Context, d *dec) ([]byte, error) {
	shard := uint32(d.uint())
	q := state.RetainedQuery{Tenant: d.string(), Filter: d.string(), After: d.string(), Limit: int(min(d.uint(), 1000)), Horizon: d.uint()}
	timed := len(d.b) > 0 && d.bool() // older nodes do not ask for it
	if err := d.err(); err != nil {
		return nil, err
	}
	if n.replica(shard) == nil {
		return nil, ErrNoLeader
	}
	page, err := n.retainedOf(ctx, shard, q)
	if err != nil {
		return nil, err
	}
	return encodeRetained(&page, timed), nil
}

// encodeRetained writes a page, or as much of it as fits; timed: with the group's time.
func encodeRetained(page *state.RetainedPage, timed bool) []byte {
	b := putUint(putBool(nil, page.More), page.Horizon)
	if timed {
		b = putUint(b, uint64(page.Now))
	}
	size := 0
	for i := range page.Items {
		it := &page.Items[i]
		raw := it.Msg.Append(nil)
		if size += len(raw); i > 0 && size > peer.MaxPayload/2 {
			b[0] = 1 // the rest comes with the next page
			break
		}
		b = putBytes(putUint(putUint(b, uint64(it.StoredAt)), uint64(it.ExpiresAt)), raw)
	}
	return b
}

func decodeRetained(b []byte, timed bool) (page state.RetainedPage, err error) {
	d := dec{b: b}
	page.More, page.Horizon = d.bool(), d.uint()
	if timed {
		page.Now = int64(d.uint())
	}
	for len(d.b) > 0 {
		it := state.RetainedInfo{StoredAt: int64(d.uint()), ExpiresAt: int64(d.uint())}
		raw := d.bytes()
		if d.bad {
			break
		}
		if it.Msg, err = command.DecodeMessage(raw); err != nil {
			return state.RetainedPage{}, err
		}
		page.Items = append(page.Items, it)
	}
	return page, d.err()
}
