package registry

import (
	"fmt"
	"slices"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/lease"
	"disc/discovery/retry/retrytest"
	"disc/discovery/view"
)

// session is the lease of a registry that speaks to no etcd.
var session = lease.Lease{ID: 7, TTL: sessionTTL}

// atRest returns a registry of n instances of the service web, all of which are in etcd as far as it
// and its view know. It does not run.
func atRest(t testing.TB, n int) (*Registry, *fakeView) {
	t.Helper()
	s := &fakeView{changed: make(chan struct{})}
	r := etcdtest.Must(New(nil, keys, nil, s, Identity{Owner: "owner", RunID: "run", Node: discovery.Node{Node: "here"}}, Options{}))
	var changes []view.Change
	for i := range n {
		one := instance(fmt.Sprintf("%04d", i))
		r.Put(one)
		d := r.desired[keys.Instance("web", one.ID)]
		d.modRevision, d.observedRevision, d.lease, d.observed, d.writtenGeneration = 1, 1, session.ID, true, d.generation
		changes = append(changes, view.Change{Key: keys.Parse(d.key), Value: d.instance.Encode(), Created: 1, Modified: 1, Lease: int64(session.ID)})
	}
	s.begin(0, "")
	s.show(1, changes...)
	r.nodeLease, r.nodeRevision = session.ID, 1
	s.show(2, view.Change{Key: keys.Parse(keys.Node("here", "owner")), Value: []byte(`{"node":"here","agent":"owner"}`), Created: 2, Modified: 2})
	pass(t, r)
	return r, s
}

// pass reconciles a registry as Run does.
func pass(t testing.TB, r *Registry) (again <-chan time.Time) {
	t.Helper()
	r.compareWithView(session)
	if err := r.reconcile(t.Context(), session.ID); err != nil {
		t.Fatal(err)
	}
	return r.nextAttempt(session.ID)
}

// changeOf returns the change of another agent's instance.
func changeOf(service string, revision int64) view.Change {
	key := keys.Instance(service, "elsewhere")
	value := fmt.Sprintf(`{"service":%q,"id":"elsewhere","address":"10.0.0.9","port":80,"weight":%d}`, service, 1+revision%100)
	return view.Change{Key: keys.Parse(key), Value: []byte(value), Created: 3, Modified: revision, Lease: 9}
}

// stateOf returns an instance's desired and observed state.
func stateOf(r *Registry, id string) *desired { return r.desired[keys.Instance("web", id)] }

// A change makes the registry look at the instances that it touches, and at no others.
func TestWorkOfAChange(t *testing.T) {
	t.Parallel()
	const n = 1000
	r, s := atRest(t, n)
	want := func(what string, unconfirmed, queued int) {
		t.Helper()
		r.findUnconfirmed(s.now(), false)
		if len(r.unconfirmed) != unconfirmed || len(r.queue.heap) != queued {
			t.Errorf("%s: %d instances are compared with the view and %d need work, want %d and %d", what, len(r.unconfirmed), len(r.queue.heap), unconfirmed, queued)
		}
	}
	want("at rest", 0, 0)
	for n, service := range []string{"other", "web"} {
		revision := int64(3 + n)
		s.show(revision, changeOf(service, revision))
		want("after a change of another instance of "+service, 0, 0)
		pass(t, r)
	}
	for id, deleted := range map[string]bool{"0001": false, "0002": true} {
		c := view.Change{Key: keys.Parse(keys.Instance("web", id)), Modified: 5}
		if !deleted {
			c.Value, c.Created = []byte(foreign(id, "other", "r", "")), 1
		}
		s.show(5, c)
	}
	want("after others changed two of them", 2, 0)
	r.compareWithView(session)
	want("after the comparison", 0, 2) // they are suspect
	i := instance("0003")
	i.Weight = 2
	r.Put(i)
	want("after a change here", 1, 3)
	if err := r.ReportLoad("web", "0004", 0.5); err != nil {
		t.Fatal(err)
	}
	want("after a report of load", 2, 4)
	r.suspectAll()
	want("at a resync", n, n)
}

// The metric counts each instance in its phase, and none that has left.
func TestPhasesAreCounted(t *testing.T) {
	t.Parallel()
	r, _ := atRest(t, 5)
	want := func(what string, pending, written, conflict, leaving float64) {
		t.Helper()
		for phase, n := range map[Phase]float64{PhasePending: pending, PhaseWritten: written, PhaseConflict: conflict, PhaseLeaving: leaving} {
			var m dto.Metric
			if err := r.metrics.instances.WithLabelValues(string(phase)).Write(&m); err != nil {
				t.Fatal(err)
			}
			if got := m.GetGauge().GetValue(); got != n {
				t.Errorf("%s: %v are %s, want %v", what, got, phase, n)
			}
		}
	}
	want("at rest", 0, 5, 0, 0)
	for n, d := range r.desired {
		switch n {
		case keys.Instance("web", "0000"):
			d.yieldTo(discovery.Instance{Owner: "other"}, false)
			r.update(d)
		case keys.Instance("web", "0001"):
			i := d.instance
			i.Weight = 2
			r.PutStatus(i)
		case keys.Instance("web", "0002"):
			r.Remove("web", "0002")
		}
	}
	want("after changes", 1, 2, 1, 1)
	r.Remove("web", "0000")
	want("after one has left", 1, 2, 0, 1)
}

// A load report that has expired before it could be written needs nothing any more.
func TestExpiredLoadNeedsNothing(t *testing.T) {
	t.Parallel()
	r, _ := atRest(t, 2)
	for _, id := range []string{"0000", "0001"} {
		if err := r.ReportLoad("web", id, 0.5); err != nil {
			t.Fatal(err)
		}
		l := &r.desired[keys.Instance("web", id)].load
		l.reportedAt = l.reportedAt.Add(-time.Hour) // as if time had passed
	}
	if again := pass(t, r); again != nil || len(r.queue.heap) != 0 {
		t.Errorf("%d instances need work, and again at %v", len(r.queue.heap), again)
	}
}

// A record that is removed before the view has shown it comes back, although it is in no view.
func TestRemovedBeforeTheViewShowsIt(t *testing.T) {
	t.Parallel()
	for name, without := range map[string][]discovery.Scope{"a late view": nil, "a view without the service": {serviceScope("web")}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &fakeView{changed: make(chan struct{}), without: without}
			s.begin(1, "")
			a := start(t, etcdtest.Start(t).Endpoint(), settings{view: s, resyncInterval: time.Hour})
			a.put("elsewhere", "") // the view is older than the record from here on
			at := a.putAndAwait("a").Revision
			a.delete("a")
			compared := func(revision int64) {
				retrytest.Eventually(t, "a comparison with the view", func() bool {
					a.mu.Lock()
					defer a.mu.Unlock()
					return a.compared.Revision() == revision
				})
			}
			s.show(at - 1)
			compared(at - 1)
			if without != nil {
				s.show(at+10, changeOf("other", at+10))
				compared(at + 10)
				s.mu.Lock()
				s.without = nil
				s.mu.Unlock()
			}
			s.show(at+11, changeOf("other", at+11))
			retrytest.Eventually(t, "the repair", func() bool { return a.ownsRecord("a") })
		})
	}
}

// maxTimesFew bounds what a change of another agent's instance costs beside 4,000 registrations, in
// times of its cost beside 40: of another service, and of theirs, whose 4,000 instances the view has
// in one list.
var maxTimesFew = map[string]float64{"other": 3, "web": 20}

// BenchmarkChangeBeside measures the median of what a change of another agent's instance costs the
// registry, beside 40 and beside 4,000 registrations. It fails above maxTimesFew.
func BenchmarkChangeBeside(b *testing.B) {
	for service, most := range maxTimesFew {
		b.Run(service, func(b *testing.B) {
			few, many := changesBeside(b, 40, service), changesBeside(b, 4000, service)
			var fewTook, manyTook []time.Duration
			for range b.N {
				fewTook, manyTook = append(fewTook, few()), append(manyTook, many())
			}
			slices.Sort(fewTook)
			slices.Sort(manyTook)
			took := manyTook[b.N/2]
			times := took.Seconds() / fewTook[b.N/2].Seconds()
			if b.N >= 100 && times > most {
				b.Errorf("a change takes %.1f times as long beside 4,000 registrations as beside 40, want at most %v", times, most)
			}
			b.ReportMetric(times, "times-few")
			b.ReportMetric(float64(took.Nanoseconds()), "ns/change")
		})
	}
}

// changesBeside returns a function that changes another agent's instance, and returns how long the
// registry takes for it beside n registrations.
func changesBeside(b *testing.B, n int, service string) func() time.Duration {
	b.Helper()
	r, s := atRest(b, n)
	revision := int64(2)
	return func() time.Duration {
		revision++
		s.show(revision, changeOf(service, revision))
		began := time.Now()
		pass(b, r)
		return time.Since(began)
	}
}
