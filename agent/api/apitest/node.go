package apitest

import (
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// node is a place in the document; the zero node is no place.
type node struct {
	root    any
	pointer string // RFC 6901, as a URL's fragment
	value   any
}

func (v *Validator) root(path ...string) node {
	return node{root: v.document, value: v.document}.get(path...)
}

func (n node) exists() bool { return n.value != nil }

// keys returns the members of an object, sorted.
func (n node) keys() []string {
	object, _ := n.value.(map[string]any)
	return slices.Sorted(maps.Keys(object))
}

// items returns the elements of an array.
func (n node) items() []node {
	list, _ := n.value.([]any)
	all := make([]node, len(list))
	for i := range list {
		all[i] = n.get(strconv.Itoa(i))
	}
	return all
}

// text returns the string at a path, or "".
func (n node) text(path ...string) string {
	s, _ := n.get(path...).value.(string)
	return s
}

// flag returns the boolean at a path, or false.
func (n node) flag(path ...string) bool {
	b, _ := n.get(path...).value.(bool)
	return b
}

// get returns the node at a path of members and indices, and resolves references on the way.
func (n node) get(path ...string) node {
	for _, name := range path {
		switch at := n.value.(type) {
		case map[string]any:
			n.value = at[name]
		case []any:
			i, err := strconv.Atoi(name)
			if err != nil || i < 0 || i >= len(at) {
				return node{}
			}
			n.value = at[i]
		default:
			return node{}
		}
		n.pointer += "/" + url.PathEscape(strings.NewReplacer("~", "~0", "/", "~1").Replace(name))
		if object, ok := n.value.(map[string]any); ok {
			if ref, ok := object["$ref"].(string); ok {
				n = n.resolve(ref)
			}
		}
	}
	return n
}

// resolve returns the node that a reference names.
func (n node) resolve(ref string) node {
	at := node{root: n.root, value: n.root}
	for part := range strings.SplitSeq(strings.TrimPrefix(ref, "#/"), "/") {
		at = at.get(strings.NewReplacer("~1", "/", "~0", "~").Replace(part))
	}
	return at
}
