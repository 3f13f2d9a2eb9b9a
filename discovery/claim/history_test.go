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
	histories  = flag.Int("claim.histories", 50, "how many histories of locks and claims are checked")
	operations = flag.Int("claim.operations", 500, "how many operations each has")
)

// verb is what somebody did to what one may hold at a time.
type verb int

const (
	takes  verb = iota
	renews      // it is renewed
	ends        // it is let go, or lost
)

// step is what somebody did to a lock, or a slot.
type step struct {
	verb
	fence int64
	of    string // which slot; a lock has one
}

// exclusion is the model: who takes it finds it free and has a higher fence than all
// before, and only who has it can renew it, or let go of it.
var exclusion = porcupine.Model{
	Partition: func(all []porcupine.Operation) [][]porcupine.Operation {
		parts := map[string][]porcupine.Operation{}
		for _, o := range all {
			parts[o.Input.(step).of] = append(parts[o.Input.(step).of], o)
		}
		var out [][]porcupine.Operation
		for _, part := range parts {
			out = append(out, part)
		}
		return out
	},
	Init: func() any { return [2]int64{} }, // who has it, and the highest fence
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

// history is what several clients did at the same time.
type history struct {
	began time.Time
	left  atomic.Int64 // operations that are yet to be made

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
	of      string // which slot; for a lock its name
	renew   func() error
	release func(context.Context)
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

// run is one client: it takes, holds for a while, renews and lets go.
func (h *history) run(t *testing.T, client int, take func(wait time.Duration) (*held, error)) {
	for h.left.Load() > 0 {
		called := h.now()
		g, err := take(rand.N(200 * time.Millisecond))
		if err != nil {
			if !errors.Is(err, discovery.ErrConflict) && !errors.Is(err, discovery.ErrUnavailable) && !retryable(err) {
				t.Errorf("take: %v", err)
			}
			<-time.After(rand.N(20 * time.Millisecond)) // an agent without a session says so at once
			continue
		}
		h.record(client, step{takes, g.Fence(), g.of}, called)
		for h.left.Load() > 0 && rand.IntN(12) > 0 {
			asked := h.now()
			if g.renew() != nil {
				break
			}
			h.record(client, step{renews, g.Fence(), g.of}, asked)
			called = asked
			select {
			case <-g.Lost():
			case <-time.After(rand.N(time.Millisecond)):
			}
		}
		// What is lost was still held when its holder last asked, and nothing is known
		// of the time since.
		g.release(t.Context())
		h.record(client, step{ends, g.Fence(), g.of}, called)
	}
}

// Locks and claims are exclusive, and their fences tell who came later, while leaders are
// killed, members stand still and one of the agents loses its session again and again.
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
		t.Errorf("%d histories were wanted, of %d operations each", *histories, *operations)
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
			if r := porcupine.CheckOperationsTimeout(exclusion, h.all, time.Minute); r != porcupine.Ok {
				return fmt.Errorf("history %d is not linearizable: %v\n%s", n, r, overlap(h.all))
			}
			return nil
		})
	}
	return running.Wait()
}

// disturb kills and pauses leaders, and cuts an agent off, in turns, until all is done.
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

// overlap shows who took what somebody before, by the fences, still had.
func overlap(all []porcupine.Operation) string {
	type tenure struct{ take, end porcupine.Operation }
	tenures := map[string]map[int64]*tenure{}
	for _, o := range all {
		s := o.Input.(step)
		if tenures[s.of] == nil {
			tenures[s.of] = map[int64]*tenure{}
		}
		if tenures[s.of][s.fence] == nil {
			tenures[s.of][s.fence] = &tenure{}
		}
		switch s.verb {
		case takes:
			tenures[s.of][s.fence].take = o
		case ends:
			tenures[s.of][s.fence].end = o
		}
	}
	var found []string
	for of, byFence := range tenures {
		var before *tenure
		for _, fence := range slices.Sorted(maps.Keys(byFence)) {
			now := byFence[fence]
			if before != nil && before.end.Call > now.take.Return {
				found = append(found, fmt.Sprintf("%s: client %d had it from %v to %v, and client %d took it between %v and %v, with fence %d", of, before.take.ClientId,
					time.Duration(before.take.Return), time.Duration(before.end.Call), now.take.ClientId, time.Duration(now.take.Call), time.Duration(now.take.Return), fence))
			}
			before = now
		}
	}
	return strings.Join(found, "\n")
}
