package envoy

import (
	"maps"
	"slices"

	"disc/discovery/view"
)

// deltaStream speaks the incremental variant: each response has the clusters whose versions
// differ from those that the client has.
type deltaStream struct {
	*stream
	names     map[string]bool   // of clusters
	all       bool              // all services, besides names
	requested bool              // there was a request
	versions  map[string]string // of the clusters that the client has or was sent, by name
}

func newDeltaStream(s *stream) variant {
	return &deltaStream{stream: s, names: map[string]bool{}, versions: map[string]string{}}
}

func (d *deltaStream) newRequest() decoder { return &deltaRequest{} }

// handle subscribes to and unsubscribes from the clusters of a request. A cluster that is
// subscribed to again is answered again.
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
	if !d.requested { // a client that reconnects has clusters from before
		maps.Copy(d.versions, r.versions)
	}
	d.requested = true
	return checkClusterCount(len(d.names))
}

func (d *deltaStream) services() []string {
	return subscribedServices(slices.Sorted(maps.Keys(d.names)), d.all, d.options.Domain)
}

func (d *deltaStream) nameBytes() (names int, bytes int64) {
	for name := range d.names {
		bytes += int64(len(name))
	}
	for name, version := range d.versions {
		bytes += int64(len(name) + len(version))
	}
	return len(d.names) + len(d.versions), bytes
}

func (d *deltaStream) nextResponse(s *view.Snapshot) (encoder, bool) {
	if !d.requested {
		return nil, false
	}
	clusters := clustersOf(s, slices.Sorted(maps.Keys(d.names)), d.all)
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

// removed forgets and returns the clusters that the client has and that are not among
// clusters any more, sorted.
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
