package command

import "testing"

// TestPublishEpoch holds the bytes of the field that came later, and that a publish without it is encoded as it was.
func TestPublishEpoch(t *testing.T) {
	m := fullMessage()
	m.Epoch = 7 // no part of what shards store
	p := Publish{Tenant: "acme", Message: m.Append(nil), Flags: ToRetained, Epoch: 42}
	b := AppendPublish(nil, &p)
	golden(t, "publish-epoch", b)

	var c Command
	var got Publish
	it := Iter{b: b}
	if ok, err := it.Next(&c); !ok || err != nil || got.Decode(c.Payload) != nil || got.Epoch != 42 {
		t.Errorf("read back %+v, %v", got, err)
	}
	if back, err := DecodeMessage(got.Message); err != nil || back.Epoch != 0 {
		t.Errorf("the message says epoch %d, %v", back.Epoch, err)
	}
	p.Epoch = 0
	if older := AppendPublish(nil, &p); len(older) != len(b)-2 {
		t.Errorf("without an epoch %d bytes, with one %d", len(older), len(b))
	}
}
