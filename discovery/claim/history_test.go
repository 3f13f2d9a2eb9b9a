package claim

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"golang.org/x/sync/errgroup"

	"disc/discovery"
	"disc/discovery/catalog"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/lease"
	"disc/discovery/lock"
)

var (
	histories  = flag.Int("claim.histories", etcdtest.Length(8, 50), "number of histories of locks and claims to check")
	operations = flag.Int("claim.operations", 500, "number of operations in each history")
)

// verb is an operation on a resource that one client may hold at a time.
type verb int

const (
	takes  verb = iota
	renews      // the grant is renewed
	ends        // the grant is released, or lost
)

// step is an operation on a lock or a slot.
type step struct {
	verb
	fence    int64
	resource string // the name of the lock, or the slot
}

// exclusion is the model: a client takes a resource only when it is free, and with a higher
// fence than all before; only its holder can renew or end the grant.
var exclusion = porcupine.Model{
	Partition: func(all []porcupine.Operation) [][]porcupine.Operation {
		parts := map[string][]porcupine.Operation{}
		for _, o := range all {
			parts[o.Input.(step).resource] = append(parts[o.Input.(step).resource], o)
		}
		var out [][]porcupine.Operation
		for _, part := range parts {
			out = append(out, part)
		}
		return out
	},
	Init: func() any { return [2]int64{} }, // the holder's fence, and the highest fence
	Step: func(state, input, _ any) (bool, any) {
		held, highest := state.([2]int64)[0], state.([2]int64)[1]
		switch s := input.(step); s.verb {
		case takes:
			return held == 0 && s.fence > highest, [2]int64{s.fence, s.fence}
		case renews:
			return held == s.fence, state
		default:
			return held == s.fence, [2]int64{0, highest}
		}
	},
	DescribeOperation: func(input, _ any) string { return fmt.Sprintf("%+v", input) },
}

// history is the record of what several clients did concurrently.
type history struct {
	began time.Time
	left  atomic.Int64 // operations still to be made

	mu  sync.Mutex
	all []porcupine.Operation
}

func newHistory() *history {
	h := &history{began: time.Now()}
	h.left.Store(int64(*operations))
	return h
}

func (h *history) now() int64 { return int64(time.Since(h.began)) }

func (h *history) record(client int, s step, called int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, porcupine.Operation{ClientId: client, Input: s, Call: called, Return: h.now()})
	h.left.Add(-1)
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
		func(ctx context.Context) { _, _ = a.agent.Release(ctx, name, g.ID()) }}, nil
}

func takeSlot(t *testing.T, a *claimant, service string, wait time.Duration) (*held, error) {
	g, err := a.Claim(t.Context(), service, Request{Wait: wait, TTL: time.Minute})
	if err != nil {
		return nil, err
	}
	return &held{g.Grant, fmt.Sprintf("%s/%s/%d", service, g.Endpoint().ID, g.Slot()),
		func() error { _, err := a.Renew(g.ID()); return err },
		func(ctx context.Context) { _, _ = a.Release(ctx, g.ID()) }}, nil
}

// run is one client: it takes a grant, renews it for a while and releases it.
func (h *history) run(t *testing.T, client int, take func(wait time.Duration) (*held, error)) {
	for h.left.Load() > 0 {
		called := h.now()
		g, err := take(rand.N(200 * time.Millisecond))
		if err != nil {
			if !errors.Is(err, discovery.ErrConflict) && !errors.Is(err, discovery.ErrUnavailable) && !retryable(err) {
				t.Errorf("take: %v", err)
			}
			<-time.After(rand.N(20 * time.Millisecond)) // an agent without a session fails at once
			continue
		}
		h.record(client, step{takes, g.Fence(), g.resource}, called)
		for h.left.Load() > 0 && rand.IntN(12) > 0 {
			asked := h.now()
			if g.renew() != nil {
				break
			}
			h.record(client, step{renews, g.Fence(), g.resource}, asked)
			called = asked
			select {
			case <-g.Lost():
			case <-time.After(rand.N(time.Millisecond)):
			}
		}
		// A lost grant was still held when its holder last renewed it; when it ended since
		// then is unknown.
		g.release(t.Context())
		h.record(client, step{ends, g.Fence(), g.resource}, called)
	}
}

// Locks and claims are exclusive, and a later holder has a higher fence, while leaders are
// killed, members are paused and one of the agents loses its session again and again.
func TestHistories(t *testing.T) {
	cluster := etcdtest.StartCluster(t, 3, "--unsafe-no-fsync", "--heartbeat-interval=20", "--election-timeout=200")
	var links []*etcdtest.Link
	var behind []string
	for _, endpoint := range cluster.Endpoints() {
		link := etcdtest.StartLink(t, endpoint)
		links, behind = append(links, link), append(behind, link.Endpoint())
	}
	agents := []*claimant{
		startClaimant(t, "a", cluster.Endpoints()...),
		startClaimant(t, "b", cluster.Endpoints()...),
		startClaimantWith(t, "c", lease.MinTTL, catalog.WatchAll, behind...),
	}
	for n := range *histories {
		for instance := range 2 {
			register(t, agents[0].agent.Client, fmt.Sprint(instance), 1, func(i *discovery.Instance) { i.Service = fmt.Sprintf("s%d", n) })
		}
	}
	for _, a := range agents {
		a.sees(fmt.Sprintf("s%d", *histories-1), 2)
	}
	done := make(chan error, 1)
	var checked, made atomic.Int64
	go func() { done <- checkHistories(t, agents, &checked, &made) }()
	disturb(cluster, links, done, t)
	t.Logf("%d histories of %d operations", checked.Load(), made.Load())
	if checked.Load() != int64(*histories) || made.Load() < int64(*histories**operations) {
		t.Errorf("want %d histories of %d operations each", *histories, *operations)
	}
}

// checkHistories makes histories and checks them, several at the same time.
func checkHistories(t *testing.T, agents []*claimant, checked, made *atomic.Int64) error {
	var running errgroup.Group
	running.SetLimit(10)
	for n := range *histories {
		running.Go(func() error {
			h := newHistory()
			var clients sync.WaitGroup
			for client := range 6 {
				a := agents[client%len(agents)]
				take := func(wait time.Duration) (*held, error) { return takeLock(t, a, fmt.Sprint(n), wait) }
				if n%2 == 1 {
					take = func(wait time.Duration) (*held, error) { return takeSlot(t, a, fmt.Sprintf("s%d", n), wait) }
				}
				clients.Go(func() { h.run(t, client, take) })
			}
			clients.Wait()
			checked.Add(1)
			made.Add(int64(len(h.all)))
			if !porcupine.CheckOperations(exclusion, h.all) {
				return fmt.Errorf("history %d is not linearizable\n%s", n, overlap(h.all))
			}
			return nil
		})
	}
	return running.Wait()
}

// disturb kills leaders, pauses leaders and cuts an agent off, in turns, until done.
func disturb(cluster *etcdtest.Cluster, links []*etcdtest.Link, done <-chan error, t *testing.T) {
	faults := []func(time.Duration){
		func(d time.Duration) {
			leader := cluster.Leader()
			leader.Kill()
			defer cluster.Start()
			<-time.After(d)
		},
		func(d time.Duration) {
			leader := cluster.Leader()
			leader.Pause()
			defer leader.Continue()
			<-time.After(d)
		},
		func(d time.Duration) {
			for _, l := range links {
				l.Freeze()
				defer l.Mend()
			}
			<-time.After(6 * d)
		},
	}
	for n := 0; ; n++ {
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			return
		case <-time.After(500 * time.Millisecond):
		}
		faults[n%len(faults)](time.Second)
	}
}

// overlap describes the grants that were taken while the holder of the lower fence before
// them still had the resource.
func overlap(all []porcupine.Operation) string {
	type tenure struct{ take, end porcupine.Operation }
	tenures := map[string]map[int64]*tenure{}
	for _, o := range all {
		s := o.Input.(step)
		if tenures[s.resource] == nil {
			tenures[s.resource] = map[int64]*tenure{}
		}
		if tenures[s.resource][s.fence] == nil {
			tenures[s.resource][s.fence] = &tenure{}
		}
		switch s.verb {
		case takes:
			tenures[s.resource][s.fence].take = o
		case ends:
			tenures[s.resource][s.fence].end = o
		}
	}
	var found []string
	for resource, byFence := range tenures {
		var before *tenure
		for _, fence := range slices.Sorted(maps.Keys(byFence)) {
			now := byFence[fence]
			if before != nil && before.end.Call > now.take.Return {
				found = append(found, fmt.Sprintf("%s: client %d had it from %v to %v, and client %d took it between %v and %v, with fence %d", resource, before.take.ClientId,
					time.Duration(before.take.Return), time.Duration(before.end.Call), now.take.ClientId, time.Duration(now.take.Call), time.Duration(now.take.Return), fence))
			}
			before = now
		}
	}
	return strings.Join(found, "\n")
}
