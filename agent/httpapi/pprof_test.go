package httpapi

import (
	"strings"
	"testing"
)

func TestProfilesAreForWhoMayHaveThem(t *testing.T) {
	open := serve(t, withWebs(1).api(t, Options{}))
	open.want("GET /debug/pprof/heap", "", 403, "http.socket", "http.tokens")
	open.want("GET /debug/pprof/profile?seconds=1", "", 403)

	s := serve(t, withWebs(1).api(t, Options{Access: withToken("first")}))
	s.want("GET /debug/pprof/heap", "", 401)
	s.want("GET /debug/pprof/profile?seconds=1", "", 401)
	s.do("GET /debug/pprof/heap", "", "Authorization: Bearer first").want(t, 200)
}

func TestProfiles(t *testing.T) {
	t.Parallel()
	s := serveUnix(t, withWebs(1).api(t, Options{}))
	const gzip = "\x1f\x8b" // what pprof reads
	for _, path := range []string{"heap", "goroutine", "allocs?gc=true", "profile?seconds=1"} {
		if got := s.want("GET /debug/pprof/"+path, "", 200); !strings.HasPrefix(got.body, gzip) {
			t.Errorf("%s: %q", path, got.body)
		}
	}
	s.want("GET /debug/pprof/goroutine?debug=1", "", 200, "goroutine profile: total")
	s.want("GET /debug/pprof/nosuch", "", 404, "profile (of the CPU)", "heap")
	for _, seconds := range []string{"0", "121", "x"} {
		s.want("GET /debug/pprof/profile?seconds="+seconds, "", 400, "use 1 to 120")
	}
}
