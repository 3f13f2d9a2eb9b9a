package chaos_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/agent/api"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/view"
	"disc/e2e/lastrelease"
)

// waitTimeout bounds the time from the last fault until every check passes.
const waitTimeout = time.Minute

// TestChaos causes faults in a fleet for a time, heals them, and checks the registrations, the
// answers and the catalogs.
func TestChaos(t *testing.T) {
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	t.Logf("seed %d; to repeat: go test ./e2e/chaos -v -chaos.seed=%d -chaos.duration=%v", *seed, *seed, *duration)
	etcd := etcdtest.StartCluster(t, 3)
	var agents []*agent
	last := lastRelease(t)
	for n := range 4 {
		program := ""
		if n%2 == 1 {
			program = last
		}
		agents = append(agents, startAgent(t, fmt.Sprintf("a%d", n), program, etcd))
	}
	client, f := etcd.Client(), newFleet(t, agents)

	using, stopUsing := context.WithCancel(t.Context())
	reading, stopReading := context.WithCancel(t.Context())
	var users, readers sync.WaitGroup
	var answers atomic.Int64
	for n, a := range agents {
		users.Go(func() { f.churn(using, a, rand.New(rand.NewPCG(*seed, uint64(n+1)))) })
		readers.Go(func() { answers.Add(int64(f.read(reading, a))) })
	}
	defer func() {
		stopUsing()
		stopReading()
		users.Wait()
		readers.Wait()
	}()
	injectFaults(t, rand.New(rand.NewPCG(*seed, 0)), faults(etcd, client, agents), *duration)
	stopUsing()
	users.Wait()

	healed := time.Now()
	for _, a := range agents {
		eventually(t, healed, a.name+" answers every request that it has not answered yet", func() error { return f.retryUnanswered(t.Context(), a) })
	}
	t.Logf("%d instances must be registered", len(f.wanted("")))
	for _, a := range agents {
		eventually(t, healed, "every registration of "+a.name+" is in etcd", func() error { return registrationsMatch(t.Context(), client, a, f.wanted(a.name)) })
	}
	for _, a := range agents {
		eventually(t, healed, "the catalog of "+a.name+" equals etcd", func() error { return catalogMatches(t.Context(), client, a) })
		eventually(t, healed, "lookups at "+a.name+" answer with every registration", func() error { return lookupsMatch(t.Context(), a, f.wanted("")) })
	}
	stopReading()
	readers.Wait()
	t.Logf("%d lookups were answered", answers.Load())
}

// lastRelease returns the program of the last release in long runs, where git has its commit. Half of
// the agents run it.
func lastRelease(t *testing.T) string {
	t.Helper()
	if !etcdtest.Long() {
		return ""
	}
	if err := lastrelease.Check(); err != nil {
		t.Log(err)
		return ""
	}
	program, err := lastrelease.Build()
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// eventually polls check until it passes, and logs how long that took since a moment and the
// last error before. It fails the test when that takes longer than [waitTimeout].
func eventually(t *testing.T, since time.Time, what string, check func() error) {
	t.Helper()
	var before error
	for {
		err := check()
		took := time.Since(since).Round(time.Millisecond)
		switch {
		case err == nil && before != nil:
			t.Logf("%v after the last fault: %s; before: %v", took, what, before)
			return
		case err == nil:
			t.Logf("%v after the last fault: %s", took, what)
			return
		case took > waitTimeout:
			t.Fatalf("still not %v after the last fault: %s: %v", took, what, err)
		}
		before = err
		<-time.After(50 * time.Millisecond)
	}
}

// recordsInEtcd reads the records that are not leaving, by instance id, by a linearizable
// range.
func recordsInEtcd(ctx context.Context, client *clientv3.Client) (map[string]view.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	got, err := client.Get(ctx, "/disc/v1/default/services/", clientv3.WithPrefix())
	if err != nil {
		return nil, err
	}
	records := map[string]view.Record{}
	for _, kv := range got.Kvs {
		r := view.Record{Modified: kv.ModRevision, Lease: kv.Lease}
		if err := json.Unmarshal(kv.Value, &r.Instance); err != nil {
			return nil, fmt.Errorf("%s: %w", kv.Key, err)
		}
		if !r.Leaving {
			records[r.ID] = r
		}
	}
	return records, nil
}

// registrationsMatch returns an error unless etcd has exactly the wanted instances of an agent,
// under the agent's current lease.
func registrationsMatch(ctx context.Context, client *clientv3.Client, a *agent, wanted []string) error {
	status, err := a.Agent(ctx)
	if err != nil {
		return err
	}
	records, err := recordsInEtcd(ctx, client)
	if err != nil {
		return err
	}
	var ids []string
	for _, id := range slices.Sorted(maps.Keys(records)) {
		if !strings.Contains(id, "-"+a.name+"-") {
			continue
		}
		ids = append(ids, id)
		if lease := fmt.Sprintf("%x", records[id].Lease); lease != status.Session.Lease {
			return fmt.Errorf("%s is under lease %s, and the agent has lease %s", id, lease, status.Session.Lease)
		}
	}
	if !slices.Equal(ids, wanted) {
		return fmt.Errorf("etcd has %v, want %v", ids, wanted)
	}
	return nil
}

// catalogMatches returns an error unless an agent's catalog equals etcd.
func catalogMatches(ctx context.Context, client *clientv3.Client, a *agent) error {
	records, err := recordsInEtcd(ctx, client)
	if err != nil {
		return err
	}
	inEtcd, inView := map[string]int64{}, map[string]int64{}
	for id, r := range records {
		inEtcd[id] = r.Modified
	}
	for _, service := range services {
		list, _, err := a.Instances(ctx, service, api.ListOptions{})
		if err != nil {
			return err
		}
		for _, e := range list {
			if !e.Leaving {
				inView[e.ID] = e.Revision
			}
		}
	}
	if !maps.Equal(inEtcd, inView) {
		return fmt.Errorf("the catalog has %v, and etcd has %v", inView, inEtcd)
	}
	return nil
}

// lookupsMatch returns an error unless lookups of all services return the wanted instances.
func lookupsMatch(ctx context.Context, a *agent, wanted []string) error {
	ids := []string{}
	for _, service := range services {
		answer, _, err := a.Lookup(ctx, service, api.LookupOptions{})
		if err != nil {
			return err
		}
		for _, e := range answer.Endpoints {
			ids = append(ids, e.ID)
		}
	}
	slices.Sort(ids)
	if !slices.Equal(ids, wanted) {
		return fmt.Errorf("lookups return %v, want %v", ids, wanted)
	}
	return nil
}
