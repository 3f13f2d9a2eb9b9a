package envoy

import (
	"testing"

	"disc/discovery/retry/retrytest"
)

func TestSubscriptionAdvances(t *testing.T) {
	f := pair(t)
	s := newSubscription(f)
	defer func() { s.release() }()
	s.set([]string{"web", "nosuch"})
	for _, step := range []struct {
		name string
		do   func()
		want bool
	}{
		{"first look", func() {}, true},
		{"nothing new", func() {}, false},
		{"another service changes", func() { f.put(t, "db/instances/db-1", `"port":7`) }, false},
		{"its service changes", func() { f.put(t, "web/instances/web-1", `"port":7`) }, true},
		{"its missing service appears", func() { f.put(t, "nosuch/instances/n-1", `"port":1`) }, true},
		{"a request came in", s.invalidate, true},
		{"the same services", func() { s.set([]string{"web", "nosuch"}) }, false},
		{"other services", func() { s.set([]string{"web"}) }, true},
		{"all services", func() { s.set([]string{""}) }, true},
		{"all services, nothing new", func() {}, true},
	} {
		one, other := s.changed()
		step.do()
		if got := s.advance(f.snapshot()); got != step.want {
			t.Errorf("%s: advance is %v", step.name, got)
		}
		if step.name == "another service changes" {
			select {
			case <-one:
				t.Error("a subscription of two services wakes for a third")
			case <-other:
				t.Error("a subscription of two services wakes for a third")
			default:
			}
		}
	}
}

// A change of another service costs a stream no allocation.
func TestAnotherServiceCostsNothing(t *testing.T) {
	f := pair(t)
	s := newSubscription(f)
	s.set([]string{"web", "db"})
	snapshot := f.snapshot()
	s.advance(snapshot)
	if n := retrytest.Allocations(100, func() {
		if !s.complete() || s.advance(snapshot) {
			t.Error("a change is reported")
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestWithoutServicesNothingWakes(t *testing.T) {
	if one, other := newSubscription(pair(t)).changed(); one != nil || other != nil {
		t.Error("there is a channel")
	}
}
