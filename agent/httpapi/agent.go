package httpapi

import (
	"net/http"

	"disc/agent/api"
)

func (a *API) agentRoutes() []route {
	return []route{{method: "GET", path: "/v1/agent", handle: a.status}}
}

func (a *API) status(w http.ResponseWriter, r request) error {
	return a.replyWrite(w, r, http.StatusOK, 0, withoutNulls(a.backends.Agent.Status(r.Context())))
}

// withoutNulls returns s with empty lists in place of nil ones, which JSON has as null.
func withoutNulls(s api.Agent) api.Agent {
	s.Endpoints = append([]string{}, s.Endpoints...)
	s.Settings = append([]api.Setting{}, s.Settings...)
	s.Registrations = append([]api.Registration{}, s.Registrations...)
	for n := range s.Registrations {
		r := &s.Registrations[n]
		r.Checks = append([]api.Check{}, r.Checks...)
	}
	return s
}
