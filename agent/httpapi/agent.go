package httpapi

import (
	"net/http"
	"slices"

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

// hiddenReason takes the place of an error.
const hiddenReason = "the reason takes a token with scope status"

// withoutDetails returns s without what is for scope status: settings, where etcd is, files,
// errors, which name either, and the outputs of checks, which may have what a program prints. s
// is that of [withoutNulls], and is changed.
func withoutDetails(s api.Agent) api.Agent {
	s.Settings, s.Endpoints = []api.Setting{}, []string{}
	s.Session.Endpoint, s.Catalog.Endpoint = "", ""
	hide := func(reason *string) {
		if *reason != "" {
			*reason = hiddenReason
		}
	}
	hide(&s.Session.Error)
	hide(&s.Catalog.Error)
	hide(&s.Level.Error)
	for n := range s.Certificates {
		s.Certificates[n].File = ""
	}
	for n := range s.Registrations {
		r := &s.Registrations[n]
		hide(&r.Error)
		for k := range r.Checks {
			r.Checks[k].Output = ""
		}
	}
	return s
}

// withoutNulls returns s with lists of its own: empty ones in place of nil, which JSON has as null.
func withoutNulls(s api.Agent) api.Agent {
	s.Endpoints = append([]string{}, s.Endpoints...)
	s.Settings = append([]api.Setting{}, s.Settings...)
	s.Registrations = append([]api.Registration{}, s.Registrations...)
	s.Certificates = slices.Clone(s.Certificates)
	for n := range s.Registrations {
		r := &s.Registrations[n]
		r.Checks = append([]api.Check{}, r.Checks...)
	}
	return s
}
