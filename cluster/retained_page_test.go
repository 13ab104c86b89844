package cluster

import "testing"

// TestShareOfPage: what is asked of all shards fills a page whose topics are spread evenly, and is
// not much more than the page.
func TestShareOfPage(t *testing.T) {
	for _, limit := range []int{1, 2, 16, 256, 1000} {
		for shards := 1; shards <= 64; shards++ {
			got := shareOfPage(limit, shards)
			if got < 1 || got > limit || got*shards < limit {
				t.Errorf("a page of %d of %d shards: %d of each cannot fill it, or are above it", limit, shards, got)
			}
			if all := got * shards; shards > 1 && limit >= 256 && all > 2*limit+8*shards {
				t.Errorf("a page of %d of %d shards reads %d", limit, shards, all)
			}
		}
	}
}
