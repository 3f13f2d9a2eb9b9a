package claim

import (
	"encoding/json"
	"flag"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/catalog"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/lease"
	"disc/discovery/retry/retrytest"
)

var (
	restores         = flag.Int("claim.restores", etcdtest.Length(1, 5), "how often each way of losing etcd's data is tried")
	restoreHistories = flag.Int("claim.restore-histories", etcdtest.Length(4, 10), "number of histories of locks and claims each time")
)

// restorer makes etcd lose writes while clients use it.
type restorer struct {
	t         *testing.T
	cluster   *etcdtest.Cluster
	client    *clientv3.Client
	links     []*etcdtest.Link // between one of the agents and etcd
	backup    string
	locks     []string // their names
	services  []string // each with one slot
	histories []*history
}

// prepare writes what the clients need to an empty etcd.
func (r *restorer) prepare(c *clientv3.Client) {
	r.t.Helper()
	if _, err := c.Put(etcdtest.Context(r.t), keys.QuarantineLength(), `{"length":"2s"}`); err != nil {
		r.t.Fatal(err)
	}
	for _, service := range r.services {
		register(r.t, c, "only", 1, func(i *discovery.Instance) { i.Service = service })
	}
}

// backUp stops etcd and copies its data.
func (r *restorer) backUp() {
	r.cluster.Kill()
	r.backup = r.cluster.CopyData()
	r.cluster.Start()
}

func (r *restorer) putBack() {
	r.cluster.Kill()
	r.cluster.PutBack(r.backup)
	r.cluster.Start()
}

func (r *restorer) wipe() {
	r.cluster.Kill()
	r.cluster.Wipe()
	r.cluster.StartHidden(r.prepare)
}

// cutOff cuts one of the agents off during a fault, and for longer than the quarantine after it.
func (r *restorer) cutOff(fault func()) {
	for _, l := range r.links {
		l.Freeze()
	}
	fault()
	<-time.After(4 * time.Second)
	for _, l := range r.links {
		l.Cut()
		l.Mend()
	}
}

// deleteKeys deletes the key of each holder, a few times.
func (r *restorer) deleteKeys() {
	for range 5 {
		<-time.After(200 * time.Millisecond)
		for n, h := range r.histories {
			r.deleteKey(h, r.prefix(n))
		}
	}
}

// prefix returns that of the keys of a history: the first are of locks, the others of claims.
func (r *restorer) prefix(n int) string {
	if n < len(r.locks) {
		return keys.Lock(r.locks[n])
	}
	return keys.ClaimsOf(r.services[n-len(r.locks)])
}

// deleteKey deletes the first key below a prefix, which is that of the holder.
func (r *restorer) deleteKey(h *history, prefix string) {
	ctx := etcdtest.Context(r.t)
	first, err := r.client.Get(ctx, prefix, append(clientv3.WithFirstCreate(), clientv3.WithPrefix())...)
	if err != nil {
		r.t.Error(err)
		return
	}
	for _, kv := range first.Kvs {
		var owner struct{ ID string }
		if err := json.Unmarshal(kv.Value, &owner); err != nil || owner.ID == "" {
			r.t.Errorf("%s: %s has no id: %v", kv.Key, kv.Value, err)
		}
		h.mu.Lock()
		h.deleted[owner.ID] = h.now()
		h.mu.Unlock()
		unchanged := clientv3.Compare(clientv3.ModRevision(string(kv.Key)), "=", kv.ModRevision)
		done, err := r.client.Txn(ctx).If(unchanged).Then(clientv3.OpDelete(string(kv.Key))).Commit()
		if err != nil {
			r.t.Error(err)
		} else if !done.Succeeded { // the slot has another holder by now
			h.mu.Lock()
			delete(h.deleted, owner.ID)
			h.mu.Unlock()
		}
	}
}

// start runs four clients of each history until stop is called.
func (r *restorer) start(agents []*claimant) (stop func()) {
	var clients sync.WaitGroup
	for n := range len(r.locks) + len(r.services) {
		h := newHistory(1<<30, time.Duration(*restoreHistories)*15*time.Millisecond, 500*time.Millisecond)
		r.histories = append(r.histories, h)
		for client := range 2 * len(agents) {
			a := agents[client%len(agents)]
			take := func(wait time.Duration) (*held, error) {
				if n < len(r.locks) {
					return takeLock(r.t, a, r.locks[n], wait)
				}
				return takeSlot(r.t, a, r.services[n-len(r.locks)], wait)
			}
			clients.Go(func() { h.run(r.t, client, take) })
		}
	}
	return func() {
		for _, h := range r.histories {
			h.left.Store(0)
		}
		clients.Wait()
	}
}

// awaitGrants waits until each lock and each slot was granted again.
func (r *restorer) awaitGrants() {
	r.t.Helper()
	for n, h := range r.histories {
		before := h.takes.Load()
		retrytest.Eventually(r.t, "a grant of "+r.prefix(n), func() bool { return h.takes.Load() > before })
	}
}

// check checks each history.
func (r *restorer) check() {
	for n, h := range r.histories {
		r.t.Logf("%s: %d grants, %d operations, %d keys deleted", r.prefix(n), h.takes.Load(), len(h.all), len(h.deleted))
		if porcupine.CheckOperationsTimeout(exclusion, h.all, time.Minute) != porcupine.Ok {
			r.t.Errorf("the history of %s is not linearizable\n%s", r.prefix(n), firstLines(violations(h.all), 5))
		}
	}
}

// firstLines returns the first n lines of a text.
func firstLines(text string, n int) string {
	lines := strings.SplitAfterN(text, "\n", n+1)
	return strings.Join(lines[:min(n, len(lines))], "")
}

// Locks and claims are exclusive, and a later holder has a higher fence, while etcd is wiped and put
// back again and again, also while one of the agents is cut off, and keys are deleted.
func TestHistoriesOverRestores(t *testing.T) {
	t.Parallel()
	r := &restorer{t: t}
	for n := range *restoreHistories / 2 {
		r.locks, r.services = append(r.locks, fmt.Sprintf("l%d", n)), append(r.services, fmt.Sprintf("s%d", n))
	}
	r.cluster = etcdtest.StartCluster(t, etcdtest.Length(1, 3), "--unsafe-no-fsync", "--heartbeat-interval=20", "--election-timeout=200")
	r.client = r.cluster.Client()
	r.prepare(r.client)
	var behind []string
	for _, endpoint := range r.cluster.Endpoints() {
		link := etcdtest.StartLink(t, endpoint)
		r.links, behind = append(r.links, link), append(behind, link.Endpoint())
	}
	agents := []*claimant{
		startClaimantWith(t, "a", lease.MinTTL, catalog.WatchAll, r.cluster.Endpoints()...),
		startClaimantWith(t, "b", lease.MinTTL, catalog.WatchAll, r.cluster.Endpoints()...),
		startClaimantWith(t, "c", lease.MinTTL, catalog.WatchAll, behind...),
	}
	for _, a := range agents {
		for _, service := range r.services {
			a.sees(service, 1)
		}
	}
	for round := range *restores {
		r.histories = nil
		stop := r.start(agents)
		faults := []func(){
			r.backUp, r.deleteKeys, r.putBack, func() { r.cutOff(r.wipe) }, r.putBack, r.backUp, func() { r.cutOff(r.putBack) }, r.wipe,
		}
		for n, fault := range faults[:etcdtest.Length(4, len(faults))] {
			began := time.Now()
			fault()
			r.awaitGrants()
			t.Log(fmt.Sprintf("round %d, fault %d:", round, n), time.Since(began).Round(time.Millisecond))
		}
		stop()
		r.check()
	}
}
