package httpapi

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/lookup"
	"disc/discovery/view"
)

func TestLookupAnswersWithTheEndpoints(t *testing.T) {
	f := withWebs(2)
	f.put(web(3, func(i *discovery.Instance) { i.Status = discovery.Critical }))
	s := serve(t, f.api(t, Options{}))
	answer, view, err := s.Lookup(t.Context(), "web", api.LookupOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(answer.Endpoints) != 2 || answer.LeftOut["critical"] != 1 || answer.Revision != 3 || answer.Name != "web" {
		t.Errorf("answer %+v", answer)
	}
	if view.Revision != 3 || view.Index != 3 || view.Age != 1500*time.Millisecond || view.Stale || view.ETag == "" {
		t.Errorf("view %+v", view)
	}
	f.update(func() { f.view.Stale = true })
	if _, view, err = s.Lookup(t.Context(), "web", api.LookupOptions{Explain: true}); err != nil || !view.Stale {
		t.Errorf("view %+v, %v; want it stale", view, err)
	}
}

func TestLookupOptionsNarrowTheAnswer(t *testing.T) {
	f := withWebs(1)
	f.put(web(2, func(i *discovery.Instance) {
		i.Tags, i.Zone, i.Node = discovery.Tags{"v3", "canary"}, "b", "host-2"
		i.Meta, i.Ports = discovery.Meta{"Team": "core"}, discovery.Ports{"grpc": 9090}
		i.Status = discovery.Warning
	}))
	s := serve(t, f.api(t, Options{Zone: "b"}))
	for query, want := range map[string]string{
		"tag=v3&tag=canary":                   "web-2",
		"tag=v2&tag=v3":                       "",
		"zone=b":                              "web-2",
		"node=host-1":                         "web-1",
		"meta.Team=core":                      "web-2",
		"meta.team=core":                      "",
		"port=grpc":                           "web-2",
		"status=passing":                      "web-1",
		"filter=" + `meta.Team+%3D%3D+"core"`: "web-2",
		"prefer=zone&pick=1":                  "web-2",
		"zone=b&status=any&explain":           "web-2",
	} {
		t.Run(query, func(t *testing.T) {
			s := s.in(t)
			got := s.want("GET /v1/lookup/web?"+query, "", 200)
			for _, id := range []string{"web-1", "web-2"} {
				if has := strings.Contains(got.body, `{"id":"`+id+`","node"`); has != (id == want) {
					t.Errorf("%s: %s is in: %v: %s", query, id, has, got.body)
				}
			}
		})
	}
	s.want("GET /v1/lookup/web?port=grpc", "", 200, `"port":9090`)
	s.want("GET /v1/lookup/_grpc._tcp.web.svc.disc.", "", 200, `"port":9090`)
	s.want("GET /v1/lookup/v3.web", "", 200, `"web-2"`)
	s.want("GET /v1/lookup/web-2.web.inst", "", 200, `"web-2"`)
	s.want("GET /v1/lookup/WEB", "", 200, `"name":"WEB","service":"web"`)
	s.want("GET /v1/lookup/web?zone=b&explain=true", "", 200, `"why":"its zone does not match"`)
}

func TestLookupRefuses(t *testing.T) {
	s := serve(t, withWebs(1).api(t, Options{}))
	for _, c := range []struct {
		path   string
		status int
		detail string
	}{
		{"web?tagg=v2&zzz=1", 400, "unknown query parameter tagg, zzz; known are tag, zone"},
		{"web?zone=a&zone=b", 400, `\"zone\" is given 2 times`},
		{"web?pick=0", 400, "pick 0 is out of range"},
		{"web?pick=x", 400, `pick \"x\" is not a number`},
		{"web?panic=2", 400, "panic 2 is out of range"},
		{"web?panic=NaN", 400, "out of range"},
		{"web?status=sick", 400, `status \"sick\" is unknown`},
		{"web?prefer=me", 400, `prefer \"me\" is unknown; use zone`},
		{"web?explain=perhaps", 400, "neither true nor false"},
		{"web?format=xml", 400, `format \"xml\" is unknown`},
		{"web?filter=nosuch+%3D%3D+1", 400, "filter"},
		{"web?wait=1s", 400, "wait needs index"},
		{"web?index=-1", 400, `index \"-1\" is not a revision`},
		{"web?index=1&wait=11m", 400, "up to 10m"},
		{"web?index=1&wait=-1s", 400, "out of range"},
		{"web?a;b", 400, "cannot be read"},
		{"nosuch", 404, `service \"nosuch\" is not known`},
		{"web-9.web.inst", 404, "web-9"},
		{"host-9.node", 404, "host-9"},
		{"_services._dns-sd._udp.svc", 400, "has no endpoints"},
		{"a.b.c.d", 400, "of no known form"},
	} {
		t.Run(c.path, func(t *testing.T) {
			s := s.in(t)
			got := s.want("GET /v1/lookup/"+c.path, "", c.status, c.detail, `"type":"about:blank"`)
			if got.Header.Get("Content-Type") != api.TypeProblem {
				t.Errorf("%s: content type %q", c.path, got.Header.Get("Content-Type"))
			}
		})
	}
}

func TestLookupIsUnavailableWithoutAView(t *testing.T) {
	f := newFleet()
	f.err = discovery.Errorf(discovery.ErrUnavailable, "there is no view yet: etcd at 127.0.0.1:1 does not answer")
	s := serve(t, f.api(t, Options{}))
	for _, path := range []string{"/v1/lookup/web", "/v1/services", "/v1/services/web?index=1", "/v1/nodes", "/v1/watch"} {
		got := s.want("GET "+path, "", 503, "etcd at 127.0.0.1:1 does not answer")
		if got.Header.Get("Retry-After") != "1" {
			t.Errorf("%s: Retry-After %q", path, got.Header.Get("Retry-After"))
		}
	}
	if _, _, err := s.Lookup(t.Context(), "web", api.LookupOptions{}); !errors.Is(err, discovery.ErrUnavailable) {
		t.Errorf("the client's error is %v", err)
	}
}

func TestLookupInLines(t *testing.T) {
	f := newFleet()
	f.put(
		web(1, func(i *discovery.Instance) { i.Address = "2001:db8::1" }),
		web(2, func(i *discovery.Instance) { i.Address, i.Port = "2001:db8::2", 0 }),
		web(3, func(i *discovery.Instance) { i.Address = "db.example" }),
		web(4),
	)
	s := serve(t, f.api(t, Options{}))
	for _, query := range []string{"", "?zone=a"} {
		text, _, err := s.LookupText(t.Context(), "web", api.LookupOptions{Select: api.Select{Zone: strings.TrimPrefix(query, "?zone=")}})
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range []string{"[2001:db8::1]:8080\n", "2001:db8::2\n", "db.example:8080\n", "10.0.0.4:8080\n"} {
			if !strings.Contains(text, line) || strings.Count(text, "\n") != 4 {
				t.Errorf("%q is not in %q", line, text)
			}
		}
	}
	s.want("GET /v1/lookup/web?format=text", "", 200, "10.0.0.4:8080\n")
	s.do("GET /v1/lookup/web?format=json", "", "Accept: text/plain").want(t, 200, `{"name"`)
}

func TestAcceptsText(t *testing.T) {
	for accept, want := range map[string]bool{
		"": false, "*/*": false, "application/json": false, "text/plain": true, "text/html": false,
		"application/json, text/plain, */*": false, "text/plain, application/json": false, "text/plain, application/json;q=0.5": true,
		"application/json;q=0.1,TEXT/plain;q=0.2": true, "text/plain;q=0": false, "text/*, */*;q=0.1": true,
		"text/plain;q=x, */*": false, "text/html,application/xhtml+xml,*/*;q=0.8": false,
	} {
		t.Run(accept, func(t *testing.T) {
			if got := acceptsText([]string{accept}); got != want {
				t.Errorf("Accept %q: %v", accept, got)
			}
		})
	}
	if acceptsText(nil) {
		t.Error("without Accept it is text")
	}
}

func TestETagIsOfTheSetAndNotOfItsOrder(t *testing.T) {
	f := withWebs(9)
	s := serve(t, f.api(t, Options{}))
	for _, path := range []string{"/v1/lookup/web", "/v1/lookup/web?zone=a", "/v1/services", "/v1/services/web", "/v1/services/web/instances/web-1", "/v1/nodes"} {
		first := s.want("GET "+path, "", 200)
		tag := first.Header.Get("ETag")
		for range 20 {
			if got := s.do("GET "+path, "").Header.Get("ETag"); got != tag {
				t.Fatalf("%s: ETag %s, then %s", path, tag, got)
			}
		}
		again := s.do("GET "+path, "", "If-None-Match: \"x\", "+tag)
		again.want(t, 304)
		if again.body != "" || again.Header.Get(api.HeaderIndex) != first.Header.Get(api.HeaderIndex) {
			t.Errorf("%s: 304 with body %q and headers %v", path, again.body, again.Header)
		}
	}
	tag := s.do("GET /v1/lookup/web", "").Header.Get("ETag")
	if text := s.do("GET /v1/lookup/web", "", "Accept: text/plain").Header.Get("ETag"); text == tag {
		t.Error("text and JSON have one ETag")
	}
	f.put(web(10))
	s.do("GET /v1/lookup/web", "", "If-None-Match: "+tag).want(t, 200, "web-10")
}

func TestBlockingLookupAnswersAtTheNextChange(t *testing.T) {
	f := withWebs(1)
	s := serve(t, f.api(t, Options{}))
	type result struct {
		answer lookup.Answer
		view   api.Freshness
		err    error
	}
	results := make(chan result, 1)
	ask := func(name string, index int64) {
		go func() {
			a, v, err := s.Lookup(context.WithoutCancel(t.Context()), name, api.LookupOptions{Wait: api.Wait{Index: index, For: time.Minute}})
			results <- result{a, v, err}
		}()
	}
	ask("web", 1)
	waits(t, s, 1)
	f.put(web(1, func(i *discovery.Instance) { i.Service = "other" }))
	f.put(web(2))
	if r := <-results; r.err != nil || r.view.Index != 3 || len(r.answer.Endpoints) != 2 {
		t.Errorf("%+v", r)
	}
	ask("web", 1) // the index differs: at once
	if r := <-results; r.err != nil || r.view.Index != 3 {
		t.Errorf("%+v", r)
	}
	ask("new", 0) // does not exist yet
	waits(t, s, 1)
	f.put(web(1, func(i *discovery.Instance) { i.Service = "new" }))
	if r := <-results; r.err != nil || r.view.Index != 4 || len(r.answer.Endpoints) != 1 {
		t.Errorf("%+v", r)
	}
	ask("host-1.node", 0)
	waits(t, s, 1)
	f.putNode(discovery.Node{Node: "host-1", Agent: "o1", Address: "10.0.0.1"})
	if r := <-results; r.err != nil || r.view.Index != 5 || len(r.answer.Endpoints) != 1 {
		t.Errorf("%+v", r)
	}
}

// A caller may give the revision up to which it has seen everything, such as a Disc-Revision.
func TestBlockingLookupTakesTheRevisionOfAView(t *testing.T) {
	f := withWebs(1)
	other := func(i *discovery.Instance) { i.Service = "other" }
	f.put(web(1, other))
	f.put(web(2, other))
	a := f.api(t, Options{})
	a.timeouts.lag = time.Hour
	s := serve(t, a)
	indexes := make(chan int64, 1)
	ask := func(index int64) {
		go func() {
			_, v, err := s.Lookup(context.WithoutCancel(t.Context()), "web", api.LookupOptions{Wait: api.Wait{Index: index, For: api.MaxWait}})
			if err != nil {
				t.Error(err)
			}
			indexes <- v.Index
		}()
	}
	ask(3) // web changed last at 1
	waits(t, s, 1)
	f.put(web(3, other))
	f.put(web(2))
	if index := <-indexes; index != 5 {
		t.Errorf("index %d, want that of the change, 5", index)
	}
	ask(8) // the view is at 5: what comes until 8 is nothing new to the caller
	waits(t, s, 1)
	f.put(web(4, other))
	f.put(web(3))
	f.put(web(5, other))
	f.put(web(4))
	if index := <-indexes; index != 9 {
		t.Errorf("index %d, want that of the change, 9", index)
	}
	a.timeouts.lag = time.Millisecond
	ask(100) // no view ever gets there, as after etcd was restored
	if index := <-indexes; index != 9 {
		t.Errorf("index %d, want the present one, 9", index)
	}
}

func TestSeen(t *testing.T) {
	for name, tt := range map[string]struct {
		known, before, after int64
		want                 bool // the caller has seen it
	}{
		"no change":                     {7, 5, 5, true},
		"a change that it has seen":     {7, 5, 6, true},
		"a change":                      {7, 5, 8, false},
		"a change of the view itself":   {7, 5, 7 + view.MaxRevision + 1, false},
		"an index that goes back":       {7, 5, 4, false},
		"the subject vanishes":          {7, 5, 0, false},
		"a change after that of a view": {7 + view.MaxRevision + 1, 7 + view.MaxRevision + 1, 8, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := seen{known: tt.known, index: tt.before}
			if got := s.covers(tt.after, view.View{Snapshot: view.EmptySnapshot()}); got != tt.want {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
}

// waits waits until so many blocking queries are open.
func waits(t *testing.T, s *server, n int) {
	t.Helper()
	streams(t, s, "wait", n)
}

func TestBlockingQueriesEndWithTheirTime(t *testing.T) {
	s := serve(t, withWebs(1).api(t, Options{}))
	s.want("GET /v1/lookup/web?index=1&wait=1ms", "", 200, "web-1")
	s.want("GET /v1/lookup/nosuch?index=0&wait=1ms", "", 404)
	s.want("GET /v1/services?index=1&wait=1ms", "", 200)
	s.want("GET /v1/services/web?index=1&wait=1ms", "", 200)
	s.want("GET /v1/nodes?index=0&wait=1ms", "", 200)
}

func TestBlockingQueryEndsWithItsCaller(t *testing.T) {
	s := serve(t, withWebs(1).api(t, Options{}))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, _, err := s.Lookup(ctx, "web", api.LookupOptions{Wait: api.Wait{Index: 1, For: time.Minute}})
		done <- err
	}()
	waits(t, s, 1)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	waits(t, s, 0)
}

func TestHeadHasNoBody(t *testing.T) {
	s := serve(t, withWebs(1).api(t, Options{}))
	for _, path := range []string{"/v1/lookup/web", "/v1/services", "/v1/watch", "/healthz"} {
		resp, err := s.HTTP.Head(s.BaseURL + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("HEAD %s: %s", path, resp.Status)
		}
	}
}
