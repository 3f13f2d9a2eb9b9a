package httpapi

import (
	"net/http"

	"disc/agent/access"
	"disc/agent/api"
)

func (a *API) agentRoutes() []route {
	return []route{{method: "GET", path: "/v1/agent", scope: access.Read, handle: a.status}}
}

func (a *API) status(w http.ResponseWriter, r request) error {
	s := withoutNulls(a.backends.Agent.Status(r.Context()))
	if !a.mayAlso(r, access.Status) {
		s = withoutDetails(s)
	}
	return a.replyWrite(w, r, http.StatusOK, 0, s)
}

// withoutDetails returns s without the settings and without the outputs of checks, which may
// have what a program prints. s may be changed.
func withoutDetails(s api.Agent) api.Agent {
	s.Settings = []api.Setting{}
	for _, r := range s.Registrations {
		for n := range r.Checks {
			r.Checks[n].Output = ""
		}
	}
	return s
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
