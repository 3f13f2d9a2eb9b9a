package httpapi

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"disc/agent/access"
	"disc/agent/api"
	"disc/discovery"
)

const instancePath = "/v1/services/{service}/instances/{id}"

func (a *API) instanceRoutes() []route {
	return []route{
		{method: "GET", path: instancePath, params: slices.Clone(waitParams), scope: access.Read, handle: a.instance},
		{method: "PUT", path: instancePath, params: []string{"hold"}, scope: access.Register, subject: "service", body: api.MaxBody, handle: a.register},
		{method: "DELETE", path: instancePath, params: []string{"force"}, scope: access.Register, subject: "service", handle: a.deregister},
	}
}

func (a *API) instance(w http.ResponseWriter, r request) error {
	name, id := r.PathValue("service"), r.PathValue("id")
	view, index, err := a.awaitView(r, serviceSubject(name), scopeOf(name))
	if err != nil {
		return err
	}
	service, ok := view.Snapshot.Service(name)
	if !ok {
		return unknownService(name)
	}
	e, ok := service.Entry(id)
	if !ok {
		return discovery.Errorf(discovery.ErrNotFound, "instance %q of service %q is not known; see 'disc list %s'", id, name, name)
	}
	return a.reply(w, r, view, index, e)
}

func (a *API) register(w http.ResponseWriter, r request) error {
	hold, err := r.query.flag("hold")
	if err != nil {
		return err
	}
	b, err := readBody(w, r)
	if err != nil {
		return err
	}
	reg, err := decodeRegistration(b, r.PathValue("service"), r.PathValue("id"))
	if err != nil {
		return err
	}
	if strings.Contains(reg.Service, ".") {
		w.Header().Set(api.HeaderWarning, "DNS cannot look up a service name with a dot; use HTTP")
	}
	if hold {
		return a.registerHeld(w, r, reg)
	}
	done, err := a.backends.Registrar.Register(r.Context(), reg)
	if err != nil {
		return err
	}
	return a.replyRegistered(w, r, done)
}

func (a *API) replyRegistered(w http.ResponseWriter, r request, done api.Registered) error {
	if done.Warning != "" {
		w.Header().Add(api.HeaderWarning, done.Warning)
	}
	return a.replyWrite(w, r, registeredStatus(done), done.Entry.Revision, done.Entry)
}

func registeredStatus(done api.Registered) int {
	switch {
	case !done.Written:
		return http.StatusAccepted
	case done.Created:
		return http.StatusCreated
	}
	return http.StatusOK
}

// decodeRegistration decodes a registration. service and id are those of the path; the
// body may repeat them.
func decodeRegistration(b []byte, service, id string) (discovery.Registration, error) {
	var reg discovery.Registration
	if err := decodeStrict(b, &reg); err != nil {
		return discovery.Registration{}, err
	}
	if reg.Service != "" && discovery.FoldName(reg.Service) != discovery.FoldName(service) {
		return discovery.Registration{}, invalid("service %q in the body differs from %q in the path; leave it out of the body", reg.Service, service)
	}
	if reg.ID != "" && reg.ID != id {
		return discovery.Registration{}, invalid("id %q in the body differs from %q in the path; leave it out of the body", reg.ID, id)
	}
	reg.ID = id
	if reg.Service == "" {
		reg.Service = service
	}
	return reg, errors.Join(discovery.ValidateService(reg.Service), discovery.ValidateID(reg.ID))
}

func (a *API) deregister(w http.ResponseWriter, r request) error {
	force, err := r.query.flag("force")
	if err != nil {
		return err
	}
	by, err := holderOf(r)
	if err != nil {
		return err
	}
	done, err := a.backends.Registrar.Deregister(r.Context(), r.PathValue("service"), r.PathValue("id"), by, force)
	if err != nil {
		return err
	}
	if done.Warning != "" {
		w.Header().Set(api.HeaderWarning, done.Warning)
	}
	status := http.StatusOK
	if !done.Written {
		status = http.StatusAccepted
	}
	return a.replyWrite(w, r, status, done.Revision, nil)
}
