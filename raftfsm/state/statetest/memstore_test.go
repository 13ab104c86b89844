package statetest

import "testing"

func TestMemStore(t *testing.T) { Conformance(t, NewMemStore()) }

func TestClone(t *testing.T) {
	m := NewMemStore()
	set := func(k, v string) {
		b := m.NewBatch()
		b.Set([]byte(k), []byte(v))
		if err := b.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	set("a", "1")
	c := m.Clone()
	set("a", "2")
	set("b", "3")
	if v, _ := c.Get([]byte("a")); string(v) != "1" || c.Len() != 1 || m.Len() != 2 || m.Count("b") != 1 || m.Bytes() != 4 {
		t.Fatalf("clone %v, store %v", c.Dump(), m.Dump())
	}
}
