package httpapi

import (
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"disc/agent/access"
	"disc/agent/answercache"
	"disc/discovery"
	"disc/discovery/lookup"
	"disc/discovery/view"
)

// The plain lookup asks for a service by its lower-case name, without options. Its
// bodies are encoded once for each revision of the service, in several random orders.
// They lie in the service's memo and go with it.
const maxCacheBytes = 2 << 20 // of all orders of an answer

// lookupForm is a form of the plain lookup. Its address is the key in services' memos.
type lookupForm struct {
	contentType []string
	text        bool
}

// cachedLookup is the answer to the plain lookup of one revision of a service. One caller at a
// time makes a part of it, for all; what is made is read without a lock.
type cachedLookup struct {
	making sync.Mutex
	made   atomic.Bool // all but the bodies
	etag   headerText
	index  headerInt
	bodies *answercache.Orders[content]
	first  []string // of each order, the id of the endpoint that comes first
}

// plainLookup fills in the answer to a plain lookup from a view. It returns false where
// the name is not that of a service in the view.
func (a *API) plainLookup(answer *viewAnswer, v view.View, name string, text bool, ifNoneMatch []string) bool {
	if name != discovery.FoldName(name) {
		return false
	}
	service, ok := v.Snapshot.Service(name)
	if !ok {
		return false
	}
	form := a.lookupForms[0]
	if text {
		form = a.lookupForms[1]
	}
	cached := service.Memo(form, newCachedLookup).(*cachedLookup)
	if !cached.made.Load() {
		a.makeCachedLookup(v.Snapshot, service, form, cached)
	}
	a.describe(v, &answer.viewHeader)
	answer.index, answer.etag, answer.varies = cached.index, cached.etag, true
	answer.notModified = matches(ifNoneMatch, cached.etag.text)
	if !answer.notModified {
		answer.content = *a.pickBody(v.Snapshot, service, form, cached)
	}
	return true
}

// servePlainLookup answers a plain lookup over net/http. It returns false for a request
// that it cannot answer.
func (a *API) servePlainLookup(w http.ResponseWriter, r *http.Request) bool {
	name, ok := strings.CutPrefix(r.URL.Path, lookupPath)
	if !ok || !a.open(access.Read, "") || r.Method != "GET" || r.URL.RawQuery != "" || r.ContentLength != 0 {
		return false
	}
	view, err := a.backends.Catalog.View()
	if err != nil {
		return false
	}
	var answer viewAnswer
	if !a.plainLookup(&answer, view, name, acceptsText(r.Header["Accept"]), r.Header["If-None-Match"]) {
		return false
	}
	release, err := a.reserveShared(answer.room, len(answer.body))
	if err != nil {
		a.refuse(w, r, lookupRoute, err)
		return true
	}
	defer release()
	a.metrics.lookups.count(answer.notModified)
	_ = answer.write(w) // the caller may be gone
	return true
}

func newCachedLookup() any { return &cachedLookup{} }

// makeCachedLookup makes all but the bodies, unless another caller did. Each body is made when
// it is first picked.
func (a *API) makeCachedLookup(s *view.Snapshot, service *view.Service, form *lookupForm, cached *cachedLookup) {
	cached.making.Lock()
	defer cached.making.Unlock()
	if cached.made.Load() {
		return
	}
	answer := a.lookupAll(s, service)
	size := len(must(encodeAnswer(answer, form.text)))
	bodies := answercache.New[content](answercache.Count(len(answer.Endpoints), size, maxCacheBytes))
	etag := must(etagOf(answer, form.text))
	cached.etag = headerText{etag, []string{etag}}
	cached.index = newHeaderInt(service.Index())
	cached.bodies = bodies
	cached.first = firstEndpoints(answer.Endpoints, bodies.Len(), rand.Float64())
	cached.made.Store(true)
}

// pickBody returns the body of a random order.
func (a *API) pickBody(s *view.Snapshot, service *view.Service, form *lookupForm, cached *cachedLookup) *content {
	n := 0
	if cached.bodies.Len() > 1 {
		n = rand.IntN(cached.bodies.Len())
	}
	if c := cached.bodies.Load(uint32(n)); c != nil {
		return c
	}
	cached.making.Lock()
	defer cached.making.Unlock()
	if c := cached.bodies.Load(uint32(n)); c != nil {
		return c
	}
	answer := a.lookupAll(s, service)
	moveToFront(answer.Endpoints, cached.first[n])
	body := must(encodeAnswer(answer, form.text))
	c := &content{body: body, contentType: form.contentType, length: newHeaderInt(int64(len(body))).value, room: &sharedRoom{}}
	cached.bodies.Store(uint32(n), c)
	return c
}

// lookupAll looks up all endpoints of a service, in a new random order.
func (a *API) lookupAll(s *view.Snapshot, service *view.Service) lookup.Answer {
	return must(lookup.Lookup(s, lookup.Query{Name: discovery.FoldName(service.Name), Domain: a.options.Domain, PanicThreshold: a.options.Panic}))
}

// must is for calls that cannot fail: a lookup of a service that is in the view, with
// options that [New] has validated, and the encoding of its answer.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// firstEndpoints chooses the endpoint that comes first in each of n orders, in
// proportion to the weights, by systematic sampling from an offset of 0 to 1. Among so
// few random orders one endpoint could otherwise come first in most of them, for as
// long as nothing changes. Suspects come first only where there is nothing else.
func firstEndpoints(endpoints []discovery.Endpoint, n int, offset float64) []string {
	sorted := slices.SortedFunc(slices.Values(endpoints), func(a, b discovery.Endpoint) int { return strings.Compare(a.ID, b.ID) })
	if slices.ContainsFunc(sorted, func(e discovery.Endpoint) bool { return !e.Suspect }) {
		sorted = slices.DeleteFunc(sorted, func(e discovery.Endpoint) bool { return e.Suspect })
	}
	total := 0.0
	for _, e := range sorted {
		total += shareOf(e)
	}
	chosen := make([]string, n)
	at, passed := 0, 0.0
	for k := range chosen {
		if len(sorted) == 0 {
			break
		}
		point := (float64(k) + offset) / float64(n) * total
		for at < len(sorted)-1 && passed+shareOf(sorted[at]) <= point {
			passed += shareOf(sorted[at])
			at++
		}
		chosen[k] = sorted[at].ID
	}
	return chosen
}

// shareOf returns an endpoint's share in the choice. It is positive also for a weight
// of 0: such endpoints are only answered where no other has a weight.
func shareOf(e discovery.Endpoint) float64 { return max(float64(e.Weight), 1e-9) }

// moveToFront moves an endpoint to the front. The others keep their order, which
// remains a weighted shuffle.
func moveToFront(endpoints []discovery.Endpoint, id string) {
	n := slices.IndexFunc(endpoints, func(e discovery.Endpoint) bool { return e.ID == id })
	if n > 0 {
		first := endpoints[n]
		copy(endpoints[1:n+1], endpoints[:n])
		endpoints[0] = first
	}
}
