package cluster

import (
	"reflect"
	"testing"

	"github.com/flotilla-mqtt/flotilla/raftfsm/command"
	"github.com/flotilla-mqtt/flotilla/raftfsm/state"
)

// TestRetainedPageFormats: a node gets the format that it asks for; one of feature level 1 does not know the group's time.
func TestRetainedPageFormats(t *testing.T) {
	page := state.RetainedPage{More: true, Horizon: 7, Now: 1_000, Items: []state.RetainedInfo{
		{StoredAt: 900, ExpiresAt: 61_000, Msg: command.Message{Topic: []byte("a"), Payload: []byte("x"), QoS: 1, Retain: true}},
		{StoredAt: 950, Msg: command.Message{Topic: []byte("b"), Payload: []byte("y"), Retain: true}},
	}}
	for _, timed := range []bool{true, false} {
		want := page
		if !timed {
			want.Now = 0
		}
		got, err := decodeRetained(encodeRetained(&page, timed), timed)
		if err != nil || got.More != want.More || got.Horizon != want.Horizon || got.Now != want.Now || len(got.Items) != len(want.Items) {
			t.Fatalf("timed %v: %+v, %v; want %+v", timed, got, err, want)
		}
		for i, it := range got.Items {
			w := want.Items[i]
			if it.StoredAt != w.StoredAt || it.ExpiresAt != w.ExpiresAt || !reflect.DeepEqual(it.Msg.Append(nil), w.Msg.Append(nil)) {
				t.Errorf("timed %v: item %d is %+v, want %+v", timed, i, it, w)
			}
		}
	}
}

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
