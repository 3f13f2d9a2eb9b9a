package registry

import (
	"errors"
	"strings"
	"testing"
	"time"

	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/retry/retrytest"
)

func TestConflict(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]settings{"view": {resyncInterval: time.Hour}, "resync": {view: emptyView{}, resyncInterval: 100 * time.Millisecond}} {
		t.Run(name, func(t *testing.T) {
			a := start(t, etcdtest.Start(t).Endpoint(), s)
			a.put("a", foreign("a", "other", "r", ""))
			a.Put(instance("a"))
			got := a.awaitSettled("a")
			var conflict *discovery.ConflictError
			if got.Phase != PhaseConflict || !errors.As(got.Err, &conflict) || conflict.Node != "elsewhere" || conflict.Owner != "other" || conflict.Cloned {
				t.Fatalf("state %+v", got)
			}
			if !strings.Contains(got.Err.Error(), "node elsewhere (owner other)") {
				t.Errorf("error %v", got.Err)
			}
			a.Put(instance("a")) // the same again
			if got := a.awaitSettled("a"); got.Phase != PhaseConflict {
				t.Errorf("put again: %+v", got)
			}
			a.putAndAwait("b") // other instances are not held up
			a.put("a", foreign("a", "third", "r", ""))
			retrytest.Eventually(t, "the new holder", func() bool {
				return errors.As(a.awaitSettled("a").Err, &conflict) && conflict.Owner == "third"
			})
			a.delete("a")
			retrytest.Eventually(t, "the retry", func() bool { return a.ownsRecord("a") })
			if got := a.awaitSettled("a"); got.Phase != PhaseWritten || got.Err != nil {
				t.Errorf("state %+v", got)
			}
		})
	}
}

// A conflict is likely where the view shows the record of another, or does not tell.
func TestMayConflict(t *testing.T) {
	t.Parallel()
	a := start(t, etcdtest.Start(t).Endpoint(), settings{resyncInterval: time.Hour})
	a.put("foreign", foreign("foreign", "other", "r", ""))
	a.put("leaving", foreign("leaving", "other", "r", `,"leaving":true`))
	a.putAndAwait("own")
	service := instance("own").Service
	for _, id := range []string{"foreign", "leaving", "own"} {
		retrytest.Eventually(t, "the view to show "+id, func() bool { return recordOf(a.view.(*fakeView).now(), service, id) != nil })
	}
	for id, want := range map[string]bool{"foreign": true, "leaving": false, "own": false, "new": false} {
		if got := a.MayConflict(service, id); got != want {
			t.Errorf("%s: %t, want %t", id, got, want)
		}
	}
	if !(&Registry{view: emptyView{}}).MayConflict(service, "new") {
		t.Error("without a view: false, want true")
	}
}

// A tombstone is no conflict, and removing an instance in conflict leaves the holder's
// record alone.
func TestConflictEnds(t *testing.T) {
	t.Parallel()
	a := start(t, etcdtest.Start(t).Endpoint(), settings{resyncInterval: time.Hour})
	a.put("a", foreign("a", "other", "r", ""))
	a.put("b", foreign("b", "other", "r", ""))
	a.put("c", foreign("c", "other", "r", `,"leaving":true`))
	for _, id := range []string{"a", "b", "c"} {
		a.Put(instance(id))
	}
	if s := a.awaitSettled("c"); s.Phase != PhaseWritten || s.Created {
		t.Errorf("over a tombstone: %+v", s)
	}
	a.awaitSettled("a")
	a.put("a", foreign("a", "other", "r", `,"leaving":true`))
	retrytest.Eventually(t, "the key to be taken over", func() bool { return a.ownsRecord("a") })

	a.awaitSettled("b")
	a.Remove("web", "b")
	if s := a.awaitSettled("b"); s.Phase != "" {
		t.Errorf("removed in conflict: %+v", s)
	}
	if i := a.record("b"); i.Owner != "other" || i.Leaving {
		t.Errorf("the holder's record is %+v", i)
	}
}

// A put after a conflict reads the key anew, whatever the view shows.
func TestPutAfterAConflict(t *testing.T) {
	t.Parallel()
	a := start(t, etcdtest.Start(t).Endpoint(), settings{view: emptyView{}, resyncInterval: time.Hour})
	a.put("a", foreign("a", "other", "r", ""))
	a.Put(instance("a"))
	a.awaitSettled("a")
	a.delete("a")
	a.putAndAwait("a")
}

// With a copied data directory two agents have one owner. One gives way, and the rewriting
// ends.
func TestClone(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t).Endpoint()
	one := start(t, etcd, settings{run: "one", resyncInterval: time.Hour})
	two := start(t, etcd, settings{run: "two", resyncInterval: time.Hour})
	one.putAndAwait("a")
	two.Put(instance("a"))
	cloned := func(a *agent) bool {
		var conflict *discovery.ConflictError
		s, err := a.State("web", "a")
		return err == nil && errors.As(s.Err, &conflict) && conflict.Cloned
	}
	retrytest.Eventually(t, "one agent to give way", func() bool { return cloned(one) != cloned(two) })
	winner, loser := one, two
	if cloned(one) {
		winner, loser = two, one
	}
	retrytest.Eventually(t, "the other to register it", func() bool { return winner.ownsRecord("a") && winner.awaitSettled("a").Phase == PhaseWritten })
	if story := one.history("a"); len(story) > 6 || strings.Trim(story, "P") != "" {
		t.Errorf("history %s", story)
	}
	before := modified(winner, "a")
	winner.Resync()
	loser.Resync()
	winner.putAndAwait("after")
	loser.putAndAwait("after-too")
	if after := modified(winner, "a"); after != before {
		t.Errorf("the rewriting goes on: revision %d after %d", after, before)
	}
	winner.Remove("web", "a")
	retrytest.Eventually(t, "the loser to register it once the winner leaves", func() bool { return loser.ownsRecord("a") })
}

// Rewrites count only if they come within a TTL, and the record of an earlier run does not
// count.
func TestCountRewrite(t *testing.T) {
	const ttl = 15 * time.Second
	now := time.Now()
	d := &desired{}
	for n, test := range []struct {
		seen  bool
		after time.Duration
		want  bool
	}{{false, 0, false}, {true, 0, false}, {true, ttl + 1, false}, {true, ttl - 1, true}, {true, ttl + 1, false}} {
		d.observed = test.seen
		now = now.Add(test.after)
		if got := d.countRewrite(now, ttl); got != test.want {
			t.Errorf("%d: cloned %v", n, got)
		}
	}
}
