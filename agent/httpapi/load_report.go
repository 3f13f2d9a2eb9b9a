package httpapi

import (
	"net/http"

	"disc/agent/access"
	"disc/discovery"
)

func (a *API) loadRoutes() []route {
	return []route{{method: "PUT", path: instancePath + "/load", scope: access.Register, subject: "service", frequent: true, body: smallBody, handle: a.reportLoad}}
}

func (a *API) reportLoad(w http.ResponseWriter, r request) error {
	var load discovery.LoadReport
	if err := decodeBody(w, r, &load); err != nil {
		return err
	}
	if err := load.Validate(); err != nil {
		return err
	}
	if err := a.backends.Registrar.ReportLoad(r.Context(), r.PathValue("service"), r.PathValue("id"), load); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
