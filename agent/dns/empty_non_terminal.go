package dns

import (
	"slices"
	"strings"

	"disc/discovery/view"
)

// between reports whether a name that has no records itself exists nevertheless,
// because there are names below it (an empty non-terminal, RFC 8020).
func (z *zone) between(s *view.Snapshot, labels []string) bool {
	name, ok := relative(labels)
	if !ok {
		return false
	}
	switch name {
	case "svc", "inst", "node", "addr":
		return true
	}
	switch labels[len(labels)-1] {
	case "inst":
		return betweenInstances(s, labels[:len(labels)-1])
	case "node":
		return betweenNodes(s, strings.TrimSuffix(name, ".node"))
	}
	return betweenServices(s, strings.TrimSuffix(name, ".svc"))
}

// betweenServices answers for the names that end those of service types.
func betweenServices(s *view.Snapshot, name string) bool {
	switch name {
	case "_tcp", "_udp", "_dns-sd._udp":
		return true
	}
	proto, service, ok := strings.Cut(name, ".")
	return ok && (proto == "_tcp" || proto == "_udp") && known(s, service)
}

func known(s *view.Snapshot, service string) bool {
	_, ok := s.Service(service)
	return ok && !strings.Contains(service, ".")
}

// betweenInstances answers for web.inst and, where an id has dots, for its end.
func betweenInstances(s *view.Snapshot, labels []string) bool {
	service, ok := s.Service(labels[len(labels)-1])
	if !ok || len(labels) == 1 {
		return ok
	}
	end := "." + strings.Join(labels[:len(labels)-1], ".")
	return slices.ContainsFunc(service.Entries(), func(e *view.Entry) bool { return hasSuffixFold(e.ID, end) })
}

// betweenNodes answers for the end of a node's name that has dots.
func betweenNodes(s *view.Snapshot, name string) bool {
	for n := range s.Nodes() {
		if hasSuffixFold(n.Node, "."+name) {
			return true
		}
	}
	return false
}

func hasSuffixFold(s, end string) bool {
	return len(s) > len(end) && strings.EqualFold(s[len(s)-len(end):], end)
}
