package router

// minEdges is the size of the first table; a power of two.
const minEdges = 8

// edges finds the literal children of all nodes of a trie: one open-addressing
// table for the whole trie costs 8 bytes per slot, where a map per node costs
// hundreds. The position of an edge is given by the top bits of its hash, so
// that doubling the table moves the edges in order.
type edges struct {
	slots []edge // length is zero or a power of two
	n     int
	shift uint8 // 32 - log2(len(slots))
}

type edge struct {
	hash uint32
	node uint32 // 0: empty, since the root is nobody's child
}

func (e *edges) home(hash uint32) int { return int(hash >> e.shift) }

func (e *edges) next(i int) int { return (i + 1) & (len(e.slots) - 1) }

// add puts in an edge that is not there.
func (e *edges) add(hash, node uint32) {
	if (e.n+1)*4 > len(e.slots)*3 {
		e.resize(max(minEdges, len(e.slots)*2))
	}
	e.n++
	e.place(edge{hash, node})
}

func (e *edges) place(x edge) {
	i := e.home(x.hash)
	for e.slots[i].node != 0 {
		i = e.next(i)
	}
	e.slots[i] = x
}

// replace puts node in the place of old, which is there with the same hash.
func (e *edges) replace(hash, old, node uint32) {
	e.slots[e.find(hash, old)].node = node
}

// remove takes an edge out that is there, and closes the gap.
func (e *edges) remove(hash, node uint32) {
	gap := e.find(hash, node)
	mask := len(e.slots) - 1
	for i := e.next(gap); e.slots[i].node != 0; i = e.next(i) {
		// The edge at i may move to the gap unless its home lies between them.
		if (i-e.home(e.slots[i].hash))&mask >= (i-gap)&mask {
			e.slots[gap] = e.slots[i]
			gap = i
		}
	}
	e.slots[gap] = edge{}
	e.n--
	if len(e.slots) > minEdges && e.n*8 < len(e.slots) {
		e.resize(len(e.slots) / 2)
	}
}

func (e *edges) find(hash, node uint32) int {
	i := e.home(hash)
	for e.slots[i].node != node {
		i = e.next(i)
	}
	return i
}

func (e *edges) resize(size int) {
	old := e.slots
	e.slots = make([]edge, size)
	e.shift = 32
	for s := size; s > 1; s /= 2 {
		e.shift--
	}
	for _, x := range old {
		if x.node != 0 {
			e.place(x)
		}
	}
}
