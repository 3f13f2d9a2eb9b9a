package httpapi

import (
	"cmp"
	"errors"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"disc/agent/access"
	"disc/discovery/telemetry"
)

// metrics are the metrics of an API.
type metrics struct {
	requests *prometheus.CounterVec
	streams  *prometheus.GaugeVec
	callers  *prometheus.CounterVec

	lookups, values routeCounters
}

// routeCounters count the answers 200 and 304 of a route. They save looking up the labels.
type routeCounters struct{ ok, unchanged prometheus.Counter }

func (c *routeCounters) count(unchanged bool) {
	if unchanged {
		c.unchanged.Inc()
	} else {
		c.ok.Inc()
	}
}

func (a *API) addMetrics() error {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "disc_http_requests_total",
			Help: "Answered requests of the HTTP API, by route and status.",
		}, []string{"route", "code"}),
		streams: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "disc_http_streams",
			Help: "Open blocking queries (wait), watches (watch) and held registrations (hold).",
		}, []string{"kind"}),
		callers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "disc_http_access_total",
			Help: "Requests that needed a scope which not everybody has, by token or client, scope and result (allowed, refused).",
		}, []string{"caller", "scope", "result"}),
	}
	m.lookups = m.routeCounters(lookupRoute)
	m.values = m.routeCounters("GET " + kvRoute)
	a.metrics = m
	o := &a.options
	if o.Registerer == nil {
		registry := prometheus.NewRegistry()
		o.Registerer = registry
		if o.Gatherer == nil {
			o.Gatherer = registry
		}
	}
	if o.Gatherer == nil {
		gatherer, ok := o.Registerer.(prometheus.Gatherer)
		if !ok {
			return errors.New("metrics: the registerer is not a gatherer; set Options.Gatherer")
		}
		o.Gatherer = gatherer
	}
	return telemetry.Register(o.Registerer, m.requests, m.streams, m.callers)
}

func (m *metrics) count(route string, status int) {
	m.requests.WithLabelValues(route, strconv.Itoa(status)).Inc()
}

// countCaller counts a request by its caller. The names are those of the policy, so that they
// are few.
func (m *metrics) countCaller(c access.Caller, scope access.Action, allowed bool) {
	name, result := cmp.Or(c.Entry, "unlisted"), "allowed"
	if c.Name == "" && c.By == "" {
		name = "unknown" // a token that is not known
	}
	if !allowed {
		result = "refused"
	}
	m.callers.WithLabelValues(name, scope.String(), result).Inc()
}

func (m *metrics) routeCounters(route string) routeCounters {
	return routeCounters{m.requests.WithLabelValues(route, "200"), m.requests.WithLabelValues(route, "304")}
}

// streaming counts an open request until the returned function is called.
func (m *metrics) streaming(kind string) func() {
	open := m.streams.WithLabelValues(kind)
	open.Inc()
	return open.Dec
}
