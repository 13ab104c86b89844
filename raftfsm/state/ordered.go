package state

import "slices"

// ordered is a sorted list of items, cut into chunks so that inserting into a
// million of them moves little. It has no use for randomness or rebalancing, which
// keeps machines equal.
type ordered[T any] struct {
	cmp    func(a, b T) int
	chunks [][]T
	n      int
}

const orderedChunk = 256

func newOrdered[T any](cmp func(a, b T) int) *ordered[T] { return &ordered[T]{cmp: cmp} }

// chunkOf is the index of the chunk that item belongs to.
func (o *ordered[T]) chunkOf(item T) int {
	i, found := slices.BinarySearchFunc(o.chunks, item, func(c []T, it T) int { return o.cmp(c[0], it) })
	if !found && i > 0 {
		i--
	}
	return i
}

// insert adds an item that is not there yet.
func (o *ordered[T]) insert(item T) {
	o.n++
	if len(o.chunks) == 0 {
		o.chunks = append(o.chunks, append(make([]T, 0, 8), item))
		return
	}
	ci := o.chunkOf(item)
	c := o.chunks[ci]
	i, _ := slices.BinarySearchFunc(c, item, o.cmp)
	c = slices.Insert(c, i, item)
	if len(c) < 2*orderedChunk {
		o.chunks[ci] = c
		return
	}
	// Items that come in order fill chunks to the brim, others halve them.
	cut := len(c) / 2
	if i == len(c)-1 {
		cut = len(c) - 1
	}
	right := append(make([]T, 0, orderedChunk), c[cut:]...)
	clear(c[cut:])
	o.chunks[ci] = c[:cut]
	o.chunks = slices.Insert(o.chunks, ci+1, right)
}

// remove takes an item out, if it is there.
func (o *ordered[T]) remove(item T) {
	if len(o.chunks) == 0 {
		return
	}
	ci := o.chunkOf(item)
	i, found := slices.BinarySearchFunc(o.chunks[ci], item, o.cmp)
	if !found {
		return
	}
	o.n--
	o.chunks[ci] = slices.Delete(o.chunks[ci], i, i+1)
	if len(o.chunks[ci]) == 0 {
		o.chunks = slices.Delete(o.chunks, ci, ci+1)
	}
}

// ascend visits the items at or above the place that at finds (at answers the
// comparison of an item with the wanted place), in order, until fn answers false.
func (o *ordered[T]) ascend(at func(T) int, fn func(T) bool) {
	ci, _ := slices.BinarySearchFunc(o.chunks, struct{}{}, func(c []T, _ struct{}) int {
		if at(c[len(c)-1]) < 0 {
			return -1
		}
		return 1
	})
	if ci == len(o.chunks) {
		return
	}
	i, _ := slices.BinarySearchFunc(o.chunks[ci], struct{}{}, func(it T, _ struct{}) int {
		if at(it) < 0 {
			return -1
		}
		return 1
	})
	for ; ci < len(o.chunks); ci++ {
		for _, it := range o.chunks[ci][i:] {
			if !fn(it) {
				return
			}
		}
		i = 0
	}
}
