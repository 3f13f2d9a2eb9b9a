// Package httpapi is the agent's HTTP API: one file for each resource, with its routes
// on top. It answers from the agent's local view, and hands writes to the backends that
// speak to etcd; see [Backends].
//
//	a, err := httpapi.New(httpapi.Backends{Catalog: catalog, Registrar: registrar, …}, httpapi.Options{Zone: "a"})
//	err = a.Serve(ctx, httpapi.LimitListener(listener, httpapi.MaxConnections))
package httpapi

import (
	"cmp"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"disc/agent/access"
	"disc/agent/api"
	"disc/discovery/lookup"
)

// Options are the options of an API. The zero value is useful.
type Options struct {
	Domain string  // the DNS suffix that lookup names may have; default DefaultDomain
	Zone   string  // the zone of the agent, for ?prefer=zone
	Panic  float64 // the panic threshold of lookups, 0 to 1; default 0: none

	// AllowHosts are the names and addresses that the Host header may have, besides
	// loopback and the address at which the request came in.
	AllowHosts []string

	// Access has the policy of who may do what, for each request, so that a reload can
	// change it. Nil, or without a policy: callers are not told apart. All may read and
	// write, but overrides and broken locks are limited to what the agent has itself.
	Access *access.Authenticator

	// Explain turns an error of a call to etcd into one that the caller can act on,
	// before it is answered. It returns any other error unchanged. Nil: no error is.
	Explain func(error) error

	// Connections is how many connections each listener may have at once; see
	// [LimitListener]. It bounds how many requests may stay open. Default: MaxConnections.
	Connections int

	Page Page // for people, at "/"; nil: there is none

	Registerer prometheus.Registerer // gets the API's own metrics; default: a registry of its own
	Gatherer   prometheus.Gatherer   // answers /metrics; default: Registerer, if it is one
	Logger     *slog.Logger          // default: discards
}

// DefaultDomain is the default of [Options.Domain].
const DefaultDomain = "disc."

// API is the HTTP API, an http.Handler.
type API struct {
	backends Backends
	options  Options
	log      *slog.Logger

	routes      []route
	mux         *http.ServeMux
	hosts       map[string]bool
	crossOrigin *http.CrossOriginProtection
	metrics     *metrics
	lookupForms [2]*lookupForm            // JSON and text
	revision    atomic.Pointer[headerInt] // of the newest view
	timeouts    timeouts
	refusals    logLimit
	writes      logLimit

	reads, grants           *streamBound
	openBodies, writeBodies *bodyBudget   // of requests
	answers                 budget        // bytes of large answers that are being written
	working                 chan struct{} // has one element for each request that computes an answer
	asking                  chan struct{} // has one element for each explanation that asks etcd
	queued                  atomic.Int64  // requests that wait to compute one
	requests                atomic.Int64  // over HTTP/2
	extraHealth, refused    atomic.Int64  // of these, beyond the bound: for health, and others

	streamsEnded chan struct{} // closed when waits and streams are to end
	endStreams   sync.Once
}

// New returns an API. It fails without one of the backends, with an
// [discovery.ErrInvalid] for an option that is out of range, and for metrics that the
// registerer already has.
func New(b Backends, o Options) (*API, error) {
	if err := b.validate(); err != nil {
		return nil, fmt.Errorf("http api: %w", err)
	}
	q := lookup.Query{PanicThreshold: o.Panic}
	if err := q.Validate(); err != nil {
		return nil, fmt.Errorf("http api: %w", err)
	}
	o.Domain = cmp.Or(o.Domain, DefaultDomain)
	a := &API{
		backends: b, options: o,
		log:          cmp.Or(o.Logger, slog.New(slog.DiscardHandler)),
		mux:          http.NewServeMux(),
		hosts:        map[string]bool{},
		crossOrigin:  http.NewCrossOriginProtection(),
		lookupForms:  [2]*lookupForm{{contentType: jsonType}, {contentType: textType, text: true}},
		timeouts:     timeouts{keepalive: api.StreamKeepalive, body: bodyTime, write: writeTime, ownWrite: ownWriteTime, lag: lagTime},
		refusals:     newRefusals(),
		writes:       newWrites(),
		openBodies:   newBodyBudget(maxOpenBodies),
		writeBodies:  newBodyBudget(maxWriteBodies),
		answers:      budget{size: maxAnswers, freed: make(chan struct{}, 1)},
		working:      make(chan struct{}, max(minWorking, 2*runtime.GOMAXPROCS(0))),
		asking:       make(chan struct{}, whyAsking),
		streamsEnded: make(chan struct{}),
	}
	a.reads, a.grants = newStreamBounds(cmp.Or(o.Connections, MaxConnections))
	for _, host := range o.AllowHosts {
		a.hosts[strings.ToLower(hostname(host))] = true
	}
	if err := a.addMetrics(); err != nil {
		return nil, fmt.Errorf("http api: %w", err)
	}
	a.addRoutes()
	return a, nil
}

// timeouts are the intervals and time limits of an API.
type timeouts struct {
	keepalive time.Duration // between two keepalives on a stream
	body      time.Duration // for a body to come in
	write     time.Duration // for the caller to read what is written at once
	ownWrite  time.Duration // for the view to get a write of the caller
	lag       time.Duration // for the view to get to where the caller is
}

// EndStreams makes blocking queries answer, and ends watches and held registrations,
// both the open ones and later ones. It is the first step of a shutdown; see
// [API.NewServer].
func (a *API) EndStreams() { a.endStreams.Do(func() { close(a.streamsEnded) }) }

// route is one method of one path.
type route struct {
	method string
	path   string   // a pattern of http.ServeMux
	params []string // the query parameters it accepts; "meta.*" is each name with the prefix "meta."
	body   int64    // the most bytes of a body; 0: it takes none, and a body is not read
	handle handler

	scope    access.Action // what a caller needs, where callers are told apart
	subject  string        // the part of the path that the scope is for; "": the scope is for everything; anySubject
	frequent bool          // there are many a second, so that the log has only the refused ones
}

// request is a request whose query parameters are those of its route.
type request struct {
	*http.Request
	query  params
	route  *route
	caller access.Caller
	answer *statusRecorder
	body   *requestBody // nil: it has none
}

// handler answers a request, or returns the error to answer with.
type handler func(w http.ResponseWriter, r request) error

func (a *API) addRoutes() {
	a.routes = slices.Concat(
		a.lookupRoutes(), a.serviceRoutes(), a.instanceRoutes(), a.whyRoutes(), a.checkRoutes(), a.loadRoutes(), a.overrideRoutes(),
		a.watchRoutes(), a.historyRoutes(), a.nodeRoutes(), a.agentRoutes(), a.healthRoutes(), a.dohRoutes(), a.prometheusRoutes(),
		a.envoyRoutes(), a.kvRoutes(), a.lockRoutes(), a.claimRoutes(), a.limitRoutes(), a.quarantineRoutes(), a.suspectRoutes(), a.profileRoutes(), a.openAPIRoutes(),
	)
	for n := range a.routes {
		rt := &a.routes[n]
		a.mux.Handle(rt.method+" "+rt.path, a.handler(rt))
	}
	a.addPage()
	a.mux.Handle("/", a.serve("none", a.notFound))
}

// ServeHTTP answers a request. The plain lookup bypasses the mux: there are thousands of
// them a second.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor >= 2 {
		a.serveHTTP2(w, r)
		return
	}
	a.serveRequest(w, r)
}

func (a *API) serveRequest(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength != 0 {
		a.leaveBody(w, r)
	}
	if err := a.checkOrigin(r); err != nil {
		a.refuse(w, r, "refused", err)
		return
	}
	if a.servePlainLookup(w, r) {
		return
	}
	if err := checkKeyPath(r.URL.Path); err != nil {
		a.refuse(w, r, "refused", err)
		return
	}
	a.mux.ServeHTTP(w, r)
}

// refuse answers a request with an error, outside of its route.
func (a *API) refuse(w http.ResponseWriter, r *http.Request, route string, err error) {
	a.serve(route, func(http.ResponseWriter, *http.Request) error { return err }).ServeHTTP(w, r)
}

func (a *API) handler(rt *route) http.Handler {
	return a.serve(rt.method+" "+rt.path, func(w http.ResponseWriter, r *http.Request) error {
		query, err := parseParams(r.URL.RawQuery, rt.params)
		if err != nil {
			return err
		}
		caller, err := a.authorize(w, r, rt)
		if err != nil {
			return err
		}
		asked := request{Request: r, query: query, route: rt, caller: caller, answer: w.(*statusRecorder)}
		if r.ContentLength != 0 {
			asked.body = a.newBody(rt)
			defer asked.body.release()
			if rt.body == 0 {
				closeBody(r)
			}
		}
		return rt.handle(w, asked)
	})
}

// serve returns a handler that counts the answers of f, and answers the errors that it
// returns.
func (a *API) serve(route string, f func(http.ResponseWriter, *http.Request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := &statusRecorder{ResponseWriter: w, status: http.StatusOK}
		defer rec.endWork()
		err := f(rec, r)
		if err != nil {
			if rec.attempt != nil {
				rec.attempt.err = err
			}
			a.writeProblem(rec, r, err)
		}
		rec.start()
		a.metrics.count(route, rec.status)
	})
}

// statusRecorder records the status of an answer, and whether the answer has started.
type statusRecorder struct {
	http.ResponseWriter
	status  int
	started bool
	attempt *attempt      // to log when the answer starts; nil: not to be logged
	working chan struct{} // where it has a place, from [API.startWork]; nil: it has none

	admitted bool // it may stay open for long; see [API.admit]
}

// endWork frees the place that [API.startWork] took.
func (r *statusRecorder) endWork() {
	if r.working != nil {
		<-r.working
		r.working = nil
	}
}

func (r *statusRecorder) WriteHeader(status int) {
	r.status = status
	r.start()
	r.ResponseWriter.WriteHeader(status)
}

func (r *statusRecorder) Write(b []byte) (int, error) {
	r.start()
	return r.ResponseWriter.Write(b)
}

// start notes that the answer starts, with the status.
func (r *statusRecorder) start() {
	r.endWork()
	if !r.started && r.attempt != nil {
		r.attempt.log(r.status)
	}
	r.started = true
}

// FlushError sends what was written, and the header if nothing was.
func (r *statusRecorder) FlushError() error {
	r.start()
	return http.NewResponseController(r.ResponseWriter).Flush()
}

// Unwrap lets http.ResponseController reach the connection.
func (r *statusRecorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// notFound answers a request that no route matches: 405 where the path has other methods,
// otherwise 404.
func (a *API) notFound(w http.ResponseWriter, r *http.Request) error {
	var allow []string
	for _, method := range []string{"GET", "HEAD", "PUT", "PATCH", "POST", "DELETE"} {
		asked := &http.Request{Method: method, Host: r.Host, URL: r.URL}
		if _, pattern := a.mux.Handler(asked); pattern != "/" && r.URL.Path != "/" {
			allow = append(allow, method)
		}
	}
	if len(allow) == 0 {
		return unknownPath(r)
	}
	w.Header().Set("Allow", strings.Join(allow, ", "))
	return api.NewProblem(http.StatusMethodNotAllowed, fmt.Sprintf("%s does not accept %s; use %s", r.URL.Path, r.Method, strings.Join(allow, ", ")))
}

func unknownPath(r *http.Request) error {
	return api.NewProblem(http.StatusNotFound, fmt.Sprintf("path %s does not exist; see /openapi.json for those that do", r.URL.Path))
}
