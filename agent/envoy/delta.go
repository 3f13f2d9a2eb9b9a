package envoy

import (
	"maps"
	"slices"

	"disc/discovery/view"
)

// delta speaks of what has changed: each response has the clusters whose versions are
// others than what the client has.
type delta struct {
	*client
	names map[string]bool
	all   bool              // all services, and the names
	asked bool              // there was a request
	has   map[string]string // the version of each cluster that the client has or was sent
}

func newDelta(c *client) variant {
	return &delta{client: c, names: map[string]bool{}, has: map[string]string{}}
}

func (d *delta) request() decoder { return &deltaRequest{} }

// receive takes over which clusters are asked for and which no longer. One that is
// asked for again is answered again.
func (d *delta) receive(m decoder) error {
	r := m.(*deltaRequest)
	if ok, err := d.served(r.head); !ok {
		return err
	}
	d.note(r.head)
	subscribe, all := withoutWildcard(r.subscribe)
	d.all = d.all || all || !d.asked && len(subscribe) == 0
	for _, name := range subscribe {
		d.names[name] = true
		delete(d.has, name)
	}
	unsubscribe, all := withoutWildcard(r.unsubscribe)
	d.all = d.all && !all
	for _, name := range unsubscribe {
		delete(d.names, name)
		delete(d.has, name)
	}
	if !d.asked { // a client that connects again has something from before
		maps.Copy(d.has, r.versions)
	}
	d.asked = true
	return tooMany(len(d.names))
}

func (d *delta) services() []string {
	return servicesOf(slices.Collect(maps.Keys(d.names)), d.all, d.options.Domain)
}

func (d *delta) due(s *view.Snapshot) (encoder, bool) {
	if !d.asked {
		return nil, false
	}
	clusters := wanted(s, slices.Collect(maps.Keys(d.names)), d.all)
	out := &deltaResponse{removed: d.gone(clusters)}
	for _, name := range clusters {
		now := version(s, []string{name}, d.options.Domain)
		if d.has[name] != now {
			d.has[name] = now
			out.resources = append(out.resources, resource{now, assignOne(s, name, d.options.Domain)})
		}
	}
	if len(out.resources) == 0 && len(out.removed) == 0 {
		return nil, false
	}
	out.nonce = d.next()
	return out, true
}

// gone returns the clusters that the client has and that there are no longer, sorted.
func (d *delta) gone(clusters []string) []string {
	var gone []string
	for name := range d.has {
		if _, ok := slices.BinarySearch(clusters, name); !ok {
			gone = append(gone, name)
			delete(d.has, name)
		}
	}
	slices.Sort(gone)
	return gone
}
