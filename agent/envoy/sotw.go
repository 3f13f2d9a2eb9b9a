package envoy

import (
	"slices"

	"disc/discovery/view"
)

// sotwStream speaks of the state of the world: each response has all that is asked for.
type sotwStream struct {
	*stream
	names       []string // sorted
	all         bool     // all services, and the names
	requested   bool     // there was a request
	lastVersion string   // the version of the last response
}

func newSotwStream(c *stream) variant { return &sotwStream{stream: c} }

func (w *sotwStream) newRequest() decoder { return &request{} }

// handle takes over which clusters are asked for. A request that speaks of another
// than the last response is out of date: the client will speak again.
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

func (w *sotwStream) services() []string { return subscribedServices(w.names, w.all, w.options.Domain) }

// nextResponse returns what is asked for if that is another version than what was sent. So an
// acknowledgement is not answered, nor is a refusal until there is something new.
func (w *sotwStream) nextResponse(s *view.Snapshot) (encoder, bool) {
	if !w.all && len(w.names) == 0 {
		w.lastVersion = "" // whoever comes back to a cluster is answered
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

// withoutWildcard returns the names but for "*", and whether that was among them.
func withoutWildcard(names []string) (named []string, all bool) {
	named = slices.DeleteFunc(slices.Clone(names), func(name string) bool { return name == "*" })
	return named, len(named) < len(names)
}
