package claim

import (
	"flag"
	"fmt"
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
)

var (
	histories  = flag.Int("claim.histories", etcdtest.Length(8, 50), "number of histories of locks and claims to check")
	operations = flag.Int("claim.operations", 500, "number of operations in each history")
)

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
			h := newHistory(int64(*operations), time.Millisecond, 200*time.Millisecond)
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
				return fmt.Errorf("history %d is not linearizable\n%s", n, violations(h.all))
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
