package httpapi

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/view"
)

func TestListsOfServicesInstancesAndNodes(t *testing.T) {
	f := withWebs(2)
	f.put(web(3, func(i *discovery.Instance) { i.Status, i.Tags = discovery.Critical, discovery.Tags{"v3"} }))
	f.put(web(1, func(i *discovery.Instance) { i.Service, i.ID = "Api", "a-1" }))
	f.putNode(discovery.Node{Node: "host-1", Agent: "o1", Zone: "a"})
	s := serve(t, f.api(t, Options{}))
	services, current, err := s.Services(t.Context(), api.Wait{})
	if err != nil {
		t.Fatal(err)
	}
	want := api.Service{Service: "web", Healthy: 2, Total: 3, Tags: discovery.Tags{"v2", "v3"}, Revision: 3}
	if len(services) != 2 || services[0].Service != "Api" || services[1].Healthy != want.Healthy || services[1].Total != want.Total ||
		!slices.Equal(services[1].Tags, want.Tags) || services[1].Revision != want.Revision || current.Index != 4 {
		t.Errorf("services %+v, view %+v", services, current)
	}
	instances, current, err := s.Instances(t.Context(), "web", api.ListOptions{})
	if err != nil || len(instances) != 3 || instances[2].ID != "web-3" || current.Index != 3 || current.Revision != 5 {
		t.Errorf("instances %+v, view %+v, %v", instances, current, err)
	}
	instances, _, err = s.Instances(t.Context(), "web", api.ListOptions{Status: discovery.Critical, Select: api.Select{Tags: []string{"v3"}}})
	if err != nil || len(instances) != 1 || instances[0].ID != "web-3" {
		t.Errorf("instances %+v, %v", instances, err)
	}
	e, _, err := s.Instance(t.Context(), "web", "web-2", api.Wait{})
	if err != nil || e.ID != "web-2" || e.Source != view.SourceAgent || e.Revision != 2 {
		t.Errorf("instance %+v, %v", e, err)
	}
	nodes, current, err := s.Nodes(t.Context(), api.Wait{})
	if err != nil || len(nodes) != 1 || nodes[0].Zone != "a" || current.Index != 5 {
		t.Errorf("nodes %+v, view %+v, %v", nodes, current, err)
	}
	s.want("GET /v1/services/nosuch", "", 404, `service \"nosuch\" is not known`)
	s.want("GET /v1/services/web/instances/nosuch", "", 404, `instance \"nosuch\" of service \"web\"`)
	s.want("GET /v1/services/web?status=sick", "", 400, `status \"sick\"`)
	s.want("GET /v1/services/web?status=any", "", 200, "web-3")
}

func TestServicesThatAreOnlyRememberedAreNotListed(t *testing.T) {
	f := withWebs(1)
	f.delete("web", "web-1")
	s := serve(t, f.api(t, Options{}))
	if got := s.want("GET /v1/services", "", 200); got.body != "[]\n" || got.Header.Get(api.HeaderIndex) != "2" {
		t.Errorf("services %q, headers %v", got.body, got.Header)
	}
	s.want("GET /v1/services/web", "", 200, "[]")
}

func TestRegisterAndDeregister(t *testing.T) {
	f := newFleet()
	s := serve(t, f.api(t, Options{}))
	weight := 3
	reg := discovery.Registration{
		Service: "web", ID: "web:1", Port: 8080, Weight: &weight, Tags: discovery.Tags{"v2"}, Meta: discovery.Meta{"Team": "core"},
		Checks: []discovery.CheckSpec{{Type: discovery.CheckTTL, TTL: discovery.Duration(1e9)}},
	}
	done, err := s.Register(t.Context(), reg)
	if err != nil || !done.Created || !done.Written || done.Entry.Address != "10.0.0.9" || done.Entry.Weight != 3 || done.Entry.Revision != 1 {
		t.Fatalf("registered %+v, %v", done, err)
	}
	if done, err = s.Register(t.Context(), reg); err != nil || done.Created || !done.Written || done.Warning != "" {
		t.Errorf("registered again %+v, %v", done, err)
	}
	f.update(func() { f.away = true })
	if done, err = s.Register(t.Context(), reg); err != nil || done.Written || done.Entry.Revision != 0 {
		t.Errorf("registered without etcd %+v, %v", done, err)
	}
	gone, err := s.Deregister(t.Context(), "web", "web:1")
	if err != nil || gone.Written {
		t.Errorf("deregistered without etcd %+v, %v", gone, err)
	}
	f.update(func() { f.away = false })
	if _, err := s.Register(t.Context(), reg); err != nil {
		t.Error(err)
	}
	if gone, err = s.Deregister(t.Context(), "web", "web:1"); err != nil || !gone.Written || gone.Revision != 4 {
		t.Errorf("deregistered %+v, %v", gone, err)
	}
	if _, err = s.Deregister(t.Context(), "web", "web:1"); !errors.Is(err, discovery.ErrNotFound) {
		t.Errorf("deregistered again: %v", err)
	}
	f.update(func() { f.config["web/c-1"] = true })
	if _, err = s.Deregister(t.Context(), "web", "c-1"); !errors.Is(err, discovery.ErrForbidden) || !strings.Contains(err.Error(), "remove it there and reload") {
		t.Errorf("deregistered what the file has: %v", err)
	}
	done, err = s.Register(t.Context(), discovery.Registration{Service: "web.core", ID: "1"})
	if err != nil || !strings.Contains(done.Warning, "DNS cannot look up") {
		t.Errorf("registered with a dot %+v, %v", done, err)
	}
}

func TestRegisterSaysWhoHoldsAnInstance(t *testing.T) {
	f := newFleet()
	f.put(web(1, func(i *discovery.Instance) { i.Owner, i.Node = "o2", "host-2" }))
	s := serve(t, f.api(t, Options{}))
	_, err := s.Register(t.Context(), discovery.Registration{Service: "web", ID: "web-1"})
	if !errors.Is(err, discovery.ErrConflict) || !strings.Contains(err.Error(), "host-2") || !strings.Contains(err.Error(), "o2") {
		t.Errorf("%v", err)
	}
	_, err = s.Hold(t.Context(), discovery.Registration{Service: "web", ID: "web-1"})
	if !errors.Is(err, discovery.ErrConflict) {
		t.Errorf("hold: %v", err)
	}
}

func TestRegisterRefuses(t *testing.T) {
	s := serve(t, newFleet().api(t, Options{}))
	for _, c := range []struct{ path, body, detail string }{
		{"web/instances/web-1", "", "the body is not a JSON object"},
		{"web/instances/web-1", "null", "the body is not a JSON object"},
		{"web/instances/web-1", "[]", "the body is not a JSON object"},
		{"web/instances/web-1", "{", "in the middle of its JSON object"},
		{"web/instances/web-1", `{"port":1,}`, "not JSON: invalid character '}'"},
		{"web/instances/web-1", `{"port":1}{}`, "has data after the JSON object, at byte 11"},
		{"web/instances/web-1", `{"port":1} x`, "has data after the JSON object"},
		{"web/instances/web-1", `{"prot":1}`, `unknown field \"prot\"`},
		{"web/instances/web-1", `{"checks":[{"type":"tcp","urll":"x"}]}`, `unknown field \"urll\"`},
		{"web/instances/web-1", `{"port":"x"}`, `field \"port\": a string does not fit`},
		{"web/instances/web-1", `{"port":70000}`, "port 70000 is out of range"},
		{"web/instances/web-1", `{"checks":[{"type":"tcp","interval":"soon"}]}`, `\"soon\" is not a duration`},
		{"web/instances/web-1", `{"checks":[{"type":"tcp","interval":5}]}`, "interval"},
		{"web/instances/web-1", `{"service":"other"}`, `service \"other\" in the body differs from \"web\" in the path`},
		{"web/instances/web-1", `{"id":"other"}`, `id \"other\" in the body`},
		{"-web/instances/web-1", `{}`, `service name \"-web\" begins with`},
		{"web/instances/web%2F1", `{}`, `instance id \"web/1\" has`},
		{"web/instances/web-1?hold=maybe", `{}`, "neither true nor false"},
	} {
		t.Run(c.path+" "+c.body, func(t *testing.T) {
			s := s.in(t)
			s.want("PUT /v1/services/"+c.path, c.body, 400, c.detail)
		})
	}
	if view, _ := s.api.backends.Catalog.View(); view.Snapshot.Revision() != 0 {
		t.Error("something was registered")
	}
	s.do("PUT /v1/services/web/instances/web-1", `{"service":"Web","port":1}`, "Content-Type: application/x-www-form-urlencoded").want(t, 201, `"service":"Web"`)
}

func TestHoldLastsAsLongAsItsRequest(t *testing.T) {
	f := newFleet()
	a := f.api(t, Options{})
	a.timeouts.keepalive = 1e6
	s := serve(t, a)
	held, err := s.Hold(t.Context(), discovery.Registration{Service: "web", ID: "web-1", Port: 8080})
	if err != nil {
		t.Fatal(err)
	}
	if held.Entry.ID != "web-1" || !held.Created || !held.Written {
		t.Errorf("held %+v", held.Registered)
	}
	streams(t, s, "hold", 1)
	ended := make(chan error, 1)
	go func() { ended <- held.Wait() }()
	select {
	case name := <-f.released:
		t.Errorf("released %s while it is held", name)
	default:
	}
	held.Close()
	if err := <-ended; err != nil {
		t.Errorf("wait: %v", err)
	}
	if name := <-f.released; name != "web/web-1" {
		t.Errorf("released %s", name)
	}
	streams(t, s, "hold", 0)
}

// A holder learns that another caller has deregistered the instance.
func TestHoldEndsWithItsRegistration(t *testing.T) {
	f := newFleet()
	s := serve(t, f.api(t, Options{}))
	held, err := s.Hold(t.Context(), discovery.Registration{Service: "web", ID: "web-1", Port: 8080})
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	close(f.lost)
	if err := held.Wait(); !errors.Is(err, discovery.ErrUnavailable) {
		t.Errorf("wait: %v, want the end of the request", err)
	}
	if name := <-f.released; name != "web/web-1" {
		t.Errorf("released %s", name)
	}
}

func TestHeldAnswerIsTheRecordAndThenNewlines(t *testing.T) {
	a := newFleet().api(t, Options{})
	a.timeouts.keepalive = 1e6
	s := serve(t, a)
	req, err := http.NewRequestWithContext(t.Context(), "PUT", s.BaseURL+"/v1/services/web/instances/web-1?hold", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.HTTP.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var read []byte
	for strings.Count(string(read), "\n") < 5 {
		buf := make([]byte, 512)
		n, err := resp.Body.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		read = append(read, buf[:n]...)
	}
	record, rest, _ := strings.Cut(string(read), "\n")
	if resp.StatusCode != 201 || !strings.HasPrefix(record, `{"service":"web"`) || strings.Trim(rest, "\n") != "" {
		t.Errorf("%s %q", resp.Status, read)
	}
}

func TestReportCheck(t *testing.T) {
	f := newFleet()
	s := serve(t, f.api(t, Options{}))
	report := api.CheckReport{Status: discovery.Warning, Output: "slow"}
	if err := s.ReportCheck(t.Context(), "web", "web-1", "ttl", report); !errors.Is(err, discovery.ErrNotFound) {
		t.Errorf("report of an unknown instance: %v", err)
	}
	f.update(func() { f.mine["web/web-1"] = true })
	if err := s.ReportCheck(t.Context(), "web", "web-1", "ttl", report); err != nil {
		t.Error(err)
	}
	if !slices.Equal(f.reports, []string{"web/web-1 ttl warning slow"}) {
		t.Errorf("reports %q", f.reports)
	}
	path := "PUT /v1/services/web/instances/web-1/checks/ttl"
	s.want(path, `{"status":"fine"}`, 400, `status \"fine\" is unknown`)
	s.want(path, `{}`, 400, `status \"\" is unknown`)
	s.want(path, `{"status":"passing","note":""}`, 400, `unknown field \"note\"`)
}

func TestReportLoad(t *testing.T) {
	f := withWebs(1)
	s := serve(t, f.api(t, Options{}))
	u := 0.7
	if err := s.ReportLoad(t.Context(), "web", "web-1", discovery.LoadReport{Utilization: &u}); !errors.Is(err, discovery.ErrNotFound) {
		t.Errorf("report of another's instance: %v", err)
	}
	f.update(func() { f.mine["web/web-1"] = true })
	if err := s.ReportLoad(t.Context(), "web", "web-1", discovery.LoadReport{Utilization: &u}); err != nil {
		t.Error(err)
	}
	if !slices.Equal(f.reports, []string{"web/web-1 0.7"}) {
		t.Errorf("reports %q", f.reports)
	}
	path := "PUT /v1/services/web/instances/web-1/load"
	s.want(path, `{"utilization":1.5}`, 204)
	s.want(path, `{}`, 400, `utilization is missing`)
	s.want(path, `{"utilization":-1}`, 400, `utilization -1 is out of range`)
	s.want(path, `{"utilization":"70%"}`, 400, `field \"utilization\": a string does not fit`)
	s.want(path, `{"utilization":0.7,"cpu_utilization":0.7}`, 400, `unknown field \"cpu_utilization\"`)
}

// A load report is shown with the instance and in lookups that it affects. The plain
// lookup keeps its bytes and its index.
func TestLoadIsShown(t *testing.T) {
	f := withWebs(1)
	s := serve(t, f.api(t, Options{}))
	plain := s.want("GET /v1/lookup/web", "", 200)
	f.apply(f.change(f.keys.Load("web", "web-1"), []byte(`{"utilization":0.7}`)))
	after := s.want("GET /v1/lookup/web", "", 200)
	if after.body != plain.body || after.Header.Get("Etag") != plain.Header.Get("Etag") || after.Header.Get("Disc-Index") != plain.Header.Get("Disc-Index") {
		t.Errorf("the plain lookup is %s %v, was %s %v", after.body, after.Header, plain.body, plain.Header)
	}
	s.want("GET /v1/lookup/web?pick=1", "", 200, `"utilization":0.7`)
	s.want("GET /v1/services/web", "", 200, `"utilization":0.7`)
	s.want("GET /v1/services/web/instances/web-1", "", 200, `"utilization":0.7`)
	f.update(func() { f.view.Age = time.Minute })
	if got := s.want("GET /v1/lookup/web?pick=1", "", 200); strings.Contains(got.body, "utilization") {
		t.Errorf("a view of a minute ago still weighs by load: %s", got.body)
	}
}

func TestOverridesOfThisAgentsInstances(t *testing.T) {
	f := withWebs(2)
	f.update(func() { f.mine["web/web-1"] = true })
	s := serve(t, f.api(t, Options{}))
	o, revision, err := s.PatchOverride(t.Context(), "web", "web-1", []byte(`{"state":"drain","meta":{"a":"1","b":"2"}}`))
	if err != nil || o.State != discovery.Drain || revision != 3 {
		t.Errorf("override %+v at %d, %v", o, revision, err)
	}
	o, _, err = s.PatchOverride(t.Context(), "web", "web-1", []byte(`{"state":null,"weight":7,"meta":{"a":null}}`))
	if err != nil || o.State != "" || *o.Weight != 7 || len(o.Meta) != 1 {
		t.Errorf("override %+v, %v", o, err)
	}
	s.want("GET /v1/services/web/instances/web-1", "", 200, `"weight":7`, `"override":{"weight":7,"meta":{"b":"2"}}`)
	if revision, err = s.DeleteOverride(t.Context(), "web", "web-1"); err != nil || revision != 5 {
		t.Errorf("deleted at %d, %v", revision, err)
	}
	if _, err = s.DeleteOverride(t.Context(), "web", "web-1"); !errors.Is(err, discovery.ErrNotFound) {
		t.Errorf("deleted again: %v", err)
	}
	_, _, err = s.PatchOverride(t.Context(), "web", "web-2", []byte(`{"state":"drain"}`))
	if !errors.Is(err, discovery.ErrForbidden) || !strings.Contains(err.Error(), "disc set") || !strings.Contains(err.Error(), "http.tokens") {
		t.Errorf("override of another agent's instance: %v", err)
	}
}

func TestOverrideRefuses(t *testing.T) {
	f := withWebs(1)
	f.update(func() { f.mine["web/web-1"] = true })
	s := serve(t, f.api(t, Options{}))
	path := "PATCH /v1/services/web/instances/web-1/override"
	for body, detail := range map[string]string{
		`{"stat":"up"}`:        `unknown field \"stat\"`,
		`{"state":"away"}`:     `state \"away\" is unknown`,
		`{"weight":-1}`:        "weight -1 is out of range",
		`{"weight":"heavy"}`:   "weight",
		`{"tags":["a b"]}`:     "tag",
		`{"meta":{"a":1}}`:     "meta",
		`null`:                 "to remove the override, DELETE it",
		`{"state":"up"} extra`: "not a JSON object",
	} {
		t.Run(body, func(t *testing.T) {
			s := s.in(t)
			s.want(path, body, 400, detail)
		})
	}
	s.want("PATCH /v1/services/web/instances/a%20b/override", `{}`, 400, "instance id")
}

// late is a registrar whose writes reach the view after they are done in etcd.
type late struct {
	*fleet
	written chan func()
}

func (l late) Register(_ context.Context, r discovery.Registration) (api.Registered, error) {
	i := r.WithDefaults("10.0.0.9", "a").Instance()
	current, err := l.View()
	l.written <- func() { l.put(i) }
	return api.Registered{Entry: view.Entry{Instance: i, Revision: current.Snapshot.Revision() + 1}, Created: true, Written: true}, err
}

func TestTheNextLookupHasTheWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := withWebs(1)
		l := late{f, make(chan func())}
		a := f.api(t, Options{}, func(b *Backends) { b.Registrar = l })
		put := func(id string) <-chan int {
			answered := make(chan int, 1)
			go func() {
				w := httptest.NewRecorder()
				r := httptest.NewRequest("PUT", "http://localhost/v1/services/db/instances/"+id, strings.NewReader(`{"port":1}`))
				r.Header.Set("Content-Type", api.TypeJSON)
				a.ServeHTTP(w, r)
				answered <- w.Code
			}()
			return answered
		}
		first := put("db-1")
		arrives := <-l.written
		synctest.Wait()
		if len(first) > 0 {
			t.Error("answered before a lookup has what was written")
		}
		arrives()
		synctest.Wait()
		if len(first) == 0 || <-first != 201 {
			t.Error("not answered with 201 once a lookup has what was written")
		}

		began := time.Now()
		second := put("db-2")
		<-l.written // never arrives
		if status, waited := <-second, time.Since(began); status != 201 || waited != ownWriteTime {
			t.Errorf("with a view that lags: %d after %v, want 201 after %v", status, waited, ownWriteTime)
		}
	})
}
