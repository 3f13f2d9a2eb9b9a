package catalog

import (
	"errors"
	"testing"
	"time"

	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/retry/retrytest"
	"disc/discovery/view"
)

// newLoadedCatalog returns a catalog that is not running and has three instances of web.
func newLoadedCatalog() *Catalog {
	var changes []view.Change
	for _, id := range []string{"a", "b", "c"} {
		key := discovery.Key{Kind: discovery.KeyInstance, Service: "web", ID: id}
		changes = append(changes, view.Change{Key: key, Value: []byte(record("web", id)), Created: 1, Modified: 1})
	}
	s, _, _ := view.EmptySnapshot().Apply(1, changes)
	c := etcdtest.Must(New(nil, keys, Options{}))
	c.state.Store(&state{snapshot: s, whole: true, confirmed: time.Now()})
	return c
}

func TestService(t *testing.T) {
	t.Parallel()
	if _, err := etcdtest.Must(New(nil, keys, Options{})).Service("web"); !errors.Is(err, discovery.ErrUnavailable) {
		t.Errorf("without a view: %v", err)
	}
	c := newLoadedCatalog()
	for _, name := range []string{"web", "WEB"} {
		if web, err := c.Service(name); err != nil || len(web.Eligible()) != 3 {
			t.Errorf("%s: %+v, %v", name, web, err)
		}
	}
	if _, err := c.Service("nobody"); !errors.Is(err, discovery.ErrNotFound) {
		t.Errorf("nobody: %v", err)
	}
}

// A service that is not watched yet is unavailable, not unknown.
func TestServiceByInterest(t *testing.T) {
	t.Parallel()
	f, _ := lazily(t, Options{Watch: WatchLazy})
	f.register("web", "a")
	if _, err := f.Service("web"); !errors.Is(err, discovery.ErrUnavailable) {
		t.Errorf("before it is read: %v", err)
	}
	if err := f.Ensure(f.ctx(), named("web")); err != nil {
		t.Fatal(err)
	}
	if web, err := f.Service("web"); err != nil || len(web.Eligible()) != 1 {
		t.Errorf("after it is read: %+v, %v", web, err)
	}
	f.idle()
	if _, err := f.Service("web"); !errors.Is(err, discovery.ErrUnavailable) {
		t.Errorf("after the idle timeout: %v", err)
	}
}

func TestServiceAllocatesNothing(t *testing.T) {
	c := newLoadedCatalog()
	if n := retrytest.Allocations(1000, func() {
		if web, err := c.Service("web"); err != nil || len(web.Eligible()) != 3 {
			t.Error(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkService(b *testing.B) {
	c := newLoadedCatalog()
	b.ReportAllocs()
	for b.Loop() {
		if web, err := c.Service("web"); err != nil || len(web.Eligible()) != 3 {
			b.Fatal(err)
		}
	}
}
