package claim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"disc/discovery"
	"disc/discovery/lock"
)

// history is the record of what several clients did concurrently.
type history struct {
	pace  time.Duration // the longest pause between two renewals
	wait  time.Duration // the longest wait for a grant
	began time.Time
	left  atomic.Int64 // operations still to be made
	takes atomic.Int64 // grants so far

	mu      sync.Mutex
	all     []porcupine.Operation
	deleted map[string]int64 // by the id of a grant: when somebody else began to delete its key
}

func newHistory(operations int64, pace, wait time.Duration) *history {
	h := &history{pace: pace, wait: wait, began: time.Now(), deleted: map[string]int64{}}
	h.left.Store(operations)
	return h
}

func (h *history) now() int64 { return int64(time.Since(h.began)) }

func (h *history) operation(client int, s step, called int64) porcupine.Operation {
	return porcupine.Operation{ClientId: client, Input: s, Call: called, Return: h.now()}
}

func (h *history) record(all ...porcupine.Operation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, all...)
	h.left.Add(-int64(len(all)))
}

// held is a grant that a client of a history holds.
type held struct {
	*lock.Grant
	resource string // the name of the lock, or the slot
	renew    func() error
	release  func(context.Context)
}

func takeLock(t *testing.T, a *claimant, name string, wait time.Duration) (*held, error) {
	g, err := a.agent.Lock(t.Context(), name, lock.Request{Wait: wait, TTL: time.Minute})
	if err != nil {
		return nil, err
	}
	return &held{g, name,
		func() error { _, err := a.agent.Renew(name, g.ID()); return err },
		func(ctx context.Context) { a.agent.Release(ctx, name, g.ID()) }}, nil
}

func takeSlot(t *testing.T, a *claimant, service string, wait time.Duration) (*held, error) {
	g, err := a.Claim(t.Context(), service, Request{Wait: wait, TTL: time.Minute})
	if err != nil {
		return nil, err
	}
	return &held{g.Grant, fmt.Sprintf("%s/%s/%d", service, g.Endpoint().ID, g.Slot()),
		func() error { _, err := a.Renew(g.ID()); return err },
		func(ctx context.Context) { a.Release(ctx, g.ID()) }}, nil
}

// run is one client: it takes a grant, renews it for a while and releases it.
func (h *history) run(t *testing.T, client int, take func(wait time.Duration) (*held, error)) {
	for h.left.Load() > 0 {
		called := h.now()
		g, err := take(rand.N(h.wait))
		if err != nil {
			if !errors.Is(err, discovery.ErrConflict) && !errors.Is(err, discovery.ErrUnavailable) && !retryable(err) {
				t.Errorf("take: %v", err)
			}
			<-time.After(rand.N(20 * time.Millisecond)) // an agent without a session fails at once
			continue
		}
		h.record(h.operation(client, step{takes, g.Fence(), g.resource}, called))
		h.takes.Add(1)
		h.hold(t, client, g, called)
	}
}

// hold renews a grant for a while, and releases it. The client relies on it until the end of the
// last promise, unless it is told earlier that the grant is lost.
func (h *history) hold(t *testing.T, client int, g *held, called int64) {
	relied, until := called, h.now()+int64(g.ValidFor())
	relies := func() bool {
		now := h.now()
		if now >= until || g.Err() != nil {
			return false
		}
		relied = now
		return true
	}
	var renewals []porcupine.Operation
	for h.left.Load() > int64(len(renewals)) && rand.IntN(12) > 0 && relies() {
		asked := h.now()
		if g.renew() != nil {
			break
		}
		renewals = append(renewals, h.operation(client, step{renews, g.Fence(), g.resource}, asked))
		until = max(until, h.now()+int64(g.ValidFor()))
		select {
		case <-g.Lost():
		case <-time.After(rand.N(h.pace)):
		}
	}
	relies()
	g.release(t.Context())
	h.end(client, g, renewals, relied)
}

// end records the renewals and the end of a grant, on which its client last relied at a moment. When
// it ended since then is unknown. What the client did after somebody else had deleted the key, and
// before it was told, is left out.
func (h *history) end(client int, g *held, renewals []porcupine.Operation, relied int64) {
	h.mu.Lock()
	since, deleted := h.deleted[g.ID()]
	h.mu.Unlock()
	if deleted {
		relied = min(relied, since)
		renewals = slices.DeleteFunc(renewals, func(o porcupine.Operation) bool { return o.Return >= since })
	}
	h.record(append(renewals, h.operation(client, step{ends, g.Fence(), g.resource}, relied))...)
}
