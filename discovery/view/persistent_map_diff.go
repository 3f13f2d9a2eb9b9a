package view

// diff yields the keys whose values differ between two maps, sorted, and both values; the zero value
// stands for a key that a map lacks. It passes over the trees that the maps share: where one was made
// from the other by few changes, it visits some log n nodes for each.
func (t *persistentMap[T]) diff(other *persistentMap[T], yield func(key string, value, others T) bool) {
	var none T
	a, b := unvisited[T]{}.add(t, false), unvisited[T]{}.add(other, false)
	for len(a) > 0 || len(b) > 0 {
		x, y := a.first(), b.first()
		switch {
		case x == y: // nothing in it differs
			a, b = a.skip(), b.skip()
		case x.len() > 1 && x.len() >= y.len():
			a = a.split()
		case y.len() > 1:
			b = b.split()
		case len(b) == 0 || len(a) > 0 && x.tree.key < y.tree.key:
			if !yield(x.tree.key, x.tree.value, none) {
				return
			}
			a = a.skip()
		case len(a) == 0 || y.tree.key < x.tree.key:
			if !yield(y.tree.key, none, y.tree.value) {
				return
			}
			b = b.skip()
		default:
			if x.tree.value != y.tree.value && !yield(x.tree.key, x.tree.value, y.tree.value) {
				return
			}
			a, b = a.skip(), b.skip()
		}
	}
}

// unvisited is the part of a map that a walk in order has not visited. The last of it comes first.
type unvisited[T comparable] []subtree[T]

// subtree is a tree, or its root alone.
type subtree[T comparable] struct {
	tree *persistentMap[T]
	root bool
}

func (s subtree[T]) len() int {
	if s.root {
		return 1
	}
	return s.tree.len()
}

// add returns u with a tree, or its root alone, in front.
func (u unvisited[T]) add(t *persistentMap[T], root bool) unvisited[T] {
	if t == nil {
		return u
	}
	return append(u, subtree[T]{t, root || t.size == 1})
}

// first returns what comes first; the zero value if nothing is left.
func (u unvisited[T]) first() subtree[T] {
	if len(u) == 0 {
		return subtree[T]{}
	}
	return u[len(u)-1]
}

// skip returns u without what comes first.
func (u unvisited[T]) skip() unvisited[T] { return u[:len(u)-1] }

// split returns u with the tree that comes first split into its root and the sides.
func (u unvisited[T]) split() unvisited[T] {
	t := u.first().tree
	return u.skip().add(t.right, false).add(t, true).add(t.left, false)
}
