package catalog

import (
	"fmt"
	"testing"
	"time"

	"disc/discovery/devetcd/etcdtest"
)

// The more agents there are, the rarer each asks, but so often that its view does not turn
// stale only because nobody asked.
func TestProgressInterval(t *testing.T) {
	for _, test := range []struct {
		agents int64
		stale  time.Duration
		want   time.Duration
	}{
		{0, DefaultStaleAfter, 2 * time.Second},
		{1000, DefaultStaleAfter, 2 * time.Second},
		{2500, DefaultStaleAfter, 5 * time.Second},
		{5000, DefaultStaleAfter, 10 * time.Second},
		{50_000, DefaultStaleAfter, 10 * time.Second},
		{10_000, 30 * time.Second, 20 * time.Second},
		{50_000, 30 * time.Second, 25 * time.Second},
		{10_000, time.Second, 2 * time.Second},
	} {
		t.Run(fmt.Sprintf("%d agents, stale after %v", test.agents, test.stale), func(t *testing.T) {
			c := etcdtest.Must(New(nil, keys, Options{Watch: WatchLazy, StaleAfter: test.stale}))
			c.subscriptions.nodeCount.Store(test.agents)
			least, most := time.Hour, time.Duration(0)
			for range 1000 {
				d := c.ProgressInterval()
				least, most = min(least, d), max(most, d)
			}
			if most > test.want || least < test.want*4/5 || most-least < test.want/10 {
				t.Errorf("intervals from %v to %v, want up to a fifth less than %v", least, most, test.want)
			}
		})
	}
}

// Behind a proxy the interval also grows with the number of keys in view, within the same bounds.
func TestProofInterval(t *testing.T) {
	for _, test := range []struct {
		agents, keys int64
		stale        time.Duration
		want         time.Duration
	}{
		{0, 100_000, DefaultStaleAfter, 2 * time.Second},
		{10, 10_000, DefaultStaleAfter, 2 * time.Second},
		{100, 10_000, DefaultStaleAfter, 5 * time.Second},
		{1000, 10_000, DefaultStaleAfter, 10 * time.Second},
		{1000, 10_000, time.Minute, 50 * time.Second},
		{100_000, 10_000_000, time.Minute, 55 * time.Second},
	} {
		t.Run(fmt.Sprintf("%d agents, %d keys, stale after %v", test.agents, test.keys, test.stale), func(t *testing.T) {
			c := etcdtest.Must(New(nil, keys, Options{Watch: WatchLazy, StaleAfter: test.stale}))
			c.subscriptions.nodeCount.Store(test.agents)
			if d := c.ProofInterval(test.keys); d > test.want || d < test.want*4/5 {
				t.Errorf("%v, want up to a fifth less than %v", d, test.want)
			}
		})
	}
}

// An agent that watches single services also knows the number of agents.
func TestFleetIsCounted(t *testing.T) {
	t.Parallel()
	f, _ := lazily(t, Options{Watch: WatchLazy, Services: []string{"web"}})
	for _, node := range []string{"n1", "n2", "n3"} {
		f.put(keys.Node(node, "o"), `{"node":"`+node+`","agent":"o"}`)
	}
	if err := f.updateFleetSize(f.ctx()); err != nil || f.agentCount() != 3 {
		t.Errorf("%d agents, want 3; %v", f.agentCount(), err)
	}
	if view, err := f.View(); err != nil || view.Snapshot.NodeCount() > 0 {
		t.Errorf("%d agents are watched, %v", view.Snapshot.NodeCount(), err)
	}
}
