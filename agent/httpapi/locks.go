package httpapi

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"disc/agent/access"
	"disc/agent/api"
	"disc/discovery"
)

const lockRoute = "/v1/locks/{name}"

func (a *API) lockRoutes() []route {
	return []route{
		{method: "GET", path: "/v1/locks", scope: access.Read, handle: a.listLocks},
		{method: "GET", path: lockRoute, scope: access.Read, handle: a.lockQueue},
		{method: "POST", path: lockRoute, params: []string{"wait", "ttl", "shared", "hold"}, scope: access.Lock, subject: "name", body: smallBody, handle: a.lock},
		{method: "DELETE", path: lockRoute, params: []string{"force", "holder", "now"}, scope: access.Operate, handle: a.breakLock},
		{method: "PUT", path: lockRoute + "/{id}", scope: access.Lock, subject: "name", frequent: true, handle: a.renewLock},
		{method: "DELETE", path: lockRoute + "/{id}", scope: access.Lock, subject: "name", handle: a.unlock},
	}
}

func (a *API) listLocks(w http.ResponseWriter, r request) error {
	list, err := a.backends.Locks.Queues(r.Context())
	if err != nil {
		return err
	}
	return a.replyValue(w, http.StatusOK, list)
}

func (a *API) lockQueue(w http.ResponseWriter, r request) error {
	q, err := a.backends.Locks.Queue(r.Context(), r.PathValue("name"))
	if err != nil {
		return err
	}
	return a.replyValue(w, http.StatusOK, q)
}

func (a *API) lock(w http.ResponseWriter, r request) error {
	o, hold, err := a.lockOptions(w, r)
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
	l, lost, err := a.backends.Locks.Lock(r.Context(), r.PathValue("name"), o)
	if err != nil {
		return err
	}
	release := func(ctx context.Context) { _, _ = a.backends.Locks.Unlock(ctx, l.Name, l.ID) }
	return a.replyGranted(w, r, l.Fence, l, hold, lost, release)
}

func (a *API) lockOptions(w http.ResponseWriter, r request) (o api.LockOptions, hold bool, err error) {
	b, err := readBody(w, r)
	if err != nil {
		return o, false, err
	}
	if len(b) > 0 {
		return o, false, invalid("a lock takes no body; give wait, ttl, shared and hold in the query")
	}
	if hold, err = r.query.flag("hold"); err != nil {
		return o, false, err
	}
	if o.Wait, err = r.query.duration("wait", 0, 0, api.MaxLockWait); err != nil {
		return o, false, err
	}
	if o.Shared, err = number(r.query, "shared", strconv.Atoi, 1); err != nil {
		return o, false, err
	}
	switch {
	case o.Shared < 1:
		err = invalid("shared %d is out of range; use 1 or more: the number of holders at once", o.Shared)
	case hold && r.query.Has("ttl"):
		err = invalid("a lock has a ttl or is held by the open request; give one of ttl and hold")
	case !hold:
		o.TTL, err = r.query.duration("ttl", api.DefaultTTL, api.MinTTL, api.MaxTTL)
	}
	return o, hold, err
}

func (a *API) renewLock(w http.ResponseWriter, r request) error {
	l, err := a.backends.Locks.Renew(r.PathValue("name"), r.PathValue("id"))
	if err != nil {
		return err
	}
	return a.replyLock(w, l)
}

func (a *API) unlock(w http.ResponseWriter, r request) error {
	done, err := a.backends.Locks.Unlock(r.Context(), r.PathValue("name"), r.PathValue("id"))
	if err != nil {
		return err
	}
	return a.replyReleased(w, done)
}

// replyGranted answers with a lock or claim that was just granted. If hold is true, it keeps
// the answer open; see [API.keepHeld]. It calls release if the caller may no longer have the
// grant, or is gone before it has the answer, as far as that can be known: nobody else would
// release the grant before its TTL ends.
func (a *API) replyGranted(w http.ResponseWriter, r request, fence int64, grant any, hold bool, lost <-chan struct{}, release func(context.Context)) error {
	err := a.sendGranted(w, r, fence, grant, hold)
	switch {
	case err != nil:
		release(context.WithoutCancel(r.Context()))
		return err
	case hold:
		return a.keepHeld(w, r, lost, release)
	}
	return nil
}

// sendGranted sends a grant to its caller, and returns an error if the caller is gone.
func (a *API) sendGranted(w http.ResponseWriter, r request, fence int64, grant any, hold bool) error {
	if err := r.Context().Err(); err != nil {
		return err
	}
	if err := a.recheck(r); err != nil { // it may have waited for long
		return err
	}
	body, err := encode(grant)
	if err != nil {
		return err
	}
	a.extend(w) // the caller may have waited for long
	h := w.Header()
	h.Set(api.HeaderFence, strconv.FormatInt(fence, 10))
	h.Set("Content-Type", api.TypeJSON)
	if !hold {
		h.Set("Content-Length", strconv.Itoa(len(body)))
	}
	w.WriteHeader(http.StatusCreated)
	if _, err := w.Write(body); err != nil {
		return err
	}
	// A small answer is written only now. A caller that hangs up from here on may have read it.
	return http.NewResponseController(w).Flush()
}

// breakLock takes a lock away from its holder. Where callers are not told apart, each may break
// the locks of this agent alone, as with overrides: any process on the host can call.
func (a *API) breakLock(w http.ResponseWriter, r request) error {
	force, err := r.query.flag("force")
	if err != nil {
		return err
	}
	now, err := r.query.flag("now")
	switch {
	case err != nil:
		return err
	case !force:
		return invalid("to break a lock, give force; to release it, DELETE %s/{id}", r.URL.Path)
	}
	b, err := a.backends.Locks.Break(r.Context(), r.PathValue("name"), api.BreakOptions{Holder: r.query.Get("holder"), Now: now}, !r.caller.Allows(access.Operate, ""))
	if err != nil {
		return err
	}
	return a.replyValue(w, http.StatusOK, b)
}

func (a *API) replyLock(w http.ResponseWriter, l api.Lock) error {
	w.Header().Set(api.HeaderFence, strconv.FormatInt(l.Fence, 10))
	return a.replyValue(w, http.StatusOK, l)
}

// replyReleased answers that a lock or claim is released, or will be.
func (a *API) replyReleased(w http.ResponseWriter, done bool) error {
	if !done {
		w.WriteHeader(http.StatusAccepted)
		return nil
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// keepHeld keeps an answer open until the caller is gone, its lock or claim is lost, or the
// API ends. It calls release if the caller is gone, or may no longer have it; otherwise the
// caller releases the lock or claim.
func (a *API) keepHeld(w http.ResponseWriter, r request, lost <-chan struct{}, release func(context.Context)) (err error) {
	defer func() {
		if _, denied := errors.AsType[*access.DeniedError](err); denied || r.Context().Err() != nil {
			release(context.WithoutCancel(r.Context()))
		}
	}()
	defer a.metrics.streaming("hold")()
	return a.streamUntil(w, r, lost, errHoldLost)
}

var errHoldLost = discovery.Errorf(discovery.ErrLost, "the lock or claim is lost")

// duration parses a parameter that is a duration from least to most; it returns absent
// where there is none.
func (p params) duration(name string, absent, least, most time.Duration) (time.Duration, error) {
	if !p.Has(name) {
		return absent, nil
	}
	d, err := time.ParseDuration(p.Get(name))
	if err != nil || d < least || d > most {
		return 0, invalid("%s %q is out of range; give a duration from %v to %v, such as 30s", name, p.Get(name), discovery.Duration(least), discovery.Duration(most))
	}
	return d, nil
}
