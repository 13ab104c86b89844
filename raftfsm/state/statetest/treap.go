package statetest

import (
	"bytes"
	"strconv"
)

// node is a node of an immutable treap: changes copy the path to the root.
// Priorities are hashes of the keys, so equal content has an equal shape.
type node struct {
	key, value  []byte
	prio        uint64
	left, right *node
	count       int
}

func (n *node) size() int {
	if n == nil {
		return 0
	}
	return n.count
}

func (n *node) with(left, right *node) *node {
	return &node{key: n.key, value: n.value, prio: n.prio, left: left, right: right, count: 1 + left.size() + right.size()}
}

// split parts a tree into the keys below and the keys at or above key.
func split(n *node, key []byte) (lo, hi *node) {
	if n == nil {
		return nil, nil
	}
	if bytes.Compare(n.key, key) < 0 {
		l, h := split(n.right, key)
		return n.with(n.left, l), h
	}
	l, h := split(n.left, key)
	return l, n.with(h, n.right)
}

// merge joins two trees; all keys of lo are below those of hi.
func merge(lo, hi *node) *node {
	switch {
	case lo == nil:
		return hi
	case hi == nil:
		return lo
	case lo.prio > hi.prio:
		return lo.with(lo.left, merge(lo.right, hi))
	default:
		return hi.with(merge(lo, hi.left), hi.right)
	}
}

// walk visits the keys in [lower, upper) in order until fn answers false.
func (n *node) walk(lower, upper []byte, fn func(*node) bool) bool {
	if n == nil {
		return true
	}
	above := bytes.Compare(n.key, lower) >= 0
	below := upper == nil || bytes.Compare(n.key, upper) < 0
	if above && !n.left.walk(lower, upper, fn) {
		return false
	}
	if above && below && !fn(n) {
		return false
	}
	if !below {
		return true
	}
	return n.right.walk(lower, upper, fn)
}

func quote(b []byte) string { return strconv.QuoteToASCII(string(b)) }
