package claim

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"disc/discovery"
	"disc/discovery/catalog"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/lock"
	"disc/discovery/lock/locktest"
	"disc/discovery/retry/retrytest"
)

func TestClaim(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	a, b := startClaimant(t, "a", etcd.Endpoint()), startClaimant(t, "b", etcd.Endpoint())
	register(t, a.agent.Client, "gpu-1", 2)
	register(t, a.agent.Client, "gpu-2", 1)
	register(t, a.agent.Client, "sick", 9, func(i *discovery.Instance) { i.Status = discovery.Critical })
	a.sees("gpu", 2)
	b.sees("gpu", 2)
	taken := map[string]int64{}
	var grants []*Grant
	for _, c := range []*claimant{a, b, a} {
		g := c.claim("GPU", Request{TTL: time.Minute})
		slot := fmt.Sprintf("%s/%d", g.Endpoint().ID, g.Slot())
		if taken[slot] != 0 || g.Fence() == 0 || g.ValidFor() <= 0 {
			t.Errorf("claimed %s, fence %d, valid for %v", slot, g.Fence(), g.ValidFor())
		}
		taken[slot] = g.Fence()
		grants = append(grants, g)
	}
	if taken["gpu-1/0"] == 0 || taken["gpu-1/1"] == 0 || taken["gpu-2/0"] == 0 {
		t.Errorf("taken are %v", taken)
	}
	a.full("gpu", Request{})
	b.full("gpu", Request{Wait: 20 * time.Millisecond})
	if _, err := a.Claim(etcdtest.Context(t), "nosuch", Request{}); !errors.Is(err, discovery.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	if _, err := b.Renew(grants[1].ID()); err != nil {
		t.Error(err)
	}
	locktest.AwaitKeys(t, a.agent.Client, keys.Claims(), 3)
	b.release(grants[1])
	b.release(grants[1])
	if again := a.claim("gpu", Request{}); again.Fence() <= grants[1].Fence() || again.Endpoint().ID != grants[1].Endpoint().ID {
		t.Errorf("claimed %s with fence %d after %d", again.Endpoint().ID, again.Fence(), grants[1].Fence())
	}
}

func TestClaimPrefers(t *testing.T) {
	t.Parallel()
	a := startClaimant(t, "a", etcdtest.Start(t).Endpoint())
	zone := func(z string, weight int) func(*discovery.Instance) {
		return func(i *discovery.Instance) { i.Zone, i.Weight = z, weight }
	}
	register(t, a.agent.Client, "here", 2, zone("here", 1))
	register(t, a.agent.Client, "there", 2, zone("there", 1))
	register(t, a.agent.Client, "last", 2, zone("here", 0))
	a.sees("gpu", 3)
	for n, want := range []string{"here", "here", "there", "there", "last", "last"} {
		if g := a.claim("gpu", Request{PreferZone: "here"}); g.Endpoint().ID != want {
			t.Errorf("claim %d is of %s, want %s", n, g.Endpoint().ID, want)
		}
	}
}

// A waiting caller gets a slot that is released, or one of a new instance.
func TestClaimWaits(t *testing.T) {
	t.Parallel()
	a, b := startPair(t)
	held := a.claim("gpu", Request{})
	got := make(chan *Grant)
	for range 3 {
		go func() {
			g, err := b.Claim(etcdtest.Context(t), "gpu", Request{Wait: time.Minute})
			if err != nil {
				t.Error(err)
			}
			got <- g
		}()
	}
	retrytest.Eventually(t, "three wait", func() bool { return b.waiters("gpu") == 3 })
	a.release(held)
	second := <-got
	b.release(second)
	third := <-got
	register(t, a.agent.Client, "gpu-2", 1)
	fourth := <-got
	if !(held.Fence() < second.Fence() && second.Fence() < third.Fence() && third.Fence() < fourth.Fence()) || fourth.Endpoint().ID != "gpu-2" {
		t.Errorf("fences %d, %d, %d, %d of %s", held.Fence(), second.Fence(), third.Fence(), fourth.Fence(), fourth.Endpoint().ID)
	}
}

// Run can be stopped, as the watchdog does when it is stuck, and be called again.
func TestClaimsRunAgain(t *testing.T) {
	t.Parallel()
	a, b := startPair(t)
	held := a.claim("gpu", Request{Wait: time.Minute})
	b.full("gpu", Request{Wait: 20 * time.Millisecond}) // it watches the claims
	b.stop()
	locktest.Run(t, b.Run)
	a.release(held)
	b.claim("gpu", Request{Wait: time.Minute})
}

// A slot that becomes free wakes one of the callers that wait for it.
func TestClaimWakesOne(t *testing.T) {
	t.Parallel()
	const waiters, bound = 40, 3
	a, b := startPair(t)
	held := a.claim("gpu", Request{})
	var waiting errgroup.Group
	for range waiters {
		waiting.Go(func() error {
			g, err := b.Claim(etcdtest.Context(t), "gpu", Request{Wait: time.Minute})
			if err == nil {
				b.release(g)
			}
			return err
		})
	}
	retrytest.Eventually(t, "all wait", func() bool { return b.waiters("gpu") == waiters })
	before := b.transactions()
	a.release(held)
	if err := waiting.Wait(); err != nil {
		t.Fatal(err)
	}
	sent := b.transactions() - before
	t.Logf("%.0f transactions of %d who waited, to claim and to release", sent, waiters)
	if sent > bound*waiters {
		t.Errorf("%.0f transactions of %d who waited, at most %d", sent, waiters, bound*waiters)
	}
}

// A claim is lost when its instance is replaced, but not when the record is only updated.
func TestClaimedInstanceGone(t *testing.T) {
	t.Parallel()
	a := startClaimant(t, "a", etcdtest.Start(t).Endpoint())
	register(t, a.agent.Client, "gpu-1", 1)
	a.sees("gpu", 1)
	g := a.claim("gpu", Request{})
	register(t, a.agent.Client, "gpu-1", 2, func(i *discovery.Instance) { i.Run = "restarted" })
	other := a.claim("gpu", Request{Wait: time.Minute}) // the second slot is known
	if _, err := a.Renew(g.ID()); err != nil {
		t.Errorf("renewed: %v", err)
	}
	if _, err := a.agent.Client.Delete(etcdtest.Context(t), keys.Instance("gpu", "gpu-1")); err != nil {
		t.Fatal(err)
	}
	register(t, a.agent.Client, "gpu-1", 2)
	for _, g := range []*Grant{g, other} {
		if err := locktest.AwaitLost(t, g.Grant); !strings.Contains(err.Error(), `instance "gpu-1" is gone`) {
			t.Errorf("lost because %v", err)
		}
	}
	if _, err := a.Renew(g.ID()); !errors.Is(err, discovery.ErrLost) {
		t.Errorf("renewed: %v", err)
	}
	if done, err := a.Release(etcdtest.Context(t), g.ID()); done || !errors.Is(err, discovery.ErrLost) {
		t.Errorf("released: %v, %v", done, err)
	}
	a.claim("gpu", Request{Wait: time.Minute})
	a.claim("gpu", Request{Wait: time.Minute})
}

// When the answer to a claim is lost, nobody holds the claim.
func TestClaimUnanswered(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	link := etcdtest.StartLink(t, etcd.Endpoint())
	a, b := startClaimant(t, "a", link.Endpoint()), startClaimant(t, "b", etcd.Endpoint())
	register(t, b.agent.Client, "gpu-1", 1)
	a.sees("gpu", 1)
	b.sees("gpu", 1)
	a.release(a.claim("gpu", Request{})) // its slots are watched
	link.HoldAnswers()
	ctx, hangUp := context.WithCancel(t.Context())
	gaveUp := make(chan error, 1)
	go func() {
		_, err := a.Claim(ctx, "gpu", Request{})
		gaveUp <- err
	}()
	locktest.AwaitKeys(t, b.agent.Client, keys.Claims(), 1)
	hangUp()
	if err := <-gaveUp; err == nil {
		t.Fatal("claimed without an answer")
	}
	link.Mend()
	b.claim("gpu", Request{Wait: time.Minute})
}

// A service that is not claimed from is unsubscribed once nothing of it is held, and
// subscribed again by the next claim.
func TestIdleServiceIsUnsubscribed(t *testing.T) {
	t.Parallel()
	a := startClaimant(t, "a", etcdtest.Start(t).Endpoint())
	register(t, a.agent.Client, "gpu-1", 2)
	a.sees("gpu", 1)
	g := a.claim("gpu", Request{})
	leave := func() int {
		a.slots.mu.Lock()
		a.usages["gpu"].lastClaim = time.Now().Add(-idleAfter - time.Second)
		a.slots.mu.Unlock()
		a.unsubscribeIdle(etcdtest.Context(t))
		return len(a.slots.services)
	}
	if n := leave(); n != 1 {
		t.Errorf("%d services are known, while one is claimed from", n)
	}
	a.release(g)
	if n := leave(); n != 0 {
		t.Errorf("%d services are known", n)
	}
	for range 2 {
		if g := a.claim("gpu", Request{}); g.Fence() == 0 {
			t.Error("no fence")
		}
	}
	a.full("gpu", Request{})
}

// An agent that watches services on demand can claim from one, and loses the claim when the
// instance is gone.
func TestClaimOnDemand(t *testing.T) {
	t.Parallel()
	a := startClaimantWith(t, "a", locktest.LongTTL, catalog.WatchLazy, etcdtest.Start(t).Endpoint())
	register(t, a.agent.Client, "gpu-1", 1)
	g := a.claim("gpu", Request{})
	if _, err := a.agent.Client.Delete(etcdtest.Context(t), keys.Instance("gpu", "gpu-1")); err != nil {
		t.Fatal(err)
	}
	select {
	case <-g.Lost():
	case <-etcdtest.Context(t).Done():
		t.Error("the claim is not lost though its instance is gone")
	}
	if _, err := a.Claim(etcdtest.Context(t), "nosuch", Request{}); !errors.Is(err, discovery.ErrNotFound) {
		t.Error(err)
	}
}

// A thousand callers of four agents that claim a thousand slots get one each, with few
// transactions.
func TestThousandClaimants(t *testing.T) {
	t.Parallel()
	const slots, bound = 1000, 4
	etcd := etcdtest.Start(t)
	var agents []*claimant
	for n := range 4 {
		agents = append(agents, startClaimant(t, fmt.Sprint(n), etcd.Endpoint()))
	}
	for n := range slots / 4 {
		register(t, agents[0].agent.Client, fmt.Sprintf("gpu-%d", n), 4)
	}
	for _, a := range agents {
		a.sees("gpu", slots/4)
	}
	var mu sync.Mutex
	taken := map[string]bool{}
	var claiming errgroup.Group
	for n := range slots {
		claiming.Go(func() error {
			g, err := agents[n%4].Claim(etcdtest.Context(t), "gpu", Request{Wait: time.Minute})
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			taken[fmt.Sprintf("%s/%d", g.Endpoint().ID, g.Slot())] = true
			return nil
		})
	}
	if err := claiming.Wait(); err != nil {
		t.Fatal(err)
	}
	transactions := 0.0
	for _, a := range agents {
		transactions += a.transactions()
	}
	t.Logf("%.2f transactions a claim", transactions/slots)
	if len(taken) != slots || transactions > bound*slots {
		t.Errorf("%d of %d slots are taken by %.0f transactions, at most %d", len(taken), slots, transactions, bound*slots)
	}
}

// gone is the context of a caller that hangs up in the moment of its grant: it has ended, but
// the calls to etcd are not cut off.
type gone struct{ context.Context }

func (gone) Err() error { return context.Canceled }

// A caller that hangs up in the moment of its grant does not hold the claim.
func TestClaimCallerGone(t *testing.T) {
	t.Parallel()
	a := startClaimant(t, "a", etcdtest.Start(t).Endpoint())
	register(t, a.agent.Client, "gpu-1", 1)
	a.sees("gpu", 1)
	g, err := a.Claim(gone{context.Background()}, "gpu", Request{TTL: time.Hour})
	if g != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, %v", g, err)
	}
	a.claim("gpu", Request{})
}

// A list shows who holds which slot, and no ids of claims.
func TestClaimList(t *testing.T) {
	t.Parallel()
	a, b := startPair(t)
	g := b.claim("gpu", Request{})
	ctx := etcdtest.Context(t)
	for service, want := range map[string]int{"": 1, "GPU": 1, "tpu": 0} {
		held, truncated, err := a.List(ctx, service)
		if err != nil || truncated || len(held) != want {
			t.Fatalf("%s: got %v, %v, %v", service, held, truncated, err)
		}
		for _, h := range held {
			if time.Since(h.Asked) > time.Hour {
				t.Errorf("asked %v", h.Asked)
			}
			h.Asked = time.Time{}
			if h != (Held{Service: "gpu", Instance: "gpu-1", Holder: lock.ShortID(g.ID()), Node: "b", Fence: g.Fence()}) {
				t.Errorf("got %+v", h)
			}
		}
	}
	if _, _, err := a.List(ctx, "g/pu"); !errors.Is(err, discovery.ErrInvalid) {
		t.Errorf("got %v", err)
	}
}

// A claim that does not wait succeeds while the session's stream is opened, when it is not known for
// a moment whether etcd goes on.
func TestClaimWhileStreamOpens(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	a := newClaimant(t, locktest.StartEarly(t, "a", locktest.LongTTL, etcd.Endpoint()), "a", catalog.WatchAll)
	register(t, a.agent.Client, "gpu-1", 1)
	a.sees("gpu", 1)
	claims := 0
	for opened := false; !opened; claims++ {
		contact, _ := a.agent.Session.Contact()
		opened = contact > 0
		g := a.claim("gpu", Request{})
		a.release(g)
	}
	t.Logf("%d claims", claims)
}
