package cluster

import (
	"encoding/binary"
	"errors"

	"github.com/flotilla-mqtt/flotilla/router"
)

// errFrame means that a frame of another node could not be decoded. Nothing of
// it was used.
var errFrame = errors.New("malformed peer frame")

// Frames between nodes are flat sequences of varints and length-prefixed
// strings. dec reads them; after an error every further read yields zero, and
// err says so once at the end.
type dec struct {
	b   []byte
	bad bool
}

func (d *dec) uint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

// bytes aliases the frame.
func (d *dec) bytes() []byte {
	n := d.uint()
	if n > uint64(len(d.b)) {
		d.bad, d.b = true, nil
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

func (d *dec) string() string { return string(d.bytes()) }

func (d *dec) bool() bool { return d.uint() != 0 }

// count reads a number of elements that take at least one byte each, so that
// nothing is allocated for elements that cannot be there.
func (d *dec) count() int {
	n := d.uint()
	if n > uint64(len(d.b)) {
		d.bad, d.b = true, nil
		return 0
	}
	return int(n)
}

func (d *dec) err() error {
	if d.bad || len(d.b) != 0 {
		return errFrame
	}
	return nil
}

func putUint(b []byte, v uint64) []byte { return binary.AppendUvarint(b, v) }

func putBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

func putBytes[T string | []byte](b []byte, v T) []byte {
	b = binary.AppendUvarint(b, uint64(len(v)))
	return append(b, v...)
}

const (
	routeReset = 1 << iota
	routeLast
)

const (
	changeDurable = 1 << iota
	changeGroups
	nodeAny
	nodeTransient
)

func appendRouteFrame(b []byte, f *routeFrame) []byte {
	flags := uint64(0)
	if f.Reset {
		flags |= routeReset
	}
	if f.Last {
		flags |= routeLast
	}
	b = putUint(b, uint64(f.Shard))
	b = putUint(b, f.Term)
	b = putUint(b, f.Incarnation)
	b = putUint(b, f.Index)
	b = putUint(b, flags)
	b = putUint(b, uint64(len(f.Changes)))
	for i := range f.Changes {
		b = appendRouteChange(b, &f.Changes[i])
	}
	return b
}

func appendRouteChange(b []byte, c *router.RouteChange) []byte {
	flags := uint64(0)
	if c.Durable {
		flags |= changeDurable
	}
	if len(c.Groups) > 0 {
		flags |= changeGroups
	}
	b = putBytes(b, c.Tenant)
	b = putBytes(b, c.Filter)
	b = putUint(b, flags)
	b = putUint(b, uint64(len(c.Nodes)))
	for _, n := range c.Nodes {
		flags = 0
		if n.Any {
			flags |= nodeAny
		}
		if n.Transient {
			flags |= nodeTransient
		}
		b = putBytes(b, n.Node)
		b = putUint(b, n.Incarnation)
		b = putUint(b, flags)
	}
	if len(c.Groups) > 0 {
		b = putUint(b, uint64(len(c.Groups)))
	}
	for _, g := range c.Groups {
		b = putBytes(b, g.Name)
		b = putUint(b, uint64(len(g.Nodes)))
		for _, n := range g.Nodes {
			b = putBytes(b, n.Node)
			b = putUint(b, n.Incarnation)
			b = putUint(b, uint64(n.Members))
		}
	}
	return b
}

func decodeRouteFrame(b []byte) (routeFrame, error) {
	d := dec{b: b}
	f := routeFrame{Shard: uint32(d.uint()), Term: d.uint(), Incarnation: d.uint(), Index: d.uint()}
	flags := d.uint()
	f.Reset, f.Last = flags&routeReset != 0, flags&routeLast != 0
	n := d.count()
	f.Changes = make([]router.RouteChange, 0, min(n, dumpPartSize))
	for range n {
		c := d.routeChange()
		if d.bad {
			break
		}
		f.Changes = append(f.Changes, c)
	}
	return f, d.err()
}

func (d *dec) routeChange() router.RouteChange {
	c := router.RouteChange{Tenant: d.string(), Filter: d.string()}
	flags := d.uint()
	c.Durable = flags&changeDurable != 0
	for range d.count() {
		r := router.NodeRoute{Node: d.string(), Incarnation: d.uint()}
		flags := d.uint()
		r.Any, r.Transient = flags&nodeAny != 0, flags&nodeTransient != 0
		c.Nodes = append(c.Nodes, r)
	}
	if flags&changeGroups == 0 {
		return c
	}
	for range d.count() {
		g := router.ShareGroup{Name: d.string()}
		for range d.count() {
			g.Nodes = append(g.Nodes, router.ShareNode{Node: d.string(), Incarnation: d.uint(), Members: uint32(d.uint())})
		}
		c.Groups = append(c.Groups, g)
	}
	return c
}
