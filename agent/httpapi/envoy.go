package httpapi

import (
	"net/http"
	"strconv"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/view"
)

// Envoy answers Envoy's requests for endpoints.
type Envoy interface {
	// Endpoints answers a DiscoveryRequest of Envoy's API, version 3, in JSON both.
	// unchanged, with no response, means that the caller has what it asks for.
	// ErrInvalid: it cannot be read, or asks for something else.
	Endpoints(s *view.Snapshot, request []byte) (response []byte, unchanged bool, err error)

	// Scopes returns the scopes of the view that the answer to a request lies in.
	Scopes(request []byte) []discovery.Scope
}

func (a *API) envoyRoutes() []route {
	return []route{{method: "POST", path: "/v3/discovery:endpoints", handle: a.discoverEndpoints}}
}

var errNoEnvoy = discovery.Errorf(discovery.ErrNotFound, "this agent does not answer Envoy")

// discoverEndpoints answers a REST subscription of Envoy's. At any status but 200 Envoy
// keeps what it has.
func (a *API) discoverEndpoints(w http.ResponseWriter, r request) error {
	if a.options.Envoy == nil {
		return errNoEnvoy
	}
	body, err := readBody(w, r)
	if err != nil {
		return err
	}
	view, err := a.viewOf(r, a.options.Envoy.Scopes(body)...)
	if err != nil {
		return err
	}
	response, unchanged, err := a.options.Envoy.Endpoints(view.Snapshot, body)
	if err != nil {
		return err
	}
	h := w.Header()
	a.setView(h, view, []string{strconv.FormatInt(view.Snapshot.ServicesIndex(), 10)})
	if unchanged {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	h.Set("Content-Type", api.TypeJSON)
	h.Set("Content-Length", strconv.Itoa(len(response)))
	_, err = w.Write(response)
	return err
}
