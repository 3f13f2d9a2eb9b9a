package catalog

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"disc/discovery"
	"disc/discovery/changelog"
	"disc/discovery/devetcd"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/retry/retrytest"
)

// kinds returns what happened to the instances after a cursor, sorted, as "web/i0000 gone expired".
func (f *fixture) kinds(cursor string) (all []string) {
	f.t.Helper()
	for _, c := range f.changesAfter(cursor).Changes {
		if c.ID != "" {
			all = append(all, strings.TrimSpace(fmt.Sprintf("%s/%s %s %s", c.Service, c.ID, c.Change, c.Reason)))
		}
	}
	slices.Sort(all)
	return all
}

// An instance that the mass-loss guard retains is a suspect, and not gone; one that it drops is gone
// once.
func TestChangesOfSuspects(t *testing.T) {
	t.Parallel()
	f := begin(t, Options{MassLoss: &MassLossGuard{burstPause: longBurstPause}, Changes: changelog.New(1 << 20)})
	a := f.agents(4, "web")
	f.settled()
	from := f.changesAfter("").End
	a.die(1, 4)
	f.suspectsAre(3)
	want := []string{"web/i0001 suspect mass_loss", "web/i0002 suspect mass_loss", "web/i0003 suspect mass_loss"}
	if got := f.kinds(from); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	from = f.changesAfter("").End
	a.register(1, 4)
	f.suspectsAre(0)
	f.settled()
	want = []string{"web/i0001 returned registered", "web/i0002 returned registered", "web/i0003 returned registered"}
	if got := f.kinds(from); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

func TestChangeOfOneThatDies(t *testing.T) {
	t.Parallel()
	f := begin(t, Options{MassLoss: &MassLossGuard{}, Changes: changelog.New(1 << 20)})
	a := f.agents(10, "web")
	f.settled()
	from := f.changesAfter("").End
	a.die(4, 5)
	retrytest.Eventually(t, "the dead one is gone", func() bool { return f.entries("web") == 9 })
	want := []string{"web/i0004 gone expired"}
	got := f.kinds(from)
	if gapped(f.changesAfter(from).Changes) && slices.Equal(got, []string{"web/i0004 gone not_in_list"}) {
		want = got // etcd did not answer the watch in time
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// What happened before an etcd that starts over stays. What it lacks is told from what it has.
func TestChangesOverAWipe(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	link := etcdtest.StartLink(t, s.Endpoint())
	f := start(t, s.Endpoint(), link.Endpoint(), Options{Life: anyLife, Changes: changelog.New(1 << 20)})
	f.register("web", "a")
	before := f.settled()
	retrytest.Eventually(t, "a change", func() bool { return len(f.changesAfter("").Changes) > 0 })
	from := f.changesAfter("")
	shut(link, s)
	restored := etcdtest.StartWith(t, devetcd.Options{Listen: s.Endpoint()})
	etcdtest.Must(etcdtest.Client(t, restored.Endpoint()).Put(t.Context(), keys.Instance("web", "b"), record("web", "b")))
	link.Mend()
	retrytest.Eventually(t, "the new epoch", func() bool { return f.snapshot().Epoch() != before.Epoch() })
	if got := f.kinds(from.End); !slices.Equal(got, []string{"web/a gone not_in_list", "web/b added registered"}) {
		t.Errorf("%q", got)
	}
	all := f.changesAfter("").Changes
	if !slices.ContainsFunc(all, func(c discovery.Change) bool { return c.Change == discovery.ChangeStartedOver && c.Since != nil }) {
		t.Errorf("it is not told that etcd started over: %+v", all)
	}
	if len(all) < len(from.Changes)+3 {
		t.Errorf("the changes before are gone: %+v", all)
	}
}

// A service that is watched while it is used has changes for that time, and says so.
func TestChangesOfLazyScopes(t *testing.T) {
	t.Parallel()
	f, _ := lazily(t, Options{Watch: WatchLazy, Changes: changelog.New(1 << 20)})
	lookup := func() error { _, err := f.lookup("web"); return err }
	f.register("web", "a")
	retrytest.Succeeds(t, lookup)
	f.reached(f.register("web", "b"))
	retrytest.Eventually(t, "web is not watched any more", func() bool { f.idle(); return len(f.watched()) == 0 })
	f.register("web", "unseen")
	retrytest.Succeeds(t, lookup)
	f.reached(f.remove(keys.Instance("web", "a")))
	var got []string
	for _, c := range f.changesAfter("").Changes {
		if c.Change == discovery.ChangeGap {
			continue // etcd did not answer the watch in time
		}
		got = append(got, strings.TrimSpace(fmt.Sprintf("%s %s", c.ID, c.Change)))
	}
	if want := []string{"watched", "b added", "unwatched", "watched", "a gone"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// The changes begin with the last good view; what happened until the next start is found by
// comparing.
func TestChangesOverARestart(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	store := &memoryStore{}
	run := func() *fixture {
		return start(t, s.Endpoint(), s.Endpoint(), Options{LastGood: store, Changes: changelog.New(1 << 20)})
	}
	f := run()
	f.register("web", "a")
	saved := f.settled().Revision()
	f.stop()
	f.register("web", "b")
	f = run()
	retrytest.Eventually(t, "a view", func() bool { return f.Health().Synced })
	p := f.changesAfter("")
	if p.Begins == nil || p.Begins.Revision != saved {
		t.Errorf("it begins at %+v, not at %d", p.Begins, saved)
	}
	var got []string
	for n, c := range p.Changes {
		if c.Change == discovery.ChangeGap && n > 1 {
			continue // a later one: etcd did not answer the watch in time
		}
		got = append(got, fmt.Sprintf("%s %s %v", c.ID, c.Change, c.Listed))
	}
	if want := []string{" watched false", " gap false", "b added true"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
