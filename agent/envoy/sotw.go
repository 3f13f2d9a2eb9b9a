package envoy

import (
	"slices"

	"disc/discovery/view"
)

// world speaks of the state of the world: each response has all that is asked for.
type world struct {
	*client
	names []string // sorted
	all   bool     // all services, and the names
	asked bool     // there was a request
	sent  string   // the version of the last response
}

func newWorld(c *client) variant { return &world{client: c} }

func (w *world) request() decoder { return &request{} }

// receive takes over which clusters are asked for. A request that speaks of another
// than the last response is out of date: the client will speak again.
func (w *world) receive(d decoder) error {
	r := d.(*request)
	if ok, err := w.served(r.head); !ok {
		return err
	}
	if !w.latest(r.head) {
		return nil
	}
	w.note(r.head)
	names, all := withoutWildcard(r.names)
	// No names at all means all services, until there were some.
	w.all = all || len(names) == 0 && (!w.asked || w.all && len(w.names) == 0)
	slices.Sort(names)
	w.names, w.asked = slices.Compact(names), true
	return tooMany(len(w.names))
}

func (w *world) services() []string { return servicesOf(w.names, w.all, w.options.Domain) }

// due returns what is asked for if that is another version than what was sent. So an
// acknowledgement is not answered, nor is a refusal until there is something new.
func (w *world) due(s *view.Snapshot) (encoder, bool) {
	if !w.all && len(w.names) == 0 {
		w.sent = "" // whoever comes back to a cluster is answered
		return nil, false
	}
	clusters := wanted(s, w.names, w.all)
	now := version(s, clusters, w.options.Domain)
	if now == w.sent {
		return nil, false
	}
	w.sent = now
	return &response{now, assign(s, clusters, w.options.Domain), w.next()}, true
}

// withoutWildcard returns the names but for "*", and whether that was among them.
func withoutWildcard(names []string) (named []string, all bool) {
	named = slices.DeleteFunc(slices.Clone(names), func(name string) bool { return name == "*" })
	return named, len(named) < len(names)
}
