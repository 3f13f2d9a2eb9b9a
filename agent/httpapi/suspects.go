package httpapi

import (
	"errors"
	"net/http"
	"time"

	"disc/agent/access"
	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/view"
)

// defaultKeep is the time for which an order keeps a suspect that does not say.
const defaultKeep = time.Hour

func (a *API) suspectRoutes() []route {
	return []route{
		{method: "GET", path: "/v1/suspects", params: []string{"service"}, scope: access.Read, handle: a.suspects},
		{method: "PUT", path: "/v1/suspects/{service}/{id}", params: []string{"order", "for"}, scope: access.Operate, handle: a.orderSuspect},
	}
}

// suspects lists the suspects of the view. Each agent has its own: it may have seen the loss of
// others.
func (a *API) suspects(w http.ResponseWriter, r request) error {
	current, err := a.backends.Catalog.View()
	if err != nil {
		return err
	}
	list := []api.Suspect{}
	if r.query.Has("service") {
		name := r.query.Get("service")
		if err := discovery.ValidateService(name); err != nil {
			return err
		}
		if s, ok := current.Snapshot.Service(name); ok {
			list = a.addSuspects(list, s)
		}
	} else {
		for s := range current.Snapshot.Services() {
			list = a.addSuspects(list, s)
		}
	}
	return a.replyValue(w, http.StatusOK, api.SuspectList{Suspects: list})
}

// addSuspects adds the suspects of a service to a list.
func (a *API) addSuspects(list []api.Suspect, s *view.Service) []api.Suspect {
	for _, e := range s.Suspects() {
		one := api.Suspect{Service: e.Service, ID: e.ID, Node: e.Node, Address: e.Address, Port: e.Port, Zone: e.Zone}
		if order := a.backends.Suspects.Order(e.Service, e.ID); order.Order != "" {
			one.Order = &order
		}
		list = append(list, one)
	}
	return list
}

// orderSuspect writes an order on a suspect. It needs scope operate: the order is for all agents, and
// any process on the host can call.
func (a *API) orderSuspect(w http.ResponseWriter, r request) error {
	service, id := r.PathValue("service"), r.PathValue("id")
	if err := errors.Join(discovery.ValidateService(service), discovery.ValidateID(id)); err != nil {
		return err
	}
	order := discovery.SuspectOrder{Order: r.query.Get("order"), By: r.caller.Name}
	keep, err := keepTime(r, order)
	switch {
	case err != nil:
		return err
	case !r.caller.Allows(access.Operate, ""):
		return discovery.Errorf(discovery.ErrForbidden, "an order on a suspect is for all agents; give it with 'disc suspects', which speaks to etcd, or set http.tokens and send a token with scope operate")
	}
	current, err := a.backends.Catalog.View()
	if err != nil {
		return err
	}
	if missing, ok := current.Snapshot.Missing(service, id); !ok || !missing.Suspect {
		return discovery.Errorf(discovery.ErrNotFound, "%s/%s is no suspect in the view of this agent; see /v1/suspects", service, id)
	}
	given, err := a.backends.Suspects.Give(r.Context(), service, id, order, keep)
	if err != nil {
		return err
	}
	return a.replyValue(w, http.StatusOK, api.OrderedSuspect{Service: service, ID: id, SuspectOrder: given})
}

// keepTime returns the time of an order to keep. ErrInvalid: the order or the time is invalid.
func keepTime(r request, order discovery.SuspectOrder) (time.Duration, error) {
	if err := order.Validate(); err != nil {
		return 0, err
	}
	text := r.query.Get("for")
	switch {
	case !r.query.Has("for"):
		return defaultKeep, nil
	case order.Order == discovery.DropSuspect:
		return 0, invalid("for is for an order to keep; leave it out")
	}
	keep, err := time.ParseDuration(text)
	if err != nil {
		return 0, invalid("for %q is not a duration; give one such as 30m", text)
	}
	return keep, nil
}
