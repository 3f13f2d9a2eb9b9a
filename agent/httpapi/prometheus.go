package httpapi

import (
	"net/http"
	"slices"

	"disc/agent/access"
	"disc/agent/api"
	"disc/discovery"
)

func (a *API) prometheusRoutes() []route {
	return []route{{method: "GET", path: "/v1/sd/prometheus",
		params: slices.Concat([]string{"service"}, selectParams, waitParams), scope: access.Read, handle: a.prometheus}}
}

// prometheus lists the targets for http_sd of Prometheus. Until there is a view it answers
// 503, so that Prometheus keeps the targets that it has; an empty list would drop them.
func (a *API) prometheus(w http.ResponseWriter, r request) error {
	selector, status, err := r.query.selection()
	if err != nil {
		return err
	}
	var scopes []discovery.Scope
	for _, service := range r.query.Values["service"] {
		scopes = append(scopes, scopeOf(service))
	}
	if len(scopes) == 0 {
		scopes = append(scopes, discovery.Scope{})
	}
	view, index, err := a.awaitView(r, servicesSubject, scopes...)
	if err != nil {
		return err
	}
	o := api.TargetOptions{Selector: selector, Services: r.query.Values["service"], Status: status}
	return a.reply(w, r, view, index, api.TargetGroups(view.Snapshot, o))
}
