package harness

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"
)

// DigestLedger collects digests of replicas over a run: the digest of a group at an index must be the same wherever and
// whenever it is read (I20).
type DigestLedger struct {
	seen map[digestKey]digestSight
}

type digestKey struct {
	group uint32
	index uint64
}

type digestSight struct {
	digest string
	nodes  []string
}

// NewDigestLedger is empty.
func NewDigestLedger() *DigestLedger { return &DigestLedger{seen: map[digestKey]digestSight{}} }

// Add notes what a node says of its replicas; an error is a divergence.
func (l *DigestLedger) Add(node string, groups []Group) error {
	for _, g := range groups {
		if !g.Local || g.Digest == "" {
			continue
		}
		key := digestKey{g.ID, g.DigestIndex}
		old, ok := l.seen[key]
		if ok && old.digest != g.Digest {
			return fmt.Errorf("I20: group %d at index %d: %s says %s, %s said %s",
				g.ID, g.DigestIndex, node, g.Digest, strings.Join(old.nodes, " and "), old.digest)
		}
		old.digest = g.Digest
		if !slices.Contains(old.nodes, node) {
			old.nodes = append(old.nodes, node)
		}
		l.seen[key] = old
	}
	return nil
}

// agreed tells whether all replicas of a group were seen with one digest at one index at or above from.
func (l *DigestLedger) agreed(group uint32, replicas []string, from uint64) bool {
	for key, sight := range l.seen {
		if key.group != group || key.index < from {
			continue
		}
		all := true
		for _, r := range replicas {
			all = all && slices.Contains(sight.nodes, r)
		}
		if all {
			return true
		}
	}
	return false
}

// WaitAgreement waits until every group has a leader and all its replicas were seen with the same digest at one index that is
// not older than the highest index that any replica's machine had applied when the wait began. A divergence fails the test at once.
func (c *Cluster) WaitAgreement(tb testing.TB, timeout time.Duration) {
	tb.Helper()
	ledger := NewDigestLedger()
	floor := map[uint32]uint64{}
	Wait(tb, timeout, "all replicas to agree on their digests", func(ctx context.Context) error {
		all := map[uint32]Group{}
		for _, n := range c.Nodes {
			groups, err := n.Groups(ctx)
			if err != nil {
				return err
			}
			if err := ledger.Add(n.ID, groups); err != nil {
				return Never(err)
			}
			for _, g := range groups {
				if old := all[g.ID]; old.Leader == nil || g.Local && len(g.Replicas) > 0 {
					all[g.ID] = g
				}
			}
		}
		if len(floor) == 0 {
			for id := range all {
				floor[id] = c.highestApplied(ctx, id)
			}
		}
		return lacking(ledger, all, floor)
	})
}

func (c *Cluster) highestApplied(ctx context.Context, group uint32) (high uint64) {
	for _, n := range c.Nodes {
		groups, err := n.Groups(ctx)
		if err != nil {
			continue
		}
		for _, g := range groups {
			if g.ID == group && g.Local {
				high = max(high, g.DigestIndex)
			}
		}
	}
	return high
}

func lacking(ledger *DigestLedger, all map[uint32]Group, floor map[uint32]uint64) error {
	if len(all) == 0 {
		return fmt.Errorf("no groups yet")
	}
	var missing []string
	for id, g := range all {
		switch {
		case g.Leader == nil:
			missing = append(missing, fmt.Sprintf("group %d has no leader", id))
		case !ledger.agreed(id, g.Replicas, floor[id]):
			missing = append(missing, fmt.Sprintf("group %d: replicas %v were not seen at one index from %d on", id, g.Replicas, floor[id]))
		}
	}
	if len(missing) == 0 {
		return nil
	}
	sort.Strings(missing)
	return fmt.Errorf("%s", strings.Join(missing, "; "))
}
