package limit

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/lease"
)

// grantedTake is a take that was granted at some moment between two.
type grantedTake struct{ asked, answered time.Duration }

// certainExcess returns by how many tokens the fullest window is certainly above a limit:
// a window lasts from the asking of its first take to the answer to its last.
func certainExcess(all []grantedTake, rate, burst float64) float64 {
	slices.SortFunc(all, func(a, b grantedTake) int { return cmp.Compare(a.answered, b.answered) })
	worst := -burst
	for _, first := range all {
		n := 0.0
		for _, last := range all {
			if last.asked < first.asked {
				continue
			}
			n++
			worst = max(worst, n-burst-rate*(last.answered-first.asked).Seconds())
		}
	}
	return worst
}

// history is the granted takes of one limit.
type history struct {
	name  string
	limit discovery.Limit
	mu    sync.Mutex
	taken []grantedTake
}

// take takes through the agents of a fleet, which come and go, until ctx ends.
func (h *history) take(ctx context.Context, agents func() *Limits) {
	tick := time.NewTicker(time.Duration(float64(time.Second) / (4 * h.limit.PerSecond())))
	defer tick.Stop()
	var takes sync.WaitGroup
	defer takes.Wait()
	for ctx.Err() == nil {
		takes.Go(func() {
			asked := lease.Uptime()
			d, err := agents().Take(ctx, h.name, 1)
			if err != nil || !d.Granted {
				return
			}
			h.mu.Lock()
			defer h.mu.Unlock()
			h.taken = append(h.taken, grantedTake{asked, lease.Uptime()})
		})
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// TestNeverAboveTheLimitOnEtcd takes from many limits through agents whose links to etcd
// break and hang, and that are restarted. Half of the limits are lowered and raised again
// meanwhile.
func TestNeverAboveTheLimitOnEtcd(t *testing.T) {
	t.Parallel()
	const fleet, faults, least = 4, 20, 10 // least takes of a limit, on average
	server := etcdtest.Start(t)
	direct := start(t, etcdtest.Client(t, server.Endpoint()))
	var histories []*history
	for n := range 30 {
		h := &history{name: fmt.Sprint("limit-", n), limit: policy(float64(1+rand.IntN(20)), 1+rand.Int64N(20))}
		mustPut(t, direct, h.name, h.limit)
		histories = append(histories, h)
	}
	agents := newFleet(t, server.Endpoint(), fleet)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var running sync.WaitGroup
	for _, h := range histories {
		running.Go(func() { h.take(ctx, agents.any) })
	}
	for n := 0; n < faults || countTaken(histories) < least*len(histories); n++ {
		agents.disturb()
		h := histories[2*rand.IntN(len(histories)/2)]
		less := h.limit
		if n%2 == 0 {
			less.Rate = max(1, less.Rate/2)
		}
		mustPut(t, direct, h.name, less)
		<-time.After(rand.N(400 * time.Millisecond))
	}
	cancel()
	agents.mend()
	running.Wait()
	for _, h := range histories {
		if over := certainExcess(h.taken, h.limit.PerSecond(), float64(h.limit.Burst)); over > 0 {
			t.Errorf("%s, %v a second and a burst of %d: %v tokens too many of %d", h.name, h.limit.Rate, h.limit.Burst, over, len(h.taken))
		}
	}
	t.Logf("%d takes of %d limits were granted", countTaken(histories), len(histories))
}

// countTaken returns the number of takes that were granted.
func countTaken(histories []*history) (n int) {
	for _, h := range histories {
		h.mu.Lock()
		n += len(h.taken)
		h.mu.Unlock()
	}
	return n
}

// fleet is some agents, each with its own link to etcd.
type fleet struct {
	t     *testing.T
	links []*etcdtest.Link

	mu     sync.Mutex
	agents []*Limits
}

func newFleet(t *testing.T, endpoint string, n int) *fleet {
	f := &fleet{t: t}
	for range n {
		link := etcdtest.StartLink(t, endpoint)
		f.links = append(f.links, link)
		f.agents = append(f.agents, start(t, etcdtest.Client(t, link.Endpoint())))
	}
	return f
}

func (f *fleet) any() *Limits {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.agents[rand.IntN(len(f.agents))]
}

// disturb breaks, hangs or mends the link of one of the agents, or replaces the agent.
func (f *fleet) disturb() {
	n := rand.IntN(len(f.links))
	switch link := f.links[n]; rand.IntN(6) {
	case 0:
		link.Cut()
	case 1:
		link.HoldAnswers()
	case 2:
		link.Freeze()
	case 3:
		fresh := start(f.t, etcdtest.Client(f.t, link.Endpoint()))
		f.mu.Lock()
		defer f.mu.Unlock()
		f.agents[n] = fresh // the earlier one is not asked any more
	default:
		link.Mend()
	}
}

func (f *fleet) mend() {
	for _, link := range f.links {
		link.Mend()
	}
}

func TestCertainExcess(t *testing.T) {
	s := time.Second
	if got := certainExcess([]grantedTake{{0, 0}, {s / 2, s / 2}, {s, s}}, 1, 1); got != 1 {
		t.Errorf("three in a second: %v, want 1", got)
	}
	if got := certainExcess([]grantedTake{{0, 0}, {s / 2, 3 * s / 2}, {2 * s, 2 * s}}, 1, 1); got != 0 {
		t.Errorf("one of which came at an unknown moment: %v, want 0", got)
	}
}
