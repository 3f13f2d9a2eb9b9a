package httpapi

import (
	"net/http"
	"time"

	"disc/agent/access"
	"disc/discovery"
)

func (a *API) quarantineRoutes() []route {
	const path = "/v1/quarantine"
	return []route{
		{method: "GET", path: path, scope: access.Read, handle: a.quarantine},
		{method: "PUT", path: path, params: []string{"length"}, scope: access.Operate, handle: a.setQuarantine},
	}
}

func (a *API) quarantine(w http.ResponseWriter, r request) error {
	q, err := a.backends.Quarantines.Get(r.Context())
	if err != nil {
		return err
	}
	return a.replyValue(w, http.StatusOK, q)
}

// setQuarantine sets the length of quarantines. It needs scope operate, as an override of an
// instance of another agent does: the length is that of the whole namespace, and any process on
// the host can call.
func (a *API) setQuarantine(w http.ResponseWriter, r request) error {
	length, err := time.ParseDuration(r.query.Get("length"))
	switch {
	case err != nil:
		return invalid("length %q is not a duration; give one such as 30s", r.query.Get("length"))
	case !r.caller.Allows(access.Operate, ""):
		return discovery.Errorf(discovery.ErrForbidden, "the length of quarantines is one for the whole namespace; to set it, set http.tokens and send a token with scope operate")
	}
	q, err := a.backends.Quarantines.SetLength(r.Context(), length)
	if err != nil {
		return err
	}
	return a.replyValue(w, http.StatusOK, q)
}
