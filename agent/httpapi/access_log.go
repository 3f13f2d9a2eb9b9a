package httpapi

import (
	"cmp"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"

	"golang.org/x/time/rate"

	"disc/agent/access"
)

// attempt is a request that is counted and logged by its caller.
type attempt struct {
	api     *API
	request *http.Request
	route   *route
	caller  access.Caller
	err     error  // why it is refused or fails; nil: it does not
	subject string // what it is for, where the path does not say it

	uncounted bool // there is no policy, so that nothing takes a scope
}

// maxLogged is the most bytes of a path or subject in the log.
const maxLogged = 256

// logSubject has the log name the keys that a write is for, where its path does not.
func logSubject(w http.ResponseWriter, keys []string) {
	if rec, ok := w.(*statusRecorder); ok && rec.attempt != nil {
		rec.attempt.subject = fmt.Sprintf("%.*s", maxLogged, fmt.Sprintf("%+q", keys))
	}
}

// log counts the attempt, and logs it as far as the log has room for its kind, unless it is one
// of many. It has no token, and of the path only ASCII.
func (t *attempt) log(status int) {
	refused := status == http.StatusUnauthorized || status == http.StatusForbidden
	if !t.uncounted {
		t.api.metrics.countCaller(t.caller, t.route.scope, !refused)
	}
	switch {
	case refused:
		if suppressed, ok := t.api.refusals.next(); ok {
			t.api.log.Warn("request refused", append(t.attributes(status), "not_logged", suppressed)...)
		}
	case !t.route.frequent && !t.route.reads():
		if suppressed, ok := t.api.writes.next(); ok {
			t.api.log.Info("write", append(t.attributes(status), "not_logged", suppressed)...)
		}
	}
}

func (t *attempt) attributes(status int) []any {
	all := []any{
		"caller", cmp.Or(ascii(t.caller.Name), "unknown"), "by", t.caller.By, "scope", t.route.scope.String(),
		"method", t.request.Method, "route", t.route.path, "path", fmt.Sprintf("%.*s", maxLogged, t.request.URL.EscapedPath()),
		"status", status, "remote", t.request.RemoteAddr,
	}
	if t.subject != "" {
		all = append(all, "keys", t.subject)
	}
	if t.err != nil {
		all = append(all, "error", t.err)
	}
	return all
}

// ascii returns a text with "?" in place of what is not visible ASCII: the name in a
// certificate may have anything.
func ascii(s string) string {
	return fmt.Sprintf("%.*s", maxLogged, strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s))
}

// logLimit limits how many requests of a kind are logged.
type logLimit struct {
	limit      *rate.Limiter
	suppressed *atomic.Int64
}

// The requests that are logged, in a second and at once.
func newRefusals() logLimit { return logLimit{rate.NewLimiter(1, 10), new(atomic.Int64)} }
func newWrites() logLimit   { return logLimit{rate.NewLimiter(20, 100), new(atomic.Int64)} }

// next reports whether a request is to be logged, and how many were not since the last that was.
func (l logLimit) next() (suppressed int64, ok bool) {
	if !l.limit.Allow() {
		l.suppressed.Add(1)
		return 0, false
	}
	return l.suppressed.Swap(0), true
}
