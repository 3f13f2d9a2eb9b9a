package httpapi

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"disc/agent/access"
	"disc/agent/api"
	"disc/discovery"
)

// The name is that of the service to claim from, or the id of a claim.
const claimRoute = "/v1/claims/{name}"

func (a *API) claimRoutes() []route {
	return []route{
		{method: "GET", path: "/v1/claims", params: []string{"service"}, scope: access.Read, handle: a.listClaims},
		{method: "POST", path: claimRoute, params: []string{"wait", "prefer", "hold"}, scope: access.Claim, subject: "name", body: smallBody, handle: a.claim},
		{method: "PUT", path: claimRoute, scope: access.Claim, subject: anySubject, frequent: true, handle: a.renewClaim},
		{method: "DELETE", path: claimRoute, scope: access.Claim, subject: anySubject, handle: a.releaseClaim},
	}
}

func (a *API) listClaims(w http.ResponseWriter, r request) error {
	if services := r.query.Values["service"]; len(services) > 1 {
		return invalid("query parameter \"service\" is given %d times; give it once", len(services))
	}
	list, err := a.backends.Claims.Held(r.Context(), r.query.Get("service"))
	if err != nil {
		return err
	}
	return a.replyValue(w, http.StatusOK, list)
}

func (a *API) claim(w http.ResponseWriter, r request) error {
	o, hold, err := claimOptions(w, r)
	if err != nil {
		return err
	}
	end, err := a.admitGrant(r, o.Wait > 0 || hold)
	if err != nil {
		return err
	}
	defer end()
	if o.Wait > 0 {
		defer a.metrics.streaming("wait")()
	}
	c, lost, err := a.backends.Claims.Claim(r.Context(), r.PathValue("name"), o)
	if err != nil {
		return err
	}
	release := func(ctx context.Context) { _, _ = a.backends.Claims.ReleaseClaim(ctx, c.ID) }
	return a.replyGranted(w, r, c.Fence, c, hold, lost, release)
}

func claimOptions(w http.ResponseWriter, r request) (o api.ClaimOptions, hold bool, err error) {
	if hold, err = r.query.flag("hold"); err != nil {
		return o, false, err
	}
	if o.Wait, err = r.query.duration("wait", 0, 0, api.MaxWait); err != nil {
		return o, false, err
	}
	switch prefer := r.query.Get("prefer"); {
	case prefer == "zone":
		o.PreferZone = true
	case r.query.Has("prefer"):
		return o, false, invalid("prefer %q is unknown; use zone", prefer)
	}
	o.TTL, err = claimTTL(w, r, hold)
	return o, hold, err
}

// claimTTL reads the TTL in the body, which may be empty.
func claimTTL(w http.ResponseWriter, r request, hold bool) (time.Duration, error) {
	b, err := readBody(w, r)
	if err != nil {
		return 0, err
	}
	var asked api.ClaimRequest
	if len(b) > 0 {
		if err := decodeStrict(b, &asked); err != nil {
			return 0, err
		}
	}
	switch {
	case hold && asked.TTL != nil:
		return 0, invalid("a claim has a ttl or is held by the open request; give one of ttl and hold")
	case hold:
		return 0, nil
	case asked.TTL == nil:
		return api.DefaultTTL, nil
	}
	const least, most = discovery.Duration(api.MinTTL), discovery.Duration(api.MaxTTL)
	if ttl := *asked.TTL; ttl < least || ttl > most {
		return 0, invalid("ttl %v is out of range; give a duration from %v to %v, such as 30s", ttl, least, most)
	}
	return time.Duration(*asked.TTL), nil
}

func (a *API) renewClaim(w http.ResponseWriter, r request) error {
	c, err := a.backends.Claims.RenewClaim(r.PathValue("name"))
	if err != nil {
		return err
	}
	return a.replyClaim(w, c)
}

func (a *API) releaseClaim(w http.ResponseWriter, r request) error {
	done, err := a.backends.Claims.ReleaseClaim(r.Context(), r.PathValue("name"))
	if err != nil {
		return err
	}
	return a.replyReleased(w, done)
}

func (a *API) replyClaim(w http.ResponseWriter, c api.Claim) error {
	w.Header().Set(api.HeaderFence, strconv.FormatInt(c.Fence, 10))
	return a.replyValue(w, http.StatusOK, c)
}
