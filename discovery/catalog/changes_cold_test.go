package catalog

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"disc/discovery"
	"disc/discovery/changelog"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/retry/retrytest"
)

// How an instance went while the agent was away is not known, also where the mass-loss guard decides on
// it later.
func TestChangesOfWhatVanishedMeanwhile(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	store := &memoryStore{}
	run := func() *fixture {
		return start(t, s.Endpoint(), s.Endpoint(), Options{LastGood: store, MassLoss: &MassLossGuard{}, Changes: changelog.New(1 << 20)})
	}
	f := run()
	for n := range 10 {
		f.register("web", fmt.Sprint("i", n))
	}
	f.settled()
	f.stop()
	f.remove(keys.Instance("web", "i4"))
	f = run()
	retrytest.Eventually(t, "one is gone", func() bool { return f.Health().Synced && f.entries("web") == 9 })
	p := f.changesAfter("")
	var got []string
	for _, c := range p.Changes {
		if c.ID != "" {
			got = append(got, fmt.Sprintf("%s %s %s %v", c.ID, c.Change, c.Reason, c.Listed))
		}
	}
	if want := []string{"i4 gone not_in_list true"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// An etcd that is replaced in the middle of a comparison started over, whatever gap was told before.
func TestChangesOfABreakInAGap(t *testing.T) {
	t.Parallel()
	log := changelog.New(1 << 20)
	c := etcdtest.Must(New(nil, keys, Options{Changes: log}))
	c.state.Store(&state{confirmed: time.Now()})
	for _, kind := range []discovery.ChangeKind{discovery.ChangeGap, discovery.ChangeStartedOver, discovery.ChangeStartedOver, discovery.ChangeGap} {
		c.recordBreak(kind, 1)
	}
	var got []discovery.ChangeKind
	for _, change := range etcdtest.Must(log.Read(changelog.Query{})).Changes {
		got = append(got, change.Change)
	}
	if want := []discovery.ChangeKind{discovery.ChangeGap, discovery.ChangeStartedOver}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
