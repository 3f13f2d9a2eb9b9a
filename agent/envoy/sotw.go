package envoy

import (
	"slices"

	"disc/discovery/view"
)

// sotwStream speaks the state-of-the-world variant: each response has all clusters that
// were asked for.
type sotwStream struct {
	*stream
	names       []string // of clusters, sorted
	all         bool     // all services, besides names
	requested   bool     // there was a request
	lastVersion string   // of the last response
}

func newSotwStream(s *stream) variant { return &sotwStream{stream: s} }

func (w *sotwStream) newRequest() decoder { return &request{} }

// handle takes over the clusters of a request. It ignores one that refers to an earlier
// response than the last: the client will answer the last, too.
func (w *sotwStream) handle(d decoder) error {
	r := d.(*request)
	if ok, err := w.accepts(r.head); !ok {
		return err
	}
	if !w.isCurrent(r.head) {
		return nil
	}
	w.recordNACK(r.head)
	names, all := withoutWildcard(r.names)
	// No names at all means all services, until there were some.
	w.all = all || len(names) == 0 && (!w.requested || w.all && len(w.names) == 0)
	slices.Sort(names)
	w.names, w.requested = slices.Compact(names), true
	return checkClusterCount(len(w.names))
}

func (w *sotwStream) services() []string {
	return subscribedServices(w.names, w.all, w.options.Domain)
}

// nextResponse returns the clusters if their version differs from that of the last
// response. So it answers no acknowledgement, and a refusal only once something changes.
func (w *sotwStream) nextResponse(s *view.Snapshot) (encoder, bool) {
	if !w.all && len(w.names) == 0 {
		w.lastVersion = "" // a client that comes back to a cluster is answered
		return nil, false
	}
	clusters := clustersOf(s, w.names, w.all)
	now := version(s, clusters, w.options.Domain)
	if now == w.lastVersion {
		return nil, false
	}
	w.lastVersion = now
	return &response{now, assignmentsOf(s, clusters, w.options.Domain), w.nextNonce()}, true
}

func (w *sotwStream) nameBytes() (names int, bytes int64) {
	for _, name := range w.names {
		bytes += int64(len(name))
	}
	return len(w.names), bytes
}

// withoutWildcard returns the names except "*", and whether that was among them.
func withoutWildcard(names []string) (named []string, all bool) {
	named = slices.DeleteFunc(slices.Clone(names), func(name string) bool { return name == "*" })
	return named, len(named) < len(names)
}
