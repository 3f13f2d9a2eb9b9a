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
)

// waitTimeout bounds how long what must hold in the end may take on a loaded machine.
const waitTimeout = time.Minute

// TestChaos lets faults loose on a fleet for a time, heals them, and checks that the
// registrations, the answers and the catalogs are as they must be.
func TestChaos(t *testing.T) {
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	t.Logf("seed %d; to repeat: go test ./e2e/chaos -v -chaos.seed=%d -chaos.duration=%v", *seed, *seed, *duration)
	etcd := etcdtest.StartCluster(t, 3)
	var agents []*agent
	for n := range 4 {
		agents = append(agents, startAgent(t, fmt.Sprintf("a%d", n), etcd))
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
		eventually(t, healed, a.name+" answers for all that it was asked", func() error { return f.retryUnanswered(t.Context(), a) })
	}
	t.Logf("%d instances are wanted", len(f.wanted("")))
	for _, a := range agents {
		eventually(t, healed, "all that "+a.name+" was told to register is in etcd", func() error { return registrationsMatch(t.Context(), client, a, f.wanted(a.name)) })
	}
	for _, a := range agents {
		eventually(t, healed, "the catalog of "+a.name+" is what etcd holds", func() error { return catalogMatches(t.Context(), client, a) })
		eventually(t, healed, "lookups at "+a.name+" are answered with what is wanted", func() error { return lookupsMatch(t.Context(), a, f.wanted("")) })
	}
	stopReading()
	readers.Wait()
	t.Logf("%d lookups were answered", answers.Load())
}

// eventually waits until a check passes, and says how long that took and what was wrong
// until then.
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
			t.Fatalf("not %v after the last fault: %s: %v", took, what, err)
		}
		before = err
		<-time.After(50 * time.Millisecond)
	}
}

// recordsInEtcd returns what etcd holds, by a linearizable range: the records by their keys.
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

// registrationsMatch returns an error unless etcd holds just these of an agent, under the lease
// that it has now.
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
			return fmt.Errorf("%s is under lease %s, and the agent has %s", id, lease, status.Session.Lease)
		}
	}
	if !slices.Equal(ids, wanted) {
		return fmt.Errorf("etcd holds %v, want %v", ids, wanted)
	}
	return nil
}

// catalogMatches returns an error unless an agent's catalog is what etcd holds.
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
		return fmt.Errorf("it has %v, and etcd %v", inView, inEtcd)
	}
	return nil
}

// lookupsMatch returns an error unless lookups of all services give these instances.
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
		return fmt.Errorf("it answers %v, want %v", ids, wanted)
	}
	return nil
}
