package httpapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"disc/agent/answercache"
	"disc/discovery"
	"disc/discovery/lookup"
	"disc/discovery/retry/retrytest"
)

// sink is a ResponseWriter that keeps the last answer and allocates nothing.
type sink struct {
	header http.Header
	status int
	body   []byte
}

func (s *sink) Header() http.Header { return s.header }

func (s *sink) WriteHeader(status int) { s.status = status }

func (s *sink) Write(b []byte) (int, error) {
	s.body = b
	return len(b), nil
}

func get(t testing.TB, path string) *http.Request {
	t.Helper()
	r, err := http.NewRequest("GET", "http://127.0.0.1:3472"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestPlainLookupAllocatesNextToNothing(t *testing.T) {
	a := withWebs(5).api(t, Options{})
	w, r := &sink{header: http.Header{}}, get(t, "/v1/lookup/web")
	for range 1000 { // until all orders are cached
		a.ServeHTTP(w, r)
	}
	// The age is a new string each time; everything else is cached.
	if allocations := retrytest.Allocations(1000, func() { a.ServeHTTP(w, r) }); allocations > 3 {
		t.Errorf("%v allocations a lookup", allocations)
	}
	if w.body == nil || !bytes.HasPrefix(w.body, []byte(`{"name":"web"`)) {
		t.Errorf("body %s", w.body)
	}
}

func TestCachedLookupsAreThoseThatAreEncoded(t *testing.T) {
	f := withWebs(3)
	f.put(web(4, func(i *discovery.Instance) { i.Status = discovery.Critical }))
	s := serve(t, f.api(t, Options{}))
	for _, accept := range []string{"application/json", "text/plain"} {
		slow := s.do("GET /v1/lookup/web?status=", "", "Accept: "+accept)
		slow.Header.Del("Date")
		for _, options := range []string{"", "?index=0"} {
			fast := s.do("GET /v1/lookup/web"+options, "", "Accept: "+accept)
			fast.Header.Del("Date")
			if !maps.EqualFunc(fast.Header, slow.Header, slices.Equal) {
				t.Errorf("headers %v, and %v when encoded", fast.Header, slow.Header)
			}
			if sorted(fast.body) != sorted(slow.body) {
				t.Errorf("body %s, and %s when encoded", fast.body, slow.body)
			}
		}
	}
}

// sorted returns a text's bytes in order: the same for all orders of a set.
func sorted(s string) string {
	b := []byte(s)
	slices.Sort(b)
	return string(b)
}

func TestCachedLookupsGoWithTheirRevision(t *testing.T) {
	f := withWebs(1)
	s := serve(t, f.api(t, Options{}))
	s.want("GET /v1/lookup/web", "", 200, "web-1", `"revision":1`)
	f.put(web(2))
	s.want("GET /v1/lookup/web", "", 200, "web-2", `"revision":2`)
	f.put(web(1, func(i *discovery.Instance) { i.Service = "other" }))
	got := s.want("GET /v1/lookup/web", "", 200, `"revision":2`)
	if got.Header.Get("Disc-Revision") != "3" || got.Header.Get("Disc-Index") != "2" {
		t.Errorf("headers %v", got.Header)
	}
	f.delete("web", "web-1")
	f.delete("web", "web-2")
	s.want("GET /v1/lookup/web", "", 200, `"endpoints":[]`)
}

func TestCachedLookupsTakeTurnsInFront(t *testing.T) {
	f := withWebs(3)
	f.put(web(4, func(i *discovery.Instance) { i.Weight = 5 }))
	a := f.api(t, Options{})
	w, r := &sink{header: http.Header{}}, get(t, "/v1/lookup/web")
	bodies := map[string]string{} // body → the id that comes first
	for len(bodies) < answercache.MaxOrders {
		a.ServeHTTP(w, r)
		var answer lookup.Answer
		if err := json.Unmarshal(w.body, &answer); err != nil {
			t.Fatal(err)
		}
		if len(answer.Endpoints) != 4 {
			t.Fatalf("endpoints %v", answer.Endpoints)
		}
		bodies[fmt.Sprintf("%p", w.body)] = answer.Endpoints[0].ID
	}
	front := map[string]int{}
	for _, id := range bodies {
		front[id]++
	}
	// Of 16 answers, a weight of 1 in 8 leads 2, and 5 in 8 lead 10.
	if want := map[string]int{"web-1": 2, "web-2": 2, "web-3": 2, "web-4": 10}; !maps.Equal(front, want) {
		t.Errorf("in front are %v, want %v", front, want)
	}
}

func TestSuspectsDoNotComeFirst(t *testing.T) {
	endpoints := []discovery.Endpoint{{ID: "c", Weight: 1}, {ID: "a", Weight: 1, Suspect: true}, {ID: "b", Weight: 0}}
	if got := firstEndpoints(endpoints, 4, 0.5); strings.Join(got, "") != "cccc" {
		t.Errorf("first endpoints %v", got)
	}
	if got := firstEndpoints(endpoints[1:2], 2, 0); strings.Join(got, "") != "aa" {
		t.Errorf("first endpoints among suspects alone %v", got)
	}
	if got := firstEndpoints(nil, 1, 0.3); len(got) != 1 {
		t.Errorf("first endpoints of none %v", got)
	}
}

func BenchmarkPlainLookup(b *testing.B) {
	a := withWebs(10).api(b, Options{})
	w, r := &sink{header: http.Header{}}, get(b, "/v1/lookup/web")
	b.ReportAllocs()
	for b.Loop() {
		a.ServeHTTP(w, r)
	}
}
