package httpapi

import (
	"net/http"
	"slices"

	"disc/agent/api"
	"disc/discovery"
)

func (a *API) serviceRoutes() []route {
	return []route{
		{method: "GET", path: "/v1/services", params: waitParams, handle: a.services},
		{method: "GET", path: "/v1/services/{service}", params: slices.Concat(selectParams, waitParams), handle: a.instances},
	}
}

// services lists the services that have instances; those of which only the memory is
// left are not shown.
func (a *API) services(w http.ResponseWriter, r request) error {
	view, index, err := a.view(r, allServices)
	if err != nil {
		return err
	}
	list := []api.Service{}
	for s := range view.Snapshot.Services() {
		if !s.Empty() {
			list = append(list, api.ServiceOf(s))
		}
	}
	return a.reply(w, r, view, index, list)
}

// instances lists a service's instances, whatever their status and state.
func (a *API) instances(w http.ResponseWriter, r request) error {
	selector, err := r.query.selector()
	if err != nil {
		return err
	}
	status, err := r.query.status()
	if err != nil {
		return err
	}
	name := r.PathValue("service")
	view, index, err := a.view(r, aService(name))
	if err != nil {
		return err
	}
	service, ok := view.Snapshot.Service(name)
	if !ok {
		return unknownService(name)
	}
	list := []*discovery.Entry{}
	for _, e := range service.Entries() {
		if selector.Match(e) == "" && (status == "" || e.Status == status) {
			list = append(list, e)
		}
	}
	return a.reply(w, r, view, index, list)
}

// status reads the status that listed instances are to have; "" and any are all.
func (p params) status() (discovery.Status, error) {
	s := discovery.Status(p.Get("status"))
	if s == "" || s == discovery.Status(discovery.StatusAny) {
		return "", nil
	}
	return s, s.Validate()
}

func unknownService(name string) error {
	return discovery.Errorf(discovery.ErrNotFound, "service %q is not known; see 'disc list'", name)
}
