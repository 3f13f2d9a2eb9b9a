package httpapi

import (
	"errors"
	"net/http"

	"disc/agent/access"
	"disc/agent/api"
	"disc/discovery"
)

func (a *API) overrideRoutes() []route {
	path := instancePath + "/override"
	return []route{
		{method: "PATCH", path: path, scope: access.Operate, body: api.MaxBody, handle: a.patchOverride},
		{method: "DELETE", path: path, scope: access.Operate, handle: a.deleteOverride},
	}
}

func (a *API) patchOverride(w http.ResponseWriter, r request) error {
	service, id, err := a.overridable(r)
	if err != nil {
		return err
	}
	patch, err := readBody(w, r)
	if err != nil {
		return err
	}
	if _, err := (discovery.Override{}).Patch(patch); err != nil {
		return err
	}
	o, revision, err := a.backends.Overrides.Patch(r.Context(), service, id, patch)
	if err != nil {
		return err
	}
	return a.replyWrite(w, r, http.StatusOK, revision, o)
}

func (a *API) deleteOverride(w http.ResponseWriter, r request) error {
	service, id, err := a.overridable(r)
	if err != nil {
		return err
	}
	revision, err := a.backends.Overrides.Delete(r.Context(), service, id)
	if err != nil {
		return err
	}
	return a.replyWrite(w, r, http.StatusOK, revision, nil)
}

// overridable returns the instance of the path, or an error if the caller may not override
// it. Where callers are not told apart, each may override the instances of this agent alone: any
// process on the host can call, and other instances are not the host's.
func (a *API) overridable(r request) (service, id string, err error) {
	service, id = r.PathValue("service"), r.PathValue("id")
	if err := errors.Join(discovery.ValidateService(service), discovery.ValidateID(id)); err != nil {
		return "", "", err
	}
	if !r.caller.Allows(access.Operate, "") && !a.backends.Registrar.Owns(service, id) {
		return "", "", discovery.Errorf(discovery.ErrForbidden,
			"%s/%s is not registered through this agent; override it with 'disc set', which speaks to etcd, or set http.tokens and send a token with scope operate", service, id)
	}
	return service, id, nil
}
