package httpapi

import (
	"net/http"
	"testing"
)

// denyingCatalog denies a service once a blocking query for it waits.
type denyingCatalog struct {
	*fleet
	service string
}

func (c denyingCatalog) Changed(service string) <-chan struct{} {
	changed := c.fleet.Changed(service)
	c.deny(c.service)
	return changed
}

// A blocking query for a service that etcd forbids to read meanwhile is 503, not 404 or empty.
func TestBlockingQueryForWhatIsForbidden(t *testing.T) {
	for _, path := range []string{"/v1/lookup/web", "/v1/services/web", "/v1/services/web/instances/web-1"} {
		t.Run(path, func(t *testing.T) {
			f := withWebs(1)
			a := f.api(t, Options{}, func(b *Backends) { b.Catalog = denyingCatalog{f, "web"} })
			w := ask(a, "GET", path+"?index=1&wait=10m", "", nil, func(r *http.Request) { *r = *r.WithContext(t.Context()) })
			if w.Code != 503 {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		})
	}
}

// A stream of events ends when etcd forbids to read its service: it sends no reset without the
// instances.
func TestWatchOfWhatIsForbidden(t *testing.T) {
	f := withWebs(1)
	s := serve(t, f.api(t, Options{}))
	w := s.watching("?service=web", "")
	w.want("1-e1", "reset", `{"revision":1,"service":"web","instances":[{`)
	f.update(func() { f.logFrom = 9 })
	f.deny("web")
	for w.lines.Scan() {
		if text := w.lines.Text(); text != "" && text != ": " {
			t.Fatalf("it sent %q", text)
		}
	}
	s.want("GET /v1/watch?service=web", "", 503, "etcd denies permission")
}
