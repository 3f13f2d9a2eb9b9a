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

// admission is a take that was granted, somewhen between two moments.
type admission struct {
	through         *sidecar
	asked, answered time.Time
}

// loadedLimit is a limit that is asked for far more than it has, through all agents.
type loadedLimit struct {
	name    string
	limit   discovery.Limit
	lesser  discovery.Limit // in force at the latest since a moment; zero: never
	lowered time.Time

	mu       sync.Mutex
	admitted []admission
	denied   int
	err      error // that no fault explains
}

// takeRepeatedly takes through an agent again and again, until ctx ends.
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

// admits returns an error unless somebody has asked since a moment and was granted; if
// through is not nil, through that agent.
func (h *loadedLimit) admits(since time.Time, through *sidecar) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, a := range h.admitted {
		if a.asked.After(since) && (through == nil || a.through == through) {
			return nil
		}
	}
	return fmt.Errorf("of %s nothing was granted", h.name)
}

// lower changes the limit to a lesser one.
func (h *loadedLimit) lower(t *testing.T, through *sidecar, limit discovery.Limit) {
	t.Helper()
	if _, _, _, err := through.PutLimit(t.Context(), h.name, limit); err != nil {
		t.Fatal(err)
	}
	h.lesser, h.lowered = limit, time.Now()
}

// allowed is how much is let through between two moments at most: the burst that was in
// force at first, and the rates that were in force over the time.
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

// checkBound makes sure that in no window more was let through than is allowed. A take counts
// in the windows that hold both its ends.
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
				t.Fatalf("%s: %d were let through in %v, and %.3f are allowed", h.name, n, last.answered.Sub(first.asked), allowed)
			}
		}
	}
	t.Logf("%s: %d of %d were let through; the fullest window has %d, which is %.3f of what is allowed", h.name, len(all), len(all)+h.denied, at, fullest)
	if h.err != nil {
		t.Error(h.err)
	}
}

// TestFaultLimit takes of two limits through four agents that stand still and are killed,
// on an etcd that is, too, while a limit is changed: nowhere is more let through than the
// limit, and something is as soon as the fault is over.
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
			for range cmp.Or(2*n, 1) { // some are asked more than others
				takers.Go(func() { h.takeRepeatedly(ctx, s) })
			}
		}
	}
	recovers := func(what string, through *sidecar) {
		t.Helper()
		over := time.Now()
		within(t, over, 10*time.Second, what, func() error { return errors.Join(fast.admits(over, through), slow.admits(over, nil)) })
	}
	recovers("nothing is wrong", fleet[3])

	fleet[1].signal(syscall.SIGSTOP)
	for _, s := range fleet[2:] {
		s.crash(t, nil)
	}
	pause(time.Second)
	for _, s := range fleet[2:] {
		s.start(t)
	}
	fleet[1].signal(syscall.SIGCONT)
	recovers("one stood still, and two were killed", fleet[2])

	etcd.signal(syscall.SIGSTOP)
	pause(1500 * time.Millisecond)
	etcd.signal(syscall.SIGCONT)
	recovers("etcd stood still", fleet[1])

	etcd.signal(syscall.SIGKILL)
	<-etcd.ended
	pause(500 * time.Millisecond)
	etcd.start(t)
	recovers("etcd was killed", fleet[0])

	fleet[3].signal(syscall.SIGSTOP) // with what it has bought
	fast.lower(t, fleet[0], discovery.Limit{Rate: 5, Burst: 5}.WithDefaults())
	pause(200 * time.Millisecond)
	fleet[3].signal(syscall.SIGCONT)
	recovers("it is less now", fleet[3])

	for _, s := range fleet {
		s.signal(syscall.SIGSTOP)
	}
	pause(1500 * time.Millisecond)
	for _, s := range fleet {
		s.signal(syscall.SIGCONT)
	}
	recovers("all stood still", nil)

	cancel()
	takers.Wait()
	fast.checkBound(t)
	slow.checkBound(t)
}
