package httpapi

import (
	"net/http"
	"slices"

	"disc/agent/access"
	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/lookup"
	"disc/discovery/view"
)

func (a *API) serviceRoutes() []route {
	return []route{
		{method: "GET", path: "/v1/services", params: waitParams, scope: access.Read, handle: a.services},
		{method: "GET", path: "/v1/services/{service}", params: slices.Concat(selectParams, waitParams), scope: access.Read, handle: a.instances},
	}
}

// services lists the services that have instances. Of a service that is not watched the
// list has only the name. A caller that waits for changes waits for those of any service,
// so that all are watched then.
func (a *API) services(w http.ResponseWriter, r request) error {
	var scopes []discovery.Scope
	if r.query.Has("index") {
		scopes = append(scopes, discovery.Scope{})
	}
	view, index, err := a.awaitView(r, servicesSubject, scopes...)
	if err != nil {
		return err
	}
	list := []api.Service{}
	if view.Partial {
		if list, err = a.servicesByName(r, view.Snapshot); err != nil {
			return err
		}
		return a.reply(w, r, view, index, list)
	}
	for s := range view.Snapshot.Services() {
		if !s.Empty() {
			list = append(list, api.ServiceOf(s))
		}
	}
	return a.reply(w, r, view, index, list)
}

// servicesByName lists the services whose names are in etcd.
func (a *API) servicesByName(r request, s *view.Snapshot) ([]api.Service, error) {
	r.answer.endWork() // while etcd is asked
	names, err := a.backends.Catalog.ServiceNames(r.Context())
	if err != nil {
		return nil, err
	}
	list := make([]api.Service, len(names))
	for n, name := range names {
		list[n] = api.Service{Service: name, Tags: discovery.Tags{}, Unwatched: true}
		if service, ok := s.Service(name); ok {
			list[n] = api.ServiceOf(service)
		}
	}
	return list, nil
}

// instances lists the instances of a service, in any status and state.
func (a *API) instances(w http.ResponseWriter, r request) error {
	selector, status, err := r.query.selection()
	if err != nil {
		return err
	}
	name := r.PathValue("service")
	current, index, err := a.awaitView(r, serviceSubject(name), scopeOf(name))
	if err != nil {
		return err
	}
	service, ok := current.Snapshot.Service(name)
	if !ok {
		return unknownService(name)
	}
	list := []*view.Entry{}
	for _, e := range service.Entries() {
		if selector.Match(e) == "" && (status == "" || e.Status == status) {
			list = append(list, e)
		}
	}
	return a.reply(w, r, current, index, list)
}

// selection reads the parameters that select the instances of a list. The status is empty
// for instances in any status.
func (p params) selection() (lookup.Selector, discovery.Status, error) {
	selector, err := p.selector()
	if err != nil {
		return lookup.Selector{}, "", err
	}
	status := discovery.Status(p.Get("status"))
	if status == "" || status == discovery.Status(discovery.StatusAny) {
		return selector, "", nil
	}
	return selector, status, status.Validate()
}

// scopeOf returns the scope of a service; of all with an empty name.
func scopeOf(service string) discovery.Scope {
	return discovery.Scope{Service: discovery.FoldName(service)}
}

func unknownService(name string) error {
	return discovery.Errorf(discovery.ErrNotFound, "service %q is not known; see 'disc list'", name)
}
