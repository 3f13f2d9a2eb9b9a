package httpapi

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/lookup"
	"disc/discovery/retry"
	"disc/discovery/view"
)

// isPrepared reports whether a lookup that is to be explained would get the prepared answer without
// that.
func isPrepared(p params, s *view.Snapshot, name string) bool {
	plain := params{maps.Clone(p.Values)}
	plain.Del("explain")
	_, known := s.Service(name)
	return known && name == discovery.FoldName(name) && isPlain(plain)
}

// explainUnknown returns the problem of a lookup that is to be explained and whose error is err. If
// the name is unknown, it has the nearest names, why those may not be all, and what answered.
func (a *API) explainUnknown(r request, v view.View, name string, err error) error {
	if !errors.Is(err, discovery.ErrNotFound) {
		return err
	}
	parsed, unparsed := discovery.ParseName(name, a.options.Domain)
	if unparsed != nil {
		return err
	}
	service, known := v.Snapshot.Service(parsed.Service)
	var what string
	var nearest []string
	var missing error
	switch {
	case parsed.Kind == discovery.NameNode:
		what = fmt.Sprintf("node %q", parsed.Node)
		nearest, missing = nearestNodes(v, parsed.Node)
	case known:
		what = fmt.Sprintf("instance %q of service %q", parsed.ID, parsed.Service)
		nearest = nearestInstances(service, parsed.ID)
	default:
		what = fmt.Sprintf("service %q", parsed.Service)
		var overloaded error
		if nearest, missing, overloaded = a.nearestServices(r, v.Snapshot, name, parsed.Service); overloaded != nil {
			return overloaded
		}
	}
	if missing == nil && v.Stale {
		missing = errors.New("the view is stale: what came since etcd last confirmed it is not in it")
	}
	p := api.NewProblem(http.StatusNotFound, err.Error())
	if len(nearest) > 0 {
		p.Detail = what + " is not known" + lookup.DidYouMean(nearest)
	}
	if missing != nil {
		p.NamesMissing = retry.PlainText(missing)
	}
	p.Nearest, p.Answered = nearest, lookup.AnsweredFrom(v, false)
	return p
}

// nearestServices returns the services whose names are nearest to one that is not known, and why the
// list of names may lack some. The lookup may have named a service with a dot.
func (a *API) nearestServices(r request, s *view.Snapshot, asked, service string) (nearest []string, missing, err error) {
	r.answer.endWork() // while etcd is asked
	names, missing := a.backends.Catalog.ServiceNames(r.Context())
	if missing != nil {
		for service := range s.Services() {
			if !service.Empty() {
				names = append(names, discovery.FoldName(service.Name))
			}
		}
	} else {
		missing = a.backends.Catalog.NamesMissing()
	}
	if err := a.startWork(r); err != nil {
		return nil, nil, err
	}
	typed := []string{discovery.FoldName(service), discovery.FoldName(asked)}
	for _, t := range slices.Compact(typed) {
		for _, name := range lookup.Nearest(t, names) {
			// Etcd may have something of a service that is not known, such as load reports.
			if len(nearest) < lookup.MaxNearest && !slices.Contains(nearest, name) && !slices.Contains(typed, name) {
				nearest = append(nearest, name)
			}
		}
	}
	return nearest, missing, nil
}

// nearestInstances returns the instances of a service whose ids are nearest to one that it does not
// have, in the form of a lookup.
func nearestInstances(service *view.Service, id string) []string {
	var ids []string
	for _, e := range service.Entries() {
		ids = append(ids, e.ID)
	}
	nearest := lookup.Nearest(id, ids)
	for n, id := range nearest {
		nearest[n] = id + "." + discovery.FoldName(service.Name) + ".inst"
	}
	return nearest
}

// nearestNodes returns the nodes of a view whose names are nearest to one that is not known, in the
// form of a lookup, and why the view may lack some.
func nearestNodes(v view.View, node string) (nearest []string, missing error) {
	var names []string
	for n := range v.Snapshot.Nodes() {
		if n.Address != "" { // without one it cannot be looked up
			names = append(names, n.Node)
		}
	}
	nearest = lookup.Nearest(node, names)
	for n, name := range nearest {
		nearest[n] = name + ".node"
	}
	if v.Partial {
		missing = errors.New("this agent watches only the nodes that were asked for")
	}
	return nearest, missing
}
