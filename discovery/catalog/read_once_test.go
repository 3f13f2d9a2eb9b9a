package catalog

import (
	"testing"

	"disc/discovery/retry/retrytest"
)

// utilization returns the utilization that the view has of an instance; -1: none.
func (f *fixture) utilization(service, id string) float64 {
	f.t.Helper()
	s, ok := f.snapshot().Service(service)
	if !ok {
		return -1
	}
	e, ok := s.Entry(id)
	if !ok || e.Utilization == nil {
		return -1
	}
	return *e.Utilization
}

// When single services are watched, the view has the load reports of those, and not of
// others.
func TestLoadByInterest(t *testing.T) {
	t.Parallel()
	f, _ := lazily(t, Options{Watch: WatchLazy})
	for _, service := range []string{"web", "db"} {
		f.register(service, "a")
		f.put(keys.Load(service, "a"), `{"utilization":0.2}`)
	}
	if _, err := f.lookup("web"); err != nil {
		t.Fatal(err)
	}
	if got := f.utilization("web", "a"); got != 0.2 {
		t.Errorf("web/a has the load %v", got)
	}
	f.put(keys.Load("db", "a"), `{"utilization":0.9}`)
	f.reached(f.put(keys.Load("web", "a"), `{"utilization":0.9}`))
	retrytest.Eventually(f.t, "the load of web", func() bool { return f.utilization("web", "a") == 0.9 })
	if f.utilization("db", "a") != -1 {
		t.Error("the view has the load of db, which nobody looked up")
	}
}

// A load report that changed or was deleted during a gap is found, and wakes nobody.
func TestLoadOverAGap(t *testing.T) {
	t.Parallel()
	f, link := linked(t, Options{Life: anyLife})
	f.register("web", "a")
	f.register("web", "b")
	f.put(keys.Load("web", "a"), `{"utilization":0.2}`)
	f.reached(f.put(keys.Load("web", "b"), `{"utilization":0.2}`))
	web := f.Changed("web")
	before := mustService(t, f.snapshot(), "web").Index()

	link.Freeze()
	f.put(keys.Load("web", "a"), `{"utilization":0.7}`)
	last := f.remove(keys.Load("web", "b"))
	if _, err := f.etcd.Compact(f.ctx(), last); err != nil {
		t.Fatal(err)
	}
	link.Cut()
	link.Mend()
	f.reached(last)
	f.settled()
	if a, b := f.utilization("web", "a"), f.utilization("web", "b"); a != 0.7 || b != -1 {
		t.Errorf("after a gap the loads are %v and %v, want 0.7 and none", a, b)
	}
	if after := mustService(t, f.snapshot(), "web").Index(); after != before || isClosed(web) {
		t.Errorf("index %d, was %d; woken %v", after, before, isClosed(web))
	}
}
