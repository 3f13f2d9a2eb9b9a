package view

import (
	"iter"
	"strings"
)

// tree is a sorted map that never changes: with and without return another, which shares
// with it all but the path to what they change. nil is the empty one. It is balanced by
// weight: neither side of a node is more than three times as large as the other.
type tree[T any] struct {
	key         string
	value       T
	left, right *tree[T]
	size        int
}

func (t *tree[T]) len() int {
	if t == nil {
		return 0
	}
	return t.size
}

// get compares with operators, not with strings.Compare, from which a key would escape.
func (t *tree[T]) get(key string) (value T, ok bool) {
	for t != nil {
		if key == t.key {
			return t.value, true
		}
		if key < t.key {
			t = t.left
		} else {
			t = t.right
		}
	}
	return value, false
}

// with returns the tree with a value in place of the one that the key had.
func (t *tree[T]) with(key string, value T) *tree[T] {
	if t == nil {
		return &tree[T]{key: key, value: value, size: 1}
	}
	switch c := strings.Compare(key, t.key); {
	case c < 0:
		return t.around(t.left.with(key, value), t.right)
	case c > 0:
		return t.around(t.left, t.right.with(key, value))
	}
	return &tree[T]{key: t.key, value: value, left: t.left, right: t.right, size: t.size}
}

// without returns the tree without a key.
func (t *tree[T]) without(key string) *tree[T] {
	if t == nil {
		return nil
	}
	switch c := strings.Compare(key, t.key); {
	case c < 0:
		return t.around(t.left.without(key), t.right)
	case c > 0:
		return t.around(t.left, t.right.without(key))
	case t.left == nil:
		return t.right
	case t.right == nil:
		return t.left
	}
	next := t.right
	for next.left != nil {
		next = next.left
	}
	return next.around(t.left, t.right.without(next.key))
}

// around returns a balanced tree of t's key between two others, which were balanced
// before one of them lost or got a key.
func (t *tree[T]) around(left, right *tree[T]) *tree[T] {
	switch l, r := left.len(), right.len(); {
	case l+r <= 1:
	case r > 3*l && right.left.len() < 2*right.right.len():
		return right.over(t.over(left, right.left), right.right)
	case r > 3*l:
		middle := right.left
		return middle.over(t.over(left, middle.left), right.over(middle.right, right.right))
	case l > 3*r && left.right.len() < 2*left.left.len():
		return left.over(left.left, t.over(left.right, right))
	case l > 3*r:
		middle := left.right
		return middle.over(left.over(left.left, middle.left), t.over(middle.right, right))
	}
	return t.over(left, right)
}

// over returns a tree of t's key between two others.
func (t *tree[T]) over(left, right *tree[T]) *tree[T] {
	return &tree[T]{key: t.key, value: t.value, left: left, right: right, size: left.len() + 1 + right.len()}
}

// all yields the keys and values, sorted by key.
func (t *tree[T]) all() iter.Seq2[string, T] { return t.prefixed("") }

// prefixed yields those whose keys begin with a prefix, sorted by key.
func (t *tree[T]) prefixed(prefix string) iter.Seq2[string, T] {
	return func(yield func(string, T) bool) {
		t.from(prefix, func(key string, value T) bool { return strings.HasPrefix(key, prefix) && yield(key, value) })
	}
}

// from yields all from a key on, and reports whether to go on.
func (t *tree[T]) from(key string, yield func(string, T) bool) bool {
	if t == nil {
		return true
	}
	if t.key >= key && !(t.left.from(key, yield) && yield(t.key, t.value)) {
		return false
	}
	return t.right.from(key, yield)
}

// values yields the values, sorted by key.
func (t *tree[T]) values() iter.Seq[T] {
	return func(yield func(T) bool) {
		t.from("", func(_ string, value T) bool { return yield(value) })
	}
}
