package envoy

import (
	"maps"
	"slices"

	"disc/discovery/view"
)

// deltaStream speaks of what has changed: each response has the clusters whose versions are
// others than what the client has.
type deltaStream struct {
	*stream
	names     map[string]bool
	all       bool              // all services, and the names
	requested bool              // there was a request
	versions  map[string]string // the version of each cluster that the client has or was sent
}

func newDeltaStream(c *stream) variant {
	return &deltaStream{stream: c, names: map[string]bool{}, versions: map[string]string{}}
}

func (d *deltaStream) newRequest() decoder { return &deltaRequest{} }

// handle takes over which clusters are asked for and which no longer. One that is
// asked for again is answered again.
func (d *deltaStream) handle(m decoder) error {
	r := m.(*deltaRequest)
	if ok, err := d.accepts(r.head); !ok {
		return err
	}
	d.recordNACK(r.head)
	subscribe, all := withoutWildcard(r.subscribe)
	d.all = d.all || all || !d.requested && len(subscribe) == 0
	for _, name := range subscribe {
		d.names[name] = true
		delete(d.versions, name)
	}
	unsubscribe, all := withoutWildcard(r.unsubscribe)
	d.all = d.all && !all
	for _, name := range unsubscribe {
		delete(d.names, name)
		delete(d.versions, name)
	}
	if !d.requested { // a client that connects again has something from before
		maps.Copy(d.versions, r.versions)
	}
	d.requested = true
	return checkClusterCount(len(d.names))
}

func (d *deltaStream) services() []string {
	return subscribedServices(slices.Collect(maps.Keys(d.names)), d.all, d.options.Domain)
}

func (d *deltaStream) nextResponse(s *view.Snapshot) (encoder, bool) {
	if !d.requested {
		return nil, false
	}
	clusters := clustersOf(s, slices.Collect(maps.Keys(d.names)), d.all)
	out := &deltaResponse{removed: d.removed(clusters)}
	for _, name := range clusters {
		now := version(s, []string{name}, d.options.Domain)
		if d.versions[name] != now {
			d.versions[name] = now
			out.resources = append(out.resources, resource{now, assignmentOf(s, name, d.options.Domain)})
		}
	}
	if len(out.resources) == 0 && len(out.removed) == 0 {
		return nil, false
	}
	out.nonce = d.nextNonce()
	return out, true
}

// removed returns the clusters that the client has and that there are no longer, sorted.
func (d *deltaStream) removed(clusters []string) []string {
	var gone []string
	for name := range d.versions {
		if _, ok := slices.BinarySearch(clusters, name); !ok {
			gone = append(gone, name)
			delete(d.versions, name)
		}
	}
	slices.Sort(gone)
	return gone
}
