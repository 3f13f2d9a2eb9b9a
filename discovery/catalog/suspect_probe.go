package catalog

import (
	"cmp"
	"context"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"disc/discovery"
	"disc/discovery/retry"
	"disc/discovery/view"
)

// Bounds of probing.
const (
	probeTimeout     = time.Second            // of one probe
	probeInterval    = 50 * time.Millisecond  // between two probes: 20 a second
	reprobeAfter     = 30 * time.Second       // between two probes of a suspect, on average
	scheduleInterval = 200 * time.Millisecond // between two batches
	probeBatch       = 10                     // probes for each reading of the view
	lookedUpTTL      = time.Minute            // for which a service counts as looked up
)

// prober probes the suspects of services that are looked up, while there are suspects.
type prober struct {
	probe  func(context.Context, string) error
	failed chan instanceKey
	wake   retry.Signal // the view has suspects

	mu        sync.Mutex
	notBefore time.Time // nothing is probed before
}

func newProber(probe func(context.Context, string) error) *prober {
	return &prober{probe: probe, failed: make(chan instanceKey), wake: retry.NewSignal()}
}

// postpone forbids probes before t.
func (p *prober) postpone(t time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.notBefore = t
}

func (p *prober) postponed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Now().Before(p.notBefore)
}

// run probes until ctx ends.
func (p *prober) run(ctx context.Context, view func() *view.Snapshot) {
	if p.probe == nil {
		return
	}
	for {
		select {
		case <-p.wake:
			p.probeAll(ctx, view)
		case <-ctx.Done():
			return
		}
	}
}

// probeAll probes until there are no suspects left.
func (p *prober) probeAll(ctx context.Context, view func() *view.Snapshot) {
	var probing sync.WaitGroup
	defer probing.Wait()
	ps := probeSchedule{lookedUp: map[string]time.Time{}}
	for {
		due := ps.due(view(), time.Now())
		if len(ps.next) == 0 {
			return
		}
		if p.postponed() {
			due = nil
		}
		for _, t := range due {
			ps.next[t.instanceKey] = time.Now().Add(reprobeAfter/2 + rand.N(reprobeAfter))
			probing.Go(func() { p.probeOne(ctx, t) })
			if retry.Sleep(ctx, probeInterval) != nil {
				return
			}
		}
		if retry.Sleep(ctx, scheduleInterval) != nil {
			return
		}
	}
}

// probeOne probes one suspect and reports a failure. If nobody receives that within
// probeTimeout, because etcd is away, it is discarded. A probe that takes much longer than it may
// proves nothing: this host was paused, or too busy to see the answer in time.
func (p *prober) probeOne(ctx context.Context, t target) {
	limited, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	began := time.Now()
	if err := p.probe(limited, t.address); err == nil || ctx.Err() != nil || time.Since(began) > 2*probeTimeout {
		return
	}
	select {
	case p.failed <- t.instanceKey:
	case <-time.After(probeTimeout):
	case <-ctx.Done():
	}
}

// target is a suspect to probe.
type target struct {
	instanceKey
	address string
	due     time.Time // zero: it was never probed
	rank    int       // among the due suspects of its service
}

// probeSchedule decides which suspects are probed when.
type probeSchedule struct {
	next     map[instanceKey]time.Time // next probe of each suspect; zero: as soon as its service is looked up
	lookedUp map[string]time.Time      // last lookup of each service, by folded name
}

// due returns up to probeBatch suspects to probe, the longest overdue first. It alternates
// between services, so that one with thousands of suspects does not delay others.
func (ps *probeSchedule) due(s *view.Snapshot, now time.Time) []target {
	var due []target
	next := map[instanceKey]time.Time{}
	for service := range s.Services() {
		suspects := service.Suspects()
		if len(suspects) == 0 {
			continue
		}
		name := discovery.FoldName(service.Name)
		if service.ConsumeAsked() {
			ps.lookedUp[name] = now
		}
		at, active := ps.lookedUp[name]
		active = active && now.Sub(at) < lookedUpTTL
		rank := 0
		for _, e := range suspects {
			t := target{instanceKey{name, e.ID}, net.JoinHostPort(e.Address, strconv.Itoa(e.Port)), ps.next[instanceKey{name, e.ID}], rank}
			next[t.instanceKey] = t.due
			if active && e.Port != 0 && !t.due.After(now) {
				due = append(due, t)
				rank++
			}
		}
	}
	ps.next = next
	slices.SortFunc(due, func(a, b target) int {
		return cmp.Or(a.due.Compare(b.due), cmp.Compare(a.rank, b.rank), a.compare(b.instanceKey))
	})
	return due[:min(len(due), probeBatch)]
}
