package httpapi

import (
	"net/http"

	"disc/agent/access"
	"disc/agent/api"
)

func (a *API) checkRoutes() []route {
	return []route{{method: "PUT", path: instancePath + "/checks/{check}", scope: access.Register, subject: "service", frequent: true, body: api.MaxBody, handle: a.report}}
}

func (a *API) report(w http.ResponseWriter, r request) error {
	var report api.CheckReport
	if err := decodeBody(w, r, &report); err != nil {
		return err
	}
	if err := report.Status.Validate(); err != nil {
		return err
	}
	err := a.backends.Registrar.Report(r.Context(), r.PathValue("service"), r.PathValue("id"), r.PathValue("check"), report)
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
