package router

// pageBits sets the size of a page: 1,024 values.
const (
	pageBits = 10
	pageSize = 1 << pageBits
)

// pool keeps values under small numbers, in pages that never move once they are
// full, so that growing copies at most one page. Number 0 is the first one given.
type pool[T any] struct {
	pages [][]T
	used  uint32   // numbers ever given; all below it are given or free
	free  []uint32 // given back; their values are zero
}

// at returns the value of a number that is given. The pointer is valid until the
// next take.
func (p *pool[T]) at(i uint32) *T { return &p.pages[i>>pageBits][i&(pageSize-1)] }

// take gives a number, whose value is zero.
func (p *pool[T]) take() uint32 {
	if n := len(p.free); n > 0 {
		i := p.free[n-1]
		p.free = p.free[:n-1]
		return i
	}
	i := p.used
	p.used++
	last := int(i >> pageBits)
	if last == len(p.pages) {
		var page []T
		if last > 0 { // the first page grows: most tries are small
			page = make([]T, 0, pageSize)
		}
		p.pages = append(p.pages, page)
	}
	var zero T
	p.pages[last] = append(p.pages[last], zero)
	return i
}

// give takes a number back.
func (p *pool[T]) give(i uint32) {
	var zero T
	*p.at(i) = zero
	p.free = append(p.free, i)
}
