package httpapi

import (
	"slices"
	"strings"
	"testing"

	"disc/agent/access"
)

func TestDescriptionHasEveryRouteAndNoOther(t *testing.T) {
	v := description(t)
	a := newFleet().api(t, Options{})
	var routes []string
	for _, rt := range a.routes {
		path := strings.Replace(rt.path, "...}", "}", 1)
		if slashes := path != rt.path; v.TakesSlashes(path) != slashes {
			t.Errorf("%s: its last parameter may have slashes is %v, which is described as %v", rt.path, slashes, !slashes)
		}
		operation := rt.method + " " + path
		routes = append(routes, operation)
		known := slices.Sorted(slices.Values(rt.params))
		if described := v.Parameters(operation); !slices.Equal(known, described) {
			t.Errorf("%s takes %v, and %v are described", operation, known, described)
		}
		if scopes := v.Scopes(operation); rt.scope == access.Open && len(scopes) != 0 || rt.scope != access.Open && !slices.Equal(scopes, []string{rt.scope.String()}) {
			t.Errorf("%s needs scope %v, and %v is described", operation, rt.scope, scopes)
		}
	}
	slices.Sort(routes)
	if described := v.Operations(); !slices.Equal(routes, described) {
		t.Errorf("the routes are\n%s\nand described are\n%s", strings.Join(routes, "\n"), strings.Join(described, "\n"))
	}
}

func TestDescriptionIsServed(t *testing.T) {
	s := serve(t, newFleet().api(t, Options{}))
	if got := s.want("GET /openapi.json", "", 200); got.body != string(OpenAPI()) {
		t.Error("another description is served")
	}
}

func TestUnknownRoutesAndMethods(t *testing.T) {
	s := serve(t, newFleet().api(t, Options{}))
	for _, path := range []string{"/", "/v1", "/v1/nosuch", "/v1/services/web/instances", "/v1/lookup/"} {
		s.want("GET "+path, "", 404, "see /openapi.json")
	}
	for path, allow := range map[string]string{
		"/v1/lookup/web":                                  "GET, HEAD",
		"/v1/services/web/instances/web-1":                "GET, HEAD, PUT, DELETE",
		"/v1/services/web/instances/web-1/override":       "PATCH, DELETE",
		"/v1/services/web/instances/web-1/checks/service": "PUT",
	} {
		t.Run(path, func(t *testing.T) {
			s := s.in(t)
			got := s.want("POST "+path, "", 405, "does not accept POST")
			if got.Header.Get("Allow") != allow {
				t.Errorf("%s: Allow %q, want %q", path, got.Header.Get("Allow"), allow)
			}
		})
	}
	s.want("GET /healthz?x=1", "", 400, "unknown query parameter x; this path has none")
}
