package httpapi

import (
	"encoding/json"
	"testing"

	"disc/agent/api"
	"disc/discovery"
)

func TestPrometheusAsks(t *testing.T) {
	f := newFleet()
	s := serve(t, f.api(t, Options{}))
	f.update(func() { f.err = discovery.Errorf(discovery.ErrUnavailable, "no view yet") })
	s.want("GET /v1/sd/prometheus", "", 503, "no view yet")
	f.update(func() { f.err = nil })
	s.want("GET /v1/sd/prometheus", "", 200, "[]")
	f.put(web(1), web(2, func(i *discovery.Instance) { i.Status, i.Zone = discovery.Critical, "b" }))
	f.put(discovery.Instance{Service: "db", ID: "db-1", Address: "2001:db8::5", Port: 5432, Weight: 1, Slots: 1, Status: discovery.Passing})
	for query, want := range map[string][]string{
		"":                            {"[2001:db8::5]:5432", "10.0.0.1:8080", "10.0.0.2:8080"},
		"?service=WEB":                {"10.0.0.1:8080", "10.0.0.2:8080"},
		"?service=web&service=db":     {"[2001:db8::5]:5432", "10.0.0.1:8080", "10.0.0.2:8080"},
		"?service=nosuch":             {},
		"?status=passing&service=web": {"10.0.0.1:8080"},
		"?zone=b":                     {"10.0.0.2:8080"},
		"?filter=service+==+db":       {"[2001:db8::5]:5432"},
		"?tag=v2&port=grpc":           {},
	} {
		t.Run(query, func(t *testing.T) {
			s := s.in(t)
			got := s.want("GET /v1/sd/prometheus"+query, "", 200)
			var groups []api.TargetGroup
			if err := json.Unmarshal([]byte(got.body), &groups); err != nil {
				t.Fatal(err)
			}
			if len(groups) != len(want) {
				t.Fatalf("%s: %s, want %v", query, got.body, want)
			}
			for n, g := range groups {
				if len(g.Targets) != 1 || g.Targets[0] != want[n] {
					t.Errorf("%s: group %d is %v, want %s", query, n, g, want[n])
				}
			}
			if got.Header.Get("Content-Type") != "application/json" || got.Header.Get("Disc-Revision") != "2" {
				t.Errorf("header %v", got.Header)
			}
			s.do("GET /v1/sd/prometheus"+query, "", "If-None-Match: "+got.Header.Get("ETag")).want(t, 304)
		})
	}
	s.want("GET /v1/sd/prometheus?status=sick", "", 400, "status")
	s.want("GET /v1/sd/prometheus?zone=a&zone=b", "", 400, "give it once")
}
