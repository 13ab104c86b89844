package command

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestGoldenShareRoom holds the bytes of the field that Connect and Subscribe got later.
func TestGoldenShareRoom(t *testing.T) {
	connect := Connect{Key: SessionKey{ClientID: "c"}, Node: "n1", ShareRoom: 512}
	b := AppendConnect(nil, &connect)
	golden(t, "connect-3", b)
	it := Iter{b: b}
	var c Command
	var gotConnect Connect
	if ok, err := it.Next(&c); !ok || err != nil || gotConnect.Decode(c.Payload) != nil || !cmp.Equal(connect, gotConnect) {
		t.Errorf("connect: %+v, %v", gotConnect, err)
	}
	subscribe := Subscribe{Ref: SessionRef{Epoch: 1}, Subs: []Subscription{{Filter: "$share/g/a", QoS: 1}}, ShareRoom: 512}
	b = AppendSubscribe(nil, &subscribe)
	golden(t, "subscribe-3", b)
	it = Iter{b: b}
	var gotSubscribe Subscribe
	if ok, err := it.Next(&c); !ok || err != nil || gotSubscribe.Decode(c.Payload) != nil || !cmp.Equal(subscribe, gotSubscribe) {
		t.Errorf("subscribe: %+v, %v", gotSubscribe, err)
	}
}
