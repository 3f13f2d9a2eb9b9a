package httpapi

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"disc/agent/access"
	"disc/agent/api"
)

// maxScrapes is how many answers of /metrics are made and sent at once. More are answered 503.
const maxScrapes = 16

func (a *API) healthRoutes() []route {
	metrics := promhttp.HandlerFor(a.options.Gatherer, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(a.log.Handler(), slog.LevelWarn),
		MaxRequestsInFlight: maxScrapes,
	})
	return []route{
		{method: "GET", path: "/healthz", scope: access.Open, handle: a.healthz},
		{method: "GET", path: "/readyz", scope: access.Open, handle: a.readyz(true, true)},
		{method: "GET", path: "/readyz/lookup", scope: access.Open, handle: a.readyz(true, false)},
		{method: "GET", path: "/readyz/registered", scope: access.Open, handle: a.readyz(false, true)},
		{method: "GET", path: "/metrics", scope: access.Read, handle: func(w http.ResponseWriter, r request) error {
			metrics.ServeHTTP(w, r.Request)
			return nil
		}},
	}
}

// healthz answers 503 if only a restart helps the agent.
func (a *API) healthz(w http.ResponseWriter, _ request) error {
	if err := a.backends.Agent.Alive(); err != nil {
		return api.NewProblem(http.StatusServiceUnavailable, err.Error())
	}
	return ok(w)
}

// readyz answers 503 if the agent cannot answer lookups, or if registrations are missing in
// etcd; lookup and registered choose which of the two count. Who may read learns why.
func (a *API) readyz(lookup, registered bool) handler {
	return func(w http.ResponseWriter, r request) error {
		noView, notWritten := a.backends.Agent.Ready()
		if (noView != nil || notWritten != nil) && !a.mayAlso(r, access.Read) {
			noView, notWritten = shortened(noView, errNoView), shortened(notWritten, errNotWritten)
		}
		var errs []error
		if lookup && noView != nil {
			errs = append(errs, fmt.Errorf("lookup: %w", noView))
		}
		if registered && notWritten != nil {
			errs = append(errs, fmt.Errorf("registered: %w", notWritten))
		}
		if len(errs) > 0 {
			return api.NewProblem(http.StatusServiceUnavailable, errors.Join(errs...).Error())
		}
		return ok(w)
	}
}

var (
	errNoView     = errors.New("not ready; the reason takes a token with scope read")
	errNotWritten = errors.New("an instance is missing in etcd or not saved; which one and why takes a token with scope read")
)

// shortened returns short in place of an error; nil: there is none.
func shortened(err, short error) error {
	if err == nil {
		return nil
	}
	return short
}

func ok(w http.ResponseWriter) error {
	w.Header().Set("Content-Type", api.TypeText)
	_, err := io.WriteString(w, "ok\n")
	return err
}
