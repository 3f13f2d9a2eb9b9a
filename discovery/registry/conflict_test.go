package registry

import (
	"errors"
	"strings"
	"testing"
	"time"

	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
)

func TestConflict(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]settings{"view": {resyncInterval: time.Hour}, "sweep": {view: emptyView{}, resyncInterval: 100 * time.Millisecond}} {
		a := start(t, etcdtest.Start(t).Endpoint(), s)
		a.put("a", foreign("a", "other", "r", ""))
		a.Put(instance("a"))
		got := a.awaitSettled("a")
		var conflict *discovery.ConflictError
		if got.Phase != InConflict || !errors.As(got.Err, &conflict) || conflict.Node != "elsewhere" || conflict.Owner != "other" || conflict.Cloned {
			t.Fatalf("%s: state %+v", name, got)
		}
		if !strings.Contains(got.Err.Error(), "node elsewhere (owner other)") {
			t.Errorf("%s: error %v", name, got.Err)
		}
		a.Put(instance("a")) // asked again, the same
		if got := a.awaitSettled("a"); got.Phase != InConflict {
			t.Errorf("%s: asked again: %+v", name, got)
		}
		a.putAndAwait("b") // others are not held up
		a.put("a", foreign("a", "third", "r", ""))
		until(t, name+": the new holder", func() bool {
			return errors.As(a.awaitSettled("a").Err, &conflict) && conflict.Owner == "third"
		})
		a.delete("a")
		until(t, name+": the retry", func() bool { return a.ownsRecord("a") })
		if got := a.awaitSettled("a"); got.Phase != Written || got.Err != nil {
			t.Errorf("%s: state %+v", name, got)
		}
	}
}

// Who leaves stands in nobody's way, and who is refused leaves nothing behind.
func TestConflictEnds(t *testing.T) {
	t.Parallel()
	a := start(t, etcdtest.Start(t).Endpoint(), settings{resyncInterval: time.Hour})
	a.put("a", foreign("a", "other", "r", ""))
	a.put("b", foreign("b", "other", "r", ""))
	a.put("c", foreign("c", "other", "r", `,"leaving":true`))
	for _, id := range []string{"a", "b", "c"} {
		a.Put(instance(id))
	}
	if s := a.awaitSettled("c"); s.Phase != Written || s.Created {
		t.Errorf("over a goodbye: %+v", s)
	}
	a.awaitSettled("a")
	a.put("a", foreign("a", "other", "r", `,"leaving":true`))
	until(t, "the place to be taken", func() bool { return a.ownsRecord("a") })

	a.awaitSettled("b")
	a.Remove("web", "b")
	if s := a.awaitSettled("b"); s.Phase != "" {
		t.Errorf("removed in conflict: %+v", s)
	}
	if i := a.record("b"); i.Owner != "other" || i.Leaving {
		t.Errorf("the holder's record is %+v", i)
	}
}

// Who asks again after a conflict is told of how it is now, whatever the view shows.
func TestAskAgain(t *testing.T) {
	t.Parallel()
	a := start(t, etcdtest.Start(t).Endpoint(), settings{view: emptyView{}, resyncInterval: time.Hour})
	a.put("a", foreign("a", "other", "r", ""))
	a.Put(instance("a"))
	a.awaitSettled("a")
	a.delete("a")
	a.putAndAwait("a")
}

// A copied data directory: two agents with one owner. One gives way, and the writing
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
	until(t, "one to give way", func() bool { return cloned(one) != cloned(two) })
	winner, loser := one, two
	if cloned(one) {
		winner, loser = two, one
	}
	until(t, "the other to have it", func() bool { return winner.ownsRecord("a") && winner.awaitSettled("a").Phase == Written })
	if story := one.history("a"); len(story) > 6 || strings.Trim(story, "P") != "" {
		t.Errorf("history %s", story)
	}
	before := modified(winner, "a")
	winner.Resync()
	loser.Resync()
	winner.putAndAwait("after")
	loser.putAndAwait("after-too")
	if after := modified(winner, "a"); after != before {
		t.Errorf("the writing goes on: revision %d after %d", after, before)
	}
	winner.Remove("web", "a")
	until(t, "the loser to have it once the winner leaves", func() bool { return loser.ownsRecord("a") })
}

// Rewrites count only when they come close together, and an earlier run's record does
// not count.
func TestCloned(t *testing.T) {
	const ttl = 15 * time.Second
	now := time.Now()
	it := &desired{}
	for n, test := range []struct {
		seen  bool
		after time.Duration
		want  bool
	}{{false, 0, false}, {true, 0, false}, {true, ttl + 1, false}, {true, ttl - 1, true}, {true, ttl + 1, false}} {
		it.observed = test.seen
		now = now.Add(test.after)
		if got := it.countRewrite(now, ttl); got != test.want {
			t.Errorf("%d: cloned %v", n, got)
		}
	}
}
