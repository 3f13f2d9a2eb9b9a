package httpapi

import (
	"strings"
	"testing"

	"disc/discovery"
	"disc/discovery/view"
)

// envoy answers as Envoy's half of the agent would: {} has no version yet.
type envoy struct{}

func (envoy) Scopes([]byte) []discovery.Scope { return nil }

func (envoy) Endpoints(s *view.Snapshot, request []byte) ([]byte, bool, error) {
	const version = `"7-0123456789abcdef"`
	switch {
	case !strings.HasPrefix(string(request), "{"):
		return nil, false, discovery.Errorf(discovery.ErrInvalid, "no DiscoveryRequest")
	case strings.Contains(string(request), version):
		return nil, true, nil
	}
	return []byte(`{"version_info":` + version + `,"resources":[],"type_url":"type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"}`), false, nil
}

func TestEnvoyAsks(t *testing.T) {
	const path = "POST /v3/discovery:endpoints"
	f := withWebs(1)
	s := serve(t, f.api(t, Options{}))
	got := s.want(path, `{"resource_names":["web"]}`, 200, `"version_info":"7-0123456789abcdef"`)
	if got.Header.Get("Disc-Revision") != "1" || got.Header.Get("Disc-Age") != "1.500" || got.Header.Get("Content-Type") != "application/json" {
		t.Errorf("header %v", got.Header)
	}
	got = s.want(path, `{"version_info":"7-0123456789abcdef"}`, 304)
	if got.body != "" || got.Header.Get("Disc-Revision") != "1" {
		t.Errorf("header %v, body %q", got.Header, got.body)
	}
	s.want(path, "web", 400, "no DiscoveryRequest")
	s.want("GET /v3/discovery:endpoints", "", 405, "use POST")
	s.do(path, "{}", "Host: xds_cluster").want(t, 421, "http.allow_hosts")
	f.update(func() { f.err = discovery.Errorf(discovery.ErrUnavailable, "no view yet") })
	s.want(path, "{}", 503, "no view yet")
}
