package catalog

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/lookup"
	"disc/discovery/view"
)

// simulation is a mass-loss guard over a view, without etcd, on a synctest bubble's clock.
type simulation struct {
	*suspectTracker
	view     *view.Snapshot
	revision int64
	events   []view.Event

	lastOrder view.Change // see order
}

func newSimulation() *simulation {
	return &simulation{
		suspectTracker: newSuspectTracker(MassLossGuard{}, slog.New(slog.DiscardHandler), etcdtest.Must(newMetrics(nil))),
		view:           view.EmptySnapshot().WithEpoch("e"), revision: 1,
	}
}

// apply applies changes and makes the decisions that are due.
func (sim *simulation) apply(changes ...view.Change) {
	sim.markDeletions(changes)
	next, events, _ := sim.view.Apply(sim.revision, changes)
	sim.view, sim.events = next, append(sim.events, sim.track(next, changes, events, false, time.Now())...)
	sim.resolveAll()
}

func (sim *simulation) resolveAll() {
	next, events := sim.view.Resolve(sim.massLossDetector.resolve(sim.view, time.Now()))
	sim.view, sim.events = next, append(sim.events, events...)
}

// wait lets time pass and makes the decisions when they are due.
func (sim *simulation) wait(d time.Duration) {
	for end := time.Now().Add(d); ; {
		at := sim.nextDecision()
		if at.IsZero() || at.After(end) {
			time.Sleep(time.Until(end))
			return
		}
		time.Sleep(time.Until(at))
		sim.resolveAll()
	}
}

func (sim *simulation) change(service string, n int, value string) view.Change {
	sim.revision++
	id := fmt.Sprintf("i%03d", n)
	c := view.Change{Key: discovery.Key{Kind: discovery.KeyInstance, Service: service, ID: id}, Modified: sim.revision}
	if value != "" {
		c.Created, c.Lease, c.Value = sim.revision, 7, []byte(strings.Replace(record(service, id), "{", "{"+value, 1))
	}
	return c
}

func (sim *simulation) up(service string, from, to int) {
	for n := from; n < to; n++ {
		sim.apply(sim.change(service, n, `"weight":1,`))
	}
}

// die deletes instances one after the other, as etcd does when their leases expire.
func (sim *simulation) die(service string, from, to int) {
	for n := from; n < to; n++ {
		sim.apply(sim.change(service, n, ""))
	}
}

func (sim *simulation) leave(service string, from, to int) {
	for n := from; n < to; n++ {
		sim.apply(sim.change(service, n, `"leaving":true,`))
	}
}

// shown returns the number of instances that lookups return, and of suspects among them.
func (sim *simulation) shown(service string) string {
	of, ok := sim.view.Service(service)
	if !ok {
		return "unknown"
	}
	return fmt.Sprintf("%d %d", len(of.Entries()), len(of.Suspects()))
}

func TestMassLoss(t *testing.T) {
	simulate(t, map[string]simulated{
		"one of ten":               {func(sim *simulation) { sim.up("web", 0, 10); sim.die("web", 0, 1) }, "9 0"},
		"one of one":               {func(sim *simulation) { sim.up("web", 0, 1); sim.die("web", 0, 1) }, "0 0"},
		"the whole of a small one": {func(sim *simulation) { sim.up("web", 0, 2); sim.up("db", 0, 50); sim.die("web", 0, 2) }, "0 0"},
		"all there is":             {func(sim *simulation) { sim.up("web", 0, 2); sim.die("web", 0, 2) }, "2 2"},
		"three of a small one":     {func(sim *simulation) { sim.up("web", 0, 3); sim.up("db", 0, 50); sim.die("web", 0, 3) }, "3 3"},
		"14 of a hundred":          {func(sim *simulation) { sim.up("web", 0, 100); sim.die("web", 0, 14) }, "86 0"},
		"15 of a hundred":          {func(sim *simulation) { sim.up("web", 0, 100); sim.die("web", 0, 15) }, "85 0"},
		"16 of a hundred":          {func(sim *simulation) { sim.up("web", 0, 100); sim.die("web", 0, 16) }, "100 16"},
		"many of others": {func(sim *simulation) {
			sim.up("web", 0, 10)
			sim.up("db", 0, 10)
			sim.die("db", 0, 4)
			sim.die("web", 0, 1)
		}, "10 1"},
		"few by few": {func(sim *simulation) {
			sim.up("web", 0, 20)
			sim.die("web", 0, 3)
			sim.wait(time.Second)
			sim.die("web", 3, 5)
		}, "17 2"},
		"measured by what there was": {func(sim *simulation) {
			sim.up("web", 0, 20)
			sim.die("web", 0, 2)
			sim.wait(time.Second)
			sim.die("web", 2, 3)
		}, "17 0"},
		"far apart": {func(sim *simulation) {
			sim.up("web", 0, 20)
			sim.die("web", 0, 3)
			sim.wait(time.Minute)
			sim.die("web", 3, 5)
		}, "15 0"},
		"scaled to zero": {func(sim *simulation) { sim.up("web", 0, 20); sim.leave("web", 0, 20); sim.die("web", 0, 20) }, "0 0"},
		"back in time": {func(sim *simulation) {
			sim.up("web", 0, 10)
			sim.die("web", 0, 1)
			sim.wait(100 * time.Millisecond)
			sim.up("web", 0, 1)
		}, "10 0"},
		"back from among suspects": {func(sim *simulation) {
			sim.up("web", 0, 10)
			sim.die("web", 0, 5)
			sim.wait(time.Minute)
			sim.up("web", 0, 3)
		}, "10 2"},
		"left from among suspects": {func(sim *simulation) {
			sim.up("web", 0, 10)
			sim.die("web", 0, 5)
			sim.wait(time.Minute)
			sim.leave("web", 0, 3)
		}, "7 2"},
		"nobody comes back": {func(sim *simulation) { sim.up("web", 0, 10); sim.die("web", 0, 10); sim.wait(suspectTimeout) }, "0 0"},
		"nearly ten minutes": {func(sim *simulation) {
			sim.up("web", 0, 10)
			sim.die("web", 0, 10)
			sim.wait(suspectTimeout - time.Minute)
		}, "10 10"},
		"one does not answer": {func(sim *simulation) {
			sim.up("web", 0, 10)
			sim.die("web", 0, 5)
			sim.massLossDetector.failProbe(instanceKey{"web", "i002"})
		}, "9 4"},
		"a slow burst of very many": {func(sim *simulation) { sim.up("web", 0, 900); slowly(sim, 900) }, "900 900"},
		"in etcd's rounds": {func(sim *simulation) {
			sim.up("web", 0, 900)
			for n := 0; n < 900; n += 50 {
				sim.die("web", n, n+50)
				sim.wait(500 * time.Millisecond)
			}
		}, "900 900"},
		"one in the first of etcd's rounds": {func(sim *simulation) {
			sim.up("web", 0, 100)
			sim.die("web", 0, 1)
			sim.wait(500 * time.Millisecond)
			sim.die("web", 1, 100)
		}, "100 100"},
	})
}

// simulated is a course of events and its outcome.
type simulated struct {
	do   func(sim *simulation)
	want string // of web: shown, and suspects among them
}

func simulate(t *testing.T, tests map[string]simulated) {
	t.Helper()
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sim := newSimulation()
				test.do(sim)
				sim.resolveAll()
				sim.wait(burstPause)
				if got := sim.shown("web"); got != test.want {
					t.Errorf("shown and suspect are %s, want %s", got, test.want)
				}
				compareEvents(t, sim)
			})
		})
	}
}

// slowly lets instances die at a pace at which few vanish within a pause.
func slowly(sim *simulation, n int) {
	for i := range n {
		sim.die("web", i, i+1)
		sim.wait(10 * time.Millisecond)
	}
}

// compareEvents checks that the events lead to what the view shows.
func compareEvents(t *testing.T, sim *simulation) {
	t.Helper()
	replayed, shown := map[string]bool{}, map[string]bool{}
	at := discovery.Cursor{Epoch: "e"}
	for _, e := range sim.events {
		if cursor := e.Cursor("e"); cursor.Compare(at) < 0 {
			t.Fatalf("an event of %v comes after one of %v", cursor, at)
		} else {
			at = cursor
		}
		if e.Type == view.EventDelete {
			delete(replayed, e.Service+"/"+e.ID)
			continue
		}
		replayed[e.Service+"/"+e.ID] = e.Entry.Suspect
	}
	for service := range sim.view.Services() {
		for _, e := range service.Entries() {
			shown[e.Service+"/"+e.ID] = e.Suspect
		}
	}
	if fmt.Sprint(replayed) != fmt.Sprint(shown) {
		t.Errorf("the events lead to %v, the view shows %v", replayed, shown)
	}
}

// An instance that returns before the decision on its loss causes one event, of its new
// record.
func TestReturnBeforeTheDecision(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newSimulation()
		sim.up("web", 0, 10)
		sim.events = nil
		sim.die("web", 3, 4)
		if _, stands := must(sim.view.Service("web")).Record("i003"); stands {
			t.Error("the registry would not see that its record is gone")
		}
		for key := range sim.view.Keys() {
			if key.ID == "i003" {
				t.Error("a comparison with etcd would not see that the record is back")
			}
		}
		sim.up("web", 3, 4)
		sim.wait(time.Minute)
		if len(sim.events) != 1 || sim.events[0].Type != view.EventPut {
			t.Errorf("events are %+v", sim.events)
		}
	})
}

func must[T any](v T, ok bool) T {
	if !ok {
		panic("there is none")
	}
	return v
}

// Whatever happens, an instance that was deregistered is not shown, one that is up is shown
// and no suspect, and the detector agrees with the view on the missing ones.
func TestMassLossRandom(t *testing.T) {
	for seed := range uint64(30) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 2))
			sim := newSimulation()
			state := map[instanceKey]string{}
			for range 300 {
				service, n := []string{"web", "db"}[r.IntN(2)], r.IntN(12)
				i := instanceKey{service, fmt.Sprintf("i%03d", n)}
				switch do := r.IntN(6); {
				case do < 2:
					sim.up(service, n, n+1)
					state[i] = "up"
				case do == 2 && state[i] == "up":
					sim.leave(service, n, n+1)
					state[i] = "left"
				case do == 3 && state[i] != "":
					sim.die(service, n, n+1)
					if state[i] == "up" {
						state[i] = "dead"
					}
				case do == 4:
					sim.wait(rand.N(time.Second))
				case do == 5 && r.IntN(10) == 0:
					sim.wait(rand.N(time.Minute))
				}
				for i, is := range state {
					of, _ := sim.view.Service(i.service)
					e, shown := of.Entry(i.id)
					if is == "left" && shown || is == "up" && (!shown || e.Suspect) {
						t.Fatalf("seed %d: %v is %s and shown %v", seed, i, is, shown)
					}
					missing, ok := sim.view.Missing(i.service, i.id)
					_, suspected := sim.massLossDetector.suspects[i]
					if sim.pending[i] != (ok && !missing.Suspect) || suspected != (ok && missing.Suspect) {
						t.Fatalf("seed %d: the detector has %v pending %v, suspect %v; the view %+v %v", seed, i, sim.pending[i], suspected, missing, ok)
					}
				}
			}
			compareEvents(t, sim)
			sim.wait(suspectTimeout)
			if left := sim.nextDecision(); !left.IsZero() || len(sim.pending)+len(sim.massLossDetector.suspects) > 0 {
				t.Errorf("seed %d: after ten minutes %v are pending, %v suspect", seed, sim.pending, sim.massLossDetector.suspects)
			}
		})
	}
}

// newSuspectsSnapshot returns a snapshot of suspects, by the number for each service.
func newSuspectsSnapshot(services map[string]int) *view.Snapshot {
	before := view.EmptySnapshot()
	sim := &simulation{revision: 1}
	for service, n := range services {
		for i := range n {
			before, _, _ = before.Apply(sim.revision, []view.Change{sim.change(service, i, `"weight":1,`)})
		}
	}
	s, _ := view.EmptySnapshot().RetainServices(before).RetainMissing(before, true)
	return s
}

func TestProbesAreForWhatIsLookedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, r := newSuspectsSnapshot(map[string]int{"web": 15, "db": 2}), probeSchedule{lookedUp: map[string]time.Time{}}
		count := func() int {
			due := r.due(s, time.Now())
			for _, d := range due {
				r.next[d.instanceKey] = time.Now().Add(reprobeAfter)
			}
			return len(due)
		}
		got := []int{count()}
		_, _ = lookup.Lookup(s, lookup.Query{Name: "web"})
		got = append(got, count(), count(), count())
		time.Sleep(reprobeAfter)
		got = append(got, count(), count())
		must(s.Service("db")).Memo("key", func() any { return 1 })
		got = append(got, count())
		time.Sleep(lookedUpTTL)
		got = append(got, count())
		if want := []int{0, 10, 5, 0, 10, 5, 2, 0}; !slices.Equal(got, want) {
			t.Errorf("probed %v, want %v", got, want)
		}
	})
}
