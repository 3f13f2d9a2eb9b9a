package dns

import (
	"slices"
	"strings"

	"disc/discovery/view"
)

// isEmptyNonTerminal reports whether a name without records exists because there are
// names below it (RFC 8020).
func (z *zone) isEmptyNonTerminal(s *view.Snapshot, labels []string) bool {
	name, ok := relativeName(labels)
	if !ok {
		return false
	}
	switch name {
	case "svc", "inst", "node", "addr":
		return true
	}
	switch labels[len(labels)-1] {
	case "inst":
		return isInstanceNonTerminal(s, labels[:len(labels)-1])
	case "node":
		return isNodeNonTerminal(s, strings.TrimSuffix(name, ".node"))
	}
	return isServiceNonTerminal(s, strings.TrimSuffix(name, ".svc"))
}

// isServiceNonTerminal reports whether a name is an empty non-terminal among the names of
// service types, such as _tcp.web.
func isServiceNonTerminal(s *view.Snapshot, name string) bool {
	switch name {
	case "_tcp", "_udp", "_dns-sd._udp":
		return true
	}
	proto, service, ok := strings.Cut(name, ".")
	return ok && (proto == "_tcp" || proto == "_udp") && hasService(s, service)
}

func hasService(s *view.Snapshot, service string) bool {
	_, ok := s.Service(service)
	return ok && !strings.Contains(service, ".")
}

// isInstanceNonTerminal reports whether labels are an empty non-terminal among the names of
// instances: web.inst or, where an id has dots, the end of the id.
func isInstanceNonTerminal(s *view.Snapshot, labels []string) bool {
	service, ok := s.Service(labels[len(labels)-1])
	if !ok || len(labels) == 1 {
		return ok
	}
	end := "." + strings.Join(labels[:len(labels)-1], ".")
	return slices.ContainsFunc(service.Entries(), func(e *view.Entry) bool { return hasSuffixFold(e.ID, end) })
}

// isNodeNonTerminal reports whether a name is the end of the name of a node that has dots.
func isNodeNonTerminal(s *view.Snapshot, name string) bool {
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
