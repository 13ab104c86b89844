package state

import (
	"errors"
	"fmt"
	"strings"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/router"
)

// RetainedQuery asks for retained messages of a tenant.
type RetainedQuery struct {
	Tenant, Filter string
	After          string // topic behind which to begin, "": at the start
	Limit          int    // most items of the page; 0 asks for none, only for RetainedPage.Horizon
	// Horizon leaves out what the shard took after the page, or the question, that named it; 0: nothing.
	Horizon uint64
}

// RetainedPage is the answer.
type RetainedPage struct {
	Items []RetainedInfo // in the byte order of topics
	More  bool           // there are others behind
	// Horizon is the first message id that the shard has not given yet: it tells what was stored before
	// the read from what is stored after it.
	Horizon uint64
	// Now is the group's clock at the read, in unix ms.
	Now int64
}

// Retained lists retained messages that match the filter. Expired ones are left out. The cost is that of the
// matches, not of the store.
func (s *Shard) Retained(ask RetainedQuery) (RetainedPage, error) {
	for range fetchAttempts {
		q := retainedQuery{s: s, RetainedQuery: ask}
		s.mu.RLock()
		q.loads, q.writeBacks, q.store = s.loads, s.writeBacks, s.store
		page := RetainedPage{Horizon: s.lastMsg + 1, Now: s.clock}
		if t := s.tenants[ask.Tenant]; t != nil && ask.Limit > 0 {
			q.collect(t.retained)
		}
		s.mu.RUnlock()
		ok, err := q.readCold()
		if err != nil {
			return RetainedPage{}, err
		}
		if ok {
			page.More = q.more
			page.Items, err = q.decode()
			return page, err
		}
	}
	return RetainedPage{}, ErrReloaded
}

// retainedQuery is one call of Retained on its way.
type retainedQuery struct {
	RetainedQuery
	s *Shard

	store             Store
	loads, writeBacks uint64
	hits              []retainedHit
	more              bool
	looked            int // topics that were looked at
}

type retainedHit struct {
	id   uint64
	body []byte // nil while cold
	info RetainedInfo
}

// collect gathers matching topics. It jumps over subtrees that cannot match: where
// a literal level of the filter differs, the next topic to look at is known. It needs mu.
func (q *retainedQuery) collect(list *ordered[*retained]) {
	pos := q.After
	if pos != "" {
		pos += "\x00" // the next possible topic
	}
	pos = max(pos, router.LiteralPrefix(q.Filter))
	for steps := true; steps; {
		steps = false
		list.ascend(func(r *retained) int { return strings.Compare(r.topic, pos) }, func(r *retained) bool {
			q.looked++
			if router.Matches(q.Filter, []byte(r.topic)) {
				return q.take(r)
			}
			next, ok := nextCandidate(q.Filter, r.topic)
			if !ok {
				return false
			}
			if next > r.topic {
				pos, steps = next, true
				return false
			}
			return true
		})
	}
}

func (q *retainedQuery) take(r *retained) bool {
	if r.expiresAt != 0 && r.expiresAt <= q.s.clock || q.Horizon != 0 && r.id >= q.Horizon {
		return true
	}
	if len(q.hits) >= q.Limit {
		q.more = true
		return false
	}
	h := retainedHit{id: r.id, info: RetainedInfo{StoredAt: r.storedAt, ExpiresAt: r.expiresAt}}
	if r.msg != nil {
		h.body = r.msg.body
	}
	q.hits = append(q.hits, h)
	return true
}

// nextCandidate is a topic at or below the first one behind the given topic that
// could match the filter, for a topic that does not match; false if there is none. An
// answer equal to the topic means only that nothing can be skipped.
//
// Behind the levels that fit, topics that can match a literal level are the level
// itself and what begins with the level and '/', two ranges in byte order. When both
// are passed, the search goes on behind the subtree of the last '+'.
func nextCandidate(filter, topic string) (string, bool) {
	f, t := 0, 0
	behind, ok := "", false // behind the subtree of the last '+': '0' follows '/'
	for {
		fl, fend := levelAt(filter, f)
		tl, tend := levelAt(topic, t)
		switch fl {
		case "#":
			return topic, true // a topic with a leading $, which no wildcard matches
		case "+":
			if tend < len(topic) {
				behind, ok = topic[:tend]+"0", true
			}
		case tl:
			if fend < len(filter) && tend == len(topic) {
				return topic + "/", true
			}
		default:
			first := topic[:t] + fl
			if topic < first {
				return first, true
			}
			if fend < len(filter) && topic < first+"/" {
				return first + "/", true
			}
			return behind, ok
		}
		if tend == len(topic) {
			return topic, true // "a/x!" sorts between "a/x" and "a/x/": no skipping
		}
		if fend == len(filter) {
			return behind, ok
		}
		f, t = fend+1, tend+1
	}
}

// levelAt is the level of s that starts at i, and where it ends.
func levelAt(s string, i int) (string, int) {
	if n := strings.IndexByte(s[i:], '/'); n >= 0 {
		return s[i : i+n], i + n
	}
	return s[i:], len(s)
}

// readCold reads what was not in memory, without mu; false if it has to start again.
func (q *retainedQuery) readCold() (bool, error) {
	for i := range q.hits {
		h := &q.hits[i]
		if h.body != nil {
			continue
		}
		v, err := q.store.Get(keyU64(nil, keyMessage, h.id))
		if err == nil {
			r := recordReader{b: v}
			r.int() // the expiry time
			h.body = r.rest()
			continue
		}
		if !errors.Is(err, ErrNotFound) {
			return false, fmt.Errorf("read retained message %d: %w", h.id, err)
		}
		q.s.mu.RLock()
		moved := q.s.loads != q.loads || q.s.writeBacks != q.writeBacks
		q.s.mu.RUnlock()
		if !moved {
			return false, fmt.Errorf("read retained message %d: %w", h.id, ErrCorrupt)
		}
		return false, nil
	}
	return true, nil
}

func (q *retainedQuery) decode() ([]RetainedInfo, error) {
	out := make([]RetainedInfo, len(q.hits))
	for i := range q.hits {
		out[i] = q.hits[i].info
		m, err := command.DecodeMessage(q.hits[i].body)
		if err != nil {
			return nil, fmt.Errorf("read retained message: %w", err)
		}
		out[i].Msg = m
	}
	return out, nil
}
