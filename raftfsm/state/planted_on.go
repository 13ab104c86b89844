//go:build planted

package state

import "os"

// planted tells whether this process has a bug on purpose: the one that FLOTILLA_PLANTED names. The suites must notice each
// (TestPlanted in integration).
func planted(bug string) bool { return os.Getenv("FLOTILLA_PLANTED") == bug }

// isRepeat forgets what was applied, or remembers only single batches instead of the highest one.
func (l *lane) isRepeat(seq uint64) bool {
	if planted("lane-repeat-applied") || planted("replay-applied-again") { // the lanes hide a replay, too
		return false
	}
	if !planted("resend-unordered") {
		return seq <= l.last
	}
	for _, k := range l.kept {
		if k.seq == seq {
			return true
		}
	}
	return false
}

// first picks by the order of a map, which no two replicas have in common.
func (h readyHeap) first() *member {
	if !planted("share-map-order") {
		return h[0]
	}
	some := map[string]*member{}
	for _, m := range h {
		some[m.client] = m
	}
	for _, m := range some {
		return m
	}
	return h[0]
}
