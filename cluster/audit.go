package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// AuditEntry is a change that somebody asked for at the API of a node. Its JSON
// is a contract.
type AuditEntry struct {
	// ID sorts by time, then node.
	ID        string    `json:"id"`
	At        time.Time `json:"at"`
	Node      string    `json:"node"`
	Actor     string    `json:"actor"`
	Role      string    `json:"role"`
	Address   string    `json:"address"`
	Action    string    `json:"action"`
	Method    string    `json:"method"`
	Target    string    `json:"target"`
	Operation string    `json:"operation,omitempty"`
	Status    int       `json:"status"`
	Result    string    `json:"result"`
}

const (
	// auditKept is how many entries a node has in memory. What is older, and what
	// was before a restart, is in the log of the process.
	auditKept = 1000
	// auditTarget bounds the path of an entry.
	auditTarget = 1024
)

// auditBook is a ring of the newest entries of this node.
type auditBook struct {
	mu sync.Mutex
	// Below mu.
	seq  uint64
	last int64        // unix ms of the newest
	ring []AuditEntry // oldest first once it was rotated by next
	next int
}

// record keeps an entry and drops the oldest one if there are too many.
func (b *auditBook) record(e AuditEntry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seq++
	b.last = max(b.last, e.At.UnixMilli()) // ids of a node sort by their making, also when a clock is set back
	e.ID = fmt.Sprintf("%013d-%s-%08d", b.last, e.Node, b.seq)
	if len(e.Target) > auditTarget {
		e.Target = e.Target[:auditTarget]
	}
	if len(b.ring) < auditKept {
		b.ring = append(b.ring, e)
		return
	}
	b.ring[b.next] = e
	b.next = (b.next + 1) % auditKept
}

// page lists entries, newest first, that are older than an id.
func (b *auditBook) page(before string, limit int) []AuditEntry {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := []AuditEntry{}
	for i := range b.ring {
		e := &b.ring[(b.next+2*len(b.ring)-1-i)%len(b.ring)]
		if before != "" && e.ID >= before {
			continue
		}
		if len(out) == limit {
			break
		}
		out = append(out, *e)
	}
	return out
}

// auditQuery asks a node for a page.
type auditQuery struct {
	Before string `json:"before,omitempty"`
	Limit  int    `json:"limit"`
}

// RecordAudit keeps an entry of this node.
func (n *Node) RecordAudit(e AuditEntry) { n.auditBook.record(e) }

// AuditLog lists the entries of all nodes that are up, newest first. A node that
// does not answer is an error unless stale is asked for, which leaves it out.
func (n *Node) AuditLog(ctx context.Context, o ListOptions) (items []AuditEntry, next string, err error) {
	var failed error
	n.eachNodeUp(func(id string) func() {
		page, err := n.auditOf(ctx, id, auditQuery{Before: o.After, Limit: o.Limit + 1})
		return func() {
			if err != nil && !o.Stale {
				failed = err
			}
			items = append(items, page...)
		}
	})
	if failed != nil {
		return nil, "", failed
	}
	slices.SortFunc(items, func(a, b AuditEntry) int { return strings.Compare(b.ID, a.ID) })
	if len(items) > o.Limit {
		items = items[:o.Limit]
		next = items[o.Limit-1].ID
	}
	return items, next, nil
}

func (n *Node) auditOf(ctx context.Context, node string, q auditQuery) ([]AuditEntry, error) {
	if node == n.id {
		return n.auditBook.page(q.Before, q.Limit), nil
	}
	items, err := askNode[[]AuditEntry](ctx, n, node, queryAudit, q, ErrUnreachable)
	if err != nil {
		return nil, err
	}
	return *items, nil
}

func (n *Node) answerAudit(raw []byte) ([]byte, error) {
	var q auditQuery
	if err := json.Unmarshal(raw, &q); err != nil {
		return nil, errFrame
	}
	return json.Marshal(n.auditBook.page(q.Before, min(q.Limit, auditKept)))
}
