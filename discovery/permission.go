package discovery

import "strings"

// GrantToRead returns what a role of etcd must have permission to read so that its user may
// read the keys from one key up to another, which is not included; to is "" for the one key.
// It is the prefix of the namespace, since every agent reads all of it; that of all
// namespaces for keys of several; and the key itself for keys of other programs.
func GrantToRead(from, to string) string {
	namespace, _, ok := namespaceOf(from)
	switch {
	case ok && within(namespace, to):
		return namespace
	case strings.HasPrefix(from, root) && within(root, to):
		return root
	}
	return from
}

// GrantToWrite returns what a role of etcd must have permission to write so that its user may
// write or delete the keys from one key up to another: the least prefix of the layout, which
// ends in "/", or a single key.
func GrantToWrite(from, to string) string {
	namespace, rest, ok := namespaceOf(from)
	if !ok {
		return from
	}
	if grant := namespace + writtenTogether(rest); within(grant, to) {
		return grant
	}
	return GrantToRead(from, to)
}

// writtenTogether returns the part of a key, after its namespace, that all keys begin with
// which the same role writes. A role writes the records of some services, and so on: see the
// table in docs/production.md.
func writtenTogether(key string) string {
	part := strings.SplitN(key, "/", 4)
	depth := 1
	switch {
	case len(part) == 1 || part[0] == "settings":
		return key // epoch, base, quarantine, and the length of quarantines
	case part[0] == "services":
		depth = 3
	case part[0] == "nodes":
		depth = 2
	}
	if len(part) <= depth {
		return key
	}
	return strings.Join(part[:depth], "/") + "/"
}

// namespaceOf returns the prefix of a key's namespace, and the rest of the key.
func namespaceOf(key string) (prefix, rest string, ok bool) {
	below, ok := strings.CutPrefix(key, root)
	name, rest, found := strings.Cut(below, "/")
	if !ok || !found {
		return "", "", false
	}
	return root + name + "/", rest, true
}

// within reports whether the keys up to one, which is not included, all begin with prefix if
// the first does. "" is for a range of one key.
func within(prefix, to string) bool {
	end := prefix[:len(prefix)-1] + string(prefix[len(prefix)-1]+1)
	return to == "" || to != "\x00" && to <= end
}
