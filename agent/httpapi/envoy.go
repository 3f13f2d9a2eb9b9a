package httpapi

import (
	"net/http"

	"disc/agent/access"
	"disc/agent/api"
)

func (a *API) envoyRoutes() []route {
	return []route{{method: "POST", path: "/v3/discovery:endpoints", scope: access.Read, body: api.MaxBody, handle: a.discoverEndpoints}}
}

// discoverEndpoints answers a REST subscription of Envoy. At any status except 200 Envoy
// keeps the endpoints that it has.
func (a *API) discoverEndpoints(w http.ResponseWriter, r request) error {
	body, err := readBody(w, r)
	if err != nil {
		return err
	}
	view, err := a.ensuredView(r, a.backends.Envoy.Scopes(body)...)
	if err != nil {
		return err
	}
	if err := a.startWork(r); err != nil {
		return err
	}
	response, unchanged, err := a.backends.Envoy.Endpoints(view.Snapshot, body)
	if err != nil {
		return err
	}
	release, err := a.reserveAnswer(len(response))
	if err != nil {
		return err
	}
	defer release()
	answer := viewAnswer{
		viewHeader: a.headerOf(view, view.Snapshot.ServicesIndex()), notModified: unchanged,
		content: content{body: response, contentType: jsonType},
	}
	return answer.write(w)
}
