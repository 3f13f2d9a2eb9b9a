package httpapi

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"disc/agent/access"
)

// anySubject is the subject of a route that shows only later what it is for: the caller needs
// the scope for something, and the handler checks for what.
const anySubject = "*"

// subjectOf returns what a request is for, in the words of scopes; "" is everything.
func (rt *route) subjectOf(r *http.Request) string {
	switch rt.subject {
	case "", anySubject:
		return ""
	}
	return r.PathValue(rt.subject)
}

// reads reports whether a route changes nothing.
func (rt *route) reads() bool {
	switch rt.scope {
	case access.Open, access.Read, access.Status, access.KVRead:
		return true
	}
	return false
}

// edits reports whether a route changes registrations and settings, which the log has of every agent.
// Keys, locks and claims are only logged of one that tells callers apart: they are for programs.
func (rt *route) edits() bool {
	return rt.method != http.MethodGet && (rt.scope == access.Register || rt.scope == access.Operate)
}

// open reports whether each caller may do an action on a subject, without a token.
func (a *API) open(action access.Action, subject string) bool {
	p := a.options.Access.Policy()
	return p == nil || p.Allowed(action, subject)
}

// authorize returns the caller of a request, or the error that refuses it. It reads no body.
// Where everybody may read, it does not look at the token. It arranges for writes, and for
// what is refused, to be counted and logged when the answer starts, and where there is no policy
// for edits to be logged.
func (a *API) authorize(w http.ResponseWriter, r *http.Request, rt *route) (caller access.Caller, err error) {
	p := a.options.Access.Policy()
	rec, recorded := w.(*statusRecorder)
	if p == nil {
		if recorded && rt.edits() {
			rec.attempt = &attempt{api: a, request: r, route: rt, caller: access.Unrestricted, uncounted: true}
		}
		return access.Unrestricted, nil
	}
	subject := rt.subjectOf(r)
	switch {
	case rt.reads() && p.Allowed(rt.scope, subject):
		return p.Anonymous(), nil
	case rt.subject == anySubject:
		caller, err = p.AuthorizeSome(credentials(r), rt.scope)
	default:
		caller, err = p.Authorize(credentials(r), rt.scope, subject)
	}
	if recorded {
		rec.attempt = &attempt{api: a, request: r, route: rt, caller: caller, err: err}
	}
	return caller, err
}

// recheck returns an error if the caller of an open request may no longer make it. A request
// without a subject in its path is of everything.
func (a *API) recheck(r request) error {
	subject := r.route.subjectOf(r.Request)
	p := a.options.Access.Policy()
	if p == nil || p.Allowed(r.route.scope, subject) {
		return nil
	}
	_, err := p.Authorize(credentials(r.Request), r.route.scope, subject)
	return err
}

// mayUse returns an error unless the caller may do an action on all subjects; on everything if
// there are none.
func (r request) mayUse(action access.Action, subjects []string) error {
	if len(subjects) == 0 {
		return r.caller.Check(action, "")
	}
	for _, s := range subjects {
		if err := r.caller.Check(action, s); err != nil {
			return err
		}
	}
	return nil
}

// mayAlso reports whether the caller has a further scope than that of the route.
func (a *API) mayAlso(r request, action access.Action) bool {
	p := a.options.Access.Policy()
	if p == nil {
		return true
	}
	_, err := p.Authorize(credentials(r.Request), action, "")
	return err == nil
}

// credentials returns the bearer token (RFC 6750, section 2.1) and the verified certificate of
// a request. The handshake alone verifies, and its connection may outlast the certificate: one
// that has expired since is none.
func credentials(r *http.Request) (c access.Credentials) {
	if scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " "); strings.EqualFold(scheme, "Bearer") {
		c.Token = strings.TrimLeft(token, " ")
	}
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 && !time.Now().After(r.TLS.PeerCertificates[0].NotAfter) {
		c.Certificate = r.TLS.PeerCertificates[0]
	}
	return c
}

// challenge returns the WWW-Authenticate of a refused request (RFC 6750, section 3).
func challenge(e *access.DeniedError) string {
	c := `Bearer realm="disc"`
	switch {
	case e.UnknownToken:
		c += `, error="invalid_token"`
	case !e.Unauthenticated():
		c += fmt.Sprintf(`, error="insufficient_scope", scope=%q`, e.Action)
	}
	return c
}
