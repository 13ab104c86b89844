package router

import "hash/maphash"

// stackFrames is how many branches a match can have open without allocating:
// one per level of the deepest topic that the default limits allow, and one.
const stackFrames = 130

// frame is a node that is reached, with the rest of the topic.
type frame struct {
	node uint32
	pos  uint32 // start of the next level; above the length of the topic: none is left
}

// Match calls fn for every pair at every filter that matches topic, in no
// particular order. A topic that starts with $ is matched only by filters that
// start with the same level. v5:MQTT-4.7.2-1
//
// It is iterative. It visits a node at most once, so its work is bounded by the
// number of filters whatever they look like, and it has at most one open branch
// per level of the topic. It allocates nothing for topics of up to 129 levels.
// fn must not change the trie.
func (t *Trie[V]) Match(topic []byte, fn func(key uint64, v V)) {
	t.match(topic, func(_, set uint32, _ bool) { t.each(set, fn) })
}

// match calls fn for every non-empty set that matches topic, with its node and
// whether it stands for the filter that goes on with #.
func (t *Trie[V]) match(topic []byte, fn func(n, set uint32, multi bool)) {
	var buf [stackFrames]frame
	stack := append(buf[:0], frame{})
	dollar := len(topic) > 0 && topic[0] == '$'
	for len(stack) > 0 {
		f := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		nd := t.nodes.at(f.node)
		wild := f.node != root || !dollar
		if nd.multi != 0 && wild {
			fn(f.node, nd.multi, true)
		}
		pos := int(f.pos)
		if pos > len(topic) {
			if nd.set != 0 {
				fn(f.node, nd.set, false)
			}
			continue
		}
		if nd.kids == 0 {
			continue
		}
		end := levelEnd(topic, pos)
		if nd.plus != 0 && wild {
			if next := t.follow(nd.plus, 1, topic, end); next >= 0 {
				stack = append(stack, frame{nd.plus, uint32(next)})
			}
		}
		if nd.plus != 0 && nd.kids == 1 {
			continue
		}
		level := topic[pos:end]
		if c := lookup(t, f.node, level, mix(f.node, maphash.Bytes(t.seed, level))); c != 0 {
			if next := t.follow(c, len(level), topic, end); next >= 0 {
				stack = append(stack, frame{c, uint32(next)})
			}
		}
	}
}

// follow matches the label of n behind its first level, which ends at i in the
// label and at pos in the topic. It returns where the next level starts in the
// topic, above its length if none is left, or -1.
func (t *Trie[V]) follow(n uint32, i int, topic []byte, pos int) int {
	label := t.label(n)
	for ; i < len(label); i++ {
		c := label[i]
		switch {
		case c == '+' && label[i-1] == '/' && (i+1 == len(label) || label[i+1] == '/'):
			pos = levelEnd(topic, pos)
		case pos < len(topic) && topic[pos] == c:
			pos++
		default:
			return -1
		}
	}
	if pos < len(topic) && topic[pos] != '/' {
		return -1
	}
	return pos + 1
}
