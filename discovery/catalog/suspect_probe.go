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
	"disc/discovery/view"
)

// Bounds of probing.
const (
	probeTime  = time.Second           // to answer
	probePace  = 50 * time.Millisecond // between two probes: 20 a second
	probeAgain = 30 * time.Second      // after one that was answered, on average
	probeLook  = 200 * time.Millisecond
	probeBatch = 10          // probes between two looks at the view
	askedFor   = time.Minute // how long a service counts as looked up
)

// prober probes the suspects of services that are looked up, while there are any.
type prober struct {
	probe  func(context.Context, string) error
	failed chan instance
	begun  chan struct{} // of size 1: there are suspects

	mu   sync.Mutex
	from time.Time // nothing is probed before
}

func newProber(probe func(context.Context, string) error) *prober {
	return &prober{probe: probe, failed: make(chan instance), begun: make(chan struct{}, 1)}
}

// awake says that there are suspects.
func (p *prober) awake() {
	select {
	case p.begun <- struct{}{}:
	default:
	}
}

// waitUntil puts probing off.
func (p *prober) waitUntil(t time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.from = t
}

func (p *prober) waits() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Now().Before(p.from)
}

// run probes until ctx ends.
func (p *prober) run(ctx context.Context, view func() *view.Snapshot) {
	if p.probe == nil {
		return
	}
	for {
		select {
		case <-p.begun:
			p.follow(ctx, view)
		case <-ctx.Done():
			return
		}
	}
}

// follow probes until there are no suspects.
func (p *prober) follow(ctx context.Context, view func() *view.Snapshot) {
	var probing sync.WaitGroup
	defer probing.Wait()
	r := rounds{asked: map[string]time.Time{}}
	for {
		due := r.look(view(), time.Now())
		if len(r.next) == 0 {
			return
		}
		if p.waits() {
			due = nil
		}
		for _, t := range due {
			r.next[t.instance] = time.Now().Add(probeAgain/2 + rand.N(probeAgain))
			probing.Go(func() { p.try(ctx, t) })
			if !pause(ctx, probePace) {
				return
			}
		}
		if !pause(ctx, probeLook) {
			return
		}
	}
}

// try probes once. While nobody takes the result, since etcd is away, it is dropped.
func (p *prober) try(ctx context.Context, t target) {
	limited, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	if err := p.probe(limited, t.address); err == nil || ctx.Err() != nil {
		return
	}
	select {
	case p.failed <- t.instance:
	case <-time.After(probeTime):
	case <-ctx.Done():
	}
}

// pause waits, and reports whether ctx goes on.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// target is a suspect to probe.
type target struct {
	instance
	address string
	due     time.Time // zero: it was never probed
	turn    int       // among those of its service that are due
}

// rounds is when which suspect is probed.
type rounds struct {
	next  map[instance]time.Time // of all suspects; zero: as soon as its service is looked up
	asked map[string]time.Time   // when services were looked up
}

// look returns a few of the suspects that are to be probed, those that are due the
// longest first, and of each service some: one with thousands does not hold up others.
func (r *rounds) look(s *view.Snapshot, now time.Time) []target {
	var due []target
	next := map[instance]time.Time{}
	for service := range s.Services() {
		suspects := service.Suspects()
		if len(suspects) == 0 {
			continue
		}
		name := discovery.FoldName(service.Name)
		if service.ConsumeAsked() {
			r.asked[name] = now
		}
		at, asked := r.asked[name]
		asked = asked && now.Sub(at) < askedFor
		turn := 0
		for _, e := range suspects {
			t := target{instance{name, e.ID}, net.JoinHostPort(e.Address, strconv.Itoa(e.Port)), r.next[instance{name, e.ID}], turn}
			next[t.instance] = t.due
			if asked && e.Port != 0 && !t.due.After(now) {
				due = append(due, t)
				turn++
			}
		}
	}
	r.next = next
	slices.SortFunc(due, func(a, b target) int {
		return cmp.Or(a.due.Compare(b.due), cmp.Compare(a.turn, b.turn), a.compare(b.instance))
	})
	return due[:min(len(due), probeBatch)]
}
