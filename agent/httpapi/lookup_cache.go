package httpapi

import (
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"disc/discovery"
	"disc/discovery/lookup"
	"disc/discovery/view"
)

// The plain lookup, a service by its lower-case name without options, is answered
// from bytes that are made once for each revision of the service. They lie in the
// service's memo, and go with it.
const (
	orders      = 16      // so many differently shuffled bodies are made
	ordersBytes = 2 << 20 // or fewer, so that they do not take more than this
)

// prepared is one form of the plain lookup; its address is the memo's key.
type prepared struct {
	contentType []string
	text        bool
}

// answers are the prepared answers for one revision of a service.
type answers struct {
	etag, index []string
	bodies      []atomic.Pointer[body]
	firsts      []string // of each body, the id of the endpoint that comes first
}

type body struct {
	bytes  []byte
	length []string
}

// plainAnswer is what a plain lookup is answered with.
type plainAnswer struct {
	view    view.View
	service *view.Service
	form    *prepared
	*answers
	body *body // nil: the caller has it (304)
}

// plainAnswer answers a plain lookup from a view, or reports that it cannot: the name is
// not that of a service that is there.
func (a *API) plainAnswer(view view.View, name string, text bool, ifNoneMatch []string) (plainAnswer, bool) {
	if name != discovery.FoldName(name) {
		return plainAnswer{}, false
	}
	service, ok := view.Snapshot.Service(name)
	if !ok {
		return plainAnswer{}, false
	}
	form := a.plain[0]
	if text {
		form = a.plain[1]
	}
	ready := service.Memo(form, func() any { return a.prepare(view.Snapshot, service, form) }).(*answers)
	if matches(ifNoneMatch, ready.etag[0]) {
		return plainAnswer{view, service, form, ready, nil}, true
	}
	return plainAnswer{view, service, form, ready, a.pickBody(view.Snapshot, service, form, ready)}, true
}

// servePrepared answers a plain lookup over net/http, or reports that the request is none
// that it can answer.
func (a *API) servePrepared(w http.ResponseWriter, r *http.Request) bool {
	name, ok := strings.CutPrefix(r.URL.Path, lookupPath)
	if !ok || r.Method != "GET" || r.URL.RawQuery != "" || r.ContentLength != 0 {
		return false
	}
	view, err := a.catalog.View()
	if err != nil {
		return false
	}
	p, ok := a.plainAnswer(view, name, acceptsText(r.Header["Accept"]), r.Header["If-None-Match"])
	if !ok {
		return false
	}
	a.metrics.lookups.count(p.body == nil)
	_ = a.writePlain(w, p) // the caller may be gone
	return true
}

func (a *API) writePlain(w http.ResponseWriter, p plainAnswer) error {
	h := w.Header()
	a.setView(h, p.view, p.index)
	h["Etag"] = p.etag
	h["Vary"] = varyAccept
	if p.body == nil {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	h["Content-Type"] = p.form.contentType
	h["Content-Length"] = p.body.length
	_, err := w.Write(p.body.bytes)
	return err
}

// prepare makes all but the bodies, which are made when they are first picked.
func (a *API) prepare(s *view.Snapshot, service *view.Service, form *prepared) *answers {
	answer := a.plainLookup(s, service)
	c := must(contentOf(answer, form.text))
	n := min(orders, max(2, ordersBytes/(len(c.body)+1)))
	if len(answer.Endpoints) < 2 {
		n = 1
	}
	return &answers{
		etag:   []string{c.etag},
		index:  []string{strconv.FormatInt(service.Index(), 10)},
		bodies: make([]atomic.Pointer[body], n),
		firsts: firsts(answer.Endpoints, n, rand.Float64()),
	}
}

func (a *API) pickBody(s *view.Snapshot, service *view.Service, form *prepared, ready *answers) *body {
	n := 0
	if len(ready.bodies) > 1 {
		n = rand.IntN(len(ready.bodies))
	}
	if b := ready.bodies[n].Load(); b != nil {
		return b
	}
	answer := a.plainLookup(s, service)
	toFront(answer.Endpoints, ready.firsts[n])
	c := must(contentOf(answer, form.text))
	b := &body{c.body, []string{strconv.Itoa(len(c.body))}}
	ready.bodies[n].Store(b)
	return b
}

func (a *API) plainLookup(s *view.Snapshot, service *view.Service) lookup.Answer {
	return must(lookup.Lookup(s, lookup.Query{Name: discovery.FoldName(service.Name), Domain: a.options.Domain, Panic: a.options.Panic}))
}

// must is for what cannot fail: a lookup of a service that is there, with options
// that [New] has validated, and the encoding of its answer.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// firsts chooses which endpoint comes first in each of n answers, in proportion to
// the weights (systematic sampling from an offset of 0 to 1): among so few random
// orders, one endpoint might otherwise lead most for as long as nothing changes.
// Suspects lead only when there is nothing else.
func firsts(endpoints []discovery.Endpoint, n int, offset float64) []string {
	sorted := slices.SortedFunc(slices.Values(endpoints), func(a, b discovery.Endpoint) int { return strings.Compare(a.ID, b.ID) })
	if slices.ContainsFunc(sorted, func(e discovery.Endpoint) bool { return !e.Suspect }) {
		sorted = slices.DeleteFunc(sorted, func(e discovery.Endpoint) bool { return e.Suspect })
	}
	total := 0.0
	for _, e := range sorted {
		total += share(e)
	}
	chosen := make([]string, n)
	at, passed := 0, 0.0
	for k := range chosen {
		if len(sorted) == 0 {
			break
		}
		point := (float64(k) + offset) / float64(n) * total
		for at < len(sorted)-1 && passed+share(sorted[at]) <= point {
			passed += share(sorted[at])
			at++
		}
		chosen[k] = sorted[at].ID
	}
	return chosen
}

// share is an endpoint's part in the choice; endpoints of weight 0 are only answered
// among their like.
func share(e discovery.Endpoint) float64 { return max(float64(e.Weight), 1e-9) }

// toFront moves an endpoint to the front and leaves the order of the others, which
// remains a weighted shuffle of them.
func toFront(endpoints []discovery.Endpoint, id string) {
	n := slices.IndexFunc(endpoints, func(e discovery.Endpoint) bool { return e.ID == id })
	if n > 0 {
		first := endpoints[n]
		copy(endpoints[1:n+1], endpoints[:n])
		endpoints[0] = first
	}
}
