package e2e_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"disc/discovery"
)

// admission is a granted take. It was granted at some moment between asked and answered.
type admission struct {
	through         *sidecar
	asked, answered time.Time
}

// loadedLimit is a limit with far more takes than it allows, through all agents.
type loadedLimit struct {
	name    string
	limit   discovery.Limit
	lesser  discovery.Limit // in force since lowered at the latest
	lowered time.Time       // zero: never

	mu       sync.Mutex
	admitted []admission
	denied   int
	err      error // an error that no fault explains
}

// takeRepeatedly takes through an agent every 40 ms until ctx ends.
func (h *loadedLimit) takeRepeatedly(ctx context.Context, s *sidecar) {
	for tick := time.NewTicker(40 * time.Millisecond); ctx.Err() == nil; <-tick.C {
		asked := time.Now()
		got, err := s.Take(ctx, h.name, 1)
		h.record(admission{s, asked, time.Now()}, err == nil && got.Taken > 0, err)
	}
}

func (h *loadedLimit) record(a admission, granted bool, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case granted:
		h.admitted = append(h.admitted, a)
	case err == nil:
		h.denied++
	case errors.Is(err, discovery.ErrNotFound):
		h.err = err
	}
}

// admits returns an error unless a take that started after since was granted, by the agent through
// if that is not nil.
func (h *loadedLimit) admits(since time.Time, through *sidecar) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, a := range h.admitted {
		if a.asked.After(since) && (through == nil || a.through == through) {
			return nil
		}
	}
	return fmt.Errorf("no take of %s was granted", h.name)
}

// lower lowers the limit.
func (h *loadedLimit) lower(t *testing.T, through *sidecar, limit discovery.Limit) {
	t.Helper()
	if _, _, _, err := through.PutLimit(t.Context(), h.name, limit); err != nil {
		t.Fatal(err)
	}
	h.lesser, h.lowered = limit, time.Now()
}

// allowed returns the number of takes that may be granted between two moments: the burst in force
// at first, and the rates in force during the time.
func (h *loadedLimit) allowed(from, to time.Time) float64 {
	if h.lowered.IsZero() || !to.After(h.lowered) {
		return float64(h.limit.Burst) + h.limit.PerSecond()*to.Sub(from).Seconds()
	}
	after := h.lesser.PerSecond() * to.Sub(h.lowered).Seconds()
	if from.Before(h.lowered) {
		return h.allowed(from, h.lowered) + after
	}
	return float64(h.lesser.Burst) + h.lesser.PerSecond()*to.Sub(from).Seconds()
}

// checkBound checks that no window has more granted takes than the limit allows. A take counts in
// the windows that contain both its ends.
func (h *loadedLimit) checkBound(t *testing.T) {
	t.Helper()
	all := slices.SortedFunc(slices.Values(h.admitted), func(a, b admission) int { return a.answered.Compare(b.answered) })
	fullest, at := 0.0, 0
	for _, first := range all {
		n := 0
		for _, last := range all {
			if last.asked.Before(first.asked) {
				continue
			}
			n++
			if part := float64(n) / h.allowed(first.asked, last.answered); part > fullest {
				fullest, at = part, n
			}
			if allowed := h.allowed(first.asked, last.answered); float64(n) > allowed {
				t.Fatalf("%s: %d takes were granted in %v, and %.3f are allowed", h.name, n, last.answered.Sub(first.asked), allowed)
			}
		}
	}
	t.Logf("%s: %d of %d takes were granted; the fullest window has %d, which is %.3f of the allowed number", h.name, len(all), len(all)+h.denied, at, fullest)
	if h.err != nil {
		t.Error(h.err)
	}
}

// TestFaultLimit takes from two limits through four agents, while agents and etcd are paused and
// killed and a limit is lowered. No window has more granted takes than the limit allows, and takes
// are granted again as soon as each fault is over.
func TestFaultLimit(t *testing.T) {
	t.Parallel()
	etcd := startMember(t)
	var fleet []*sidecar
	for n := range 4 {
		fleet = append(fleet, startSidecar(t, fmt.Sprintf("host-%d", n), etcd.endpoint))
	}
	fast := &loadedLimit{name: "fast", limit: discovery.Limit{Rate: 20, Burst: 20}.WithDefaults()}
	slow := &loadedLimit{name: "slow", limit: discovery.Limit{Rate: 1}.WithDefaults()}
	ctx, cancel := context.WithCancel(t.Context())
	var takers sync.WaitGroup
	defer takers.Wait()
	defer cancel()
	for _, h := range []*loadedLimit{fast, slow} {
		if _, _, _, err := fleet[0].PutLimit(t.Context(), h.name, h.limit); err != nil {
			t.Fatal(err)
		}
		for n, s := range fleet {
			for range cmp.Or(2*n, 1) { // some agents get more requests than others
				takers.Go(func() { h.takeRepeatedly(ctx, s) })
			}
		}
	}
	recovers := func(what string, through *sidecar) {
		t.Helper()
		over := time.Now()
		within(t, over, 10*time.Second, what, func() error { return errors.Join(fast.admits(over, through), slow.admits(over, nil)) })
	}
	recovers("without a fault", fleet[3])

	fleet[1].signal(syscall.SIGSTOP)
	for _, s := range fleet[2:] {
		s.crash(t, nil)
	}
	pause(time.Second)
	for _, s := range fleet[2:] {
		s.start(t)
	}
	fleet[1].signal(syscall.SIGCONT)
	recovers("after one agent was paused and two were killed", fleet[2])

	etcd.signal(syscall.SIGSTOP)
	pause(1500 * time.Millisecond)
	etcd.signal(syscall.SIGCONT)
	recovers("after etcd was paused", fleet[1])

	etcd.signal(syscall.SIGKILL)
	<-etcd.ended
	pause(500 * time.Millisecond)
	etcd.start(t)
	recovers("after etcd was killed", fleet[0])

	fleet[3].signal(syscall.SIGSTOP) // with the tokens that it has purchased
	fast.lower(t, fleet[0], discovery.Limit{Rate: 5, Burst: 5}.WithDefaults())
	pause(200 * time.Millisecond)
	fleet[3].signal(syscall.SIGCONT)
	recovers("after the limit was lowered", fleet[3])

	for _, s := range fleet {
		s.signal(syscall.SIGSTOP)
	}
	pause(1500 * time.Millisecond)
	for _, s := range fleet {
		s.signal(syscall.SIGCONT)
	}
	recovers("after all agents were paused", nil)

	cancel()
	takers.Wait()
	fast.checkBound(t)
	slow.checkBound(t)
}
