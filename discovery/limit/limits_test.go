package limit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/lease"
	"disc/discovery/life"
	"disc/discovery/quota"
	"disc/discovery/retry/retrytest"
)

var keys = discovery.NewKeys("default")

// newLimits returns limits with the options of an agent.
func newLimits(t testing.TB, client *clientv3.Client) *Limits {
	return etcdtest.Must(New(client, keys, Options{Life: life.New(client, keys, life.Options{}), Space: quota.NewSpace(client, 0), Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))}))
}

// start runs limits, as an agent does, until the test ends.
func start(t testing.TB, client *clientv3.Client) *Limits {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l := newLimits(t, client)
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return l
}

// startAlone runs limits on an etcd of their own.
func startAlone(t testing.TB) *Limits {
	t.Helper()
	return start(t, etcdtest.Client(t, etcdtest.Start(t).Endpoint()))
}

func mustPut(t testing.TB, l *Limits, name string, limit discovery.Limit) {
	t.Helper()
	if _, _, err := l.Put(t.Context(), name, limit); err != nil {
		t.Fatal(err)
	}
}

// mustTake takes until a take is granted.
func mustTake(t testing.TB, l *Limits, name string, n int64) discovery.Decision {
	t.Helper()
	var d discovery.Decision
	retrytest.Eventually(t, "a token of "+name, func() bool {
		var err error
		if d, err = l.Take(t.Context(), name, n); err != nil {
			t.Fatal(err)
		}
		return d.Granted
	})
	return d
}

func TestTake(t *testing.T) {
	t.Parallel()
	l := startAlone(t)
	mustPut(t, l, "api", policy(50, 50))
	mustTake(t, l, "api", 20)
	mustPut(t, l, "api", policy(40, 50))
	d := mustTake(t, l, "api", 20)
	if d.Limit.Rate != 40 || d.Unavailable || d.Full <= 0 {
		t.Errorf("granted with %+v", d)
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	l := startAlone(t)
	mustPut(t, l, "api", policy(50, 50))
	for _, c := range []struct {
		name string
		n    int64
		want error
		text string
	}{
		{"api", 0, discovery.ErrInvalid, "0 tokens cannot be taken"},
		{"api", 51, discovery.ErrInvalid, "only up to its burst of 50"},
		{"no/name", 1, discovery.ErrInvalid, "limit name"},
		{"none", 1, discovery.ErrNotFound, "there is no limit none"},
	} {
		t.Run(c.text, func(t *testing.T) {
			for range 2 { // the second is answered from memory if the limit is missing
				if _, err := l.Take(t.Context(), c.name, c.n); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
					t.Errorf("take %d of %s: %v, want %q", c.n, c.name, err, c.text)
				}
			}
		})
	}
	mustPut(t, l, "none", policy(50, 50))
	mustTake(t, l, "none", 1)
	if _, err := l.Delete(t.Context(), "none"); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Take(t.Context(), "none", 1); !errors.Is(err, discovery.ErrNotFound) {
		t.Errorf("take of what was removed: %v", err)
	}
}

func TestGrantedTakeAllocatesNothing(t *testing.T) {
	l := startAlone(t)
	putSlow(t, l, "api")
	stockTokens(t, l, "api", 5000)
	if n := retrytest.Allocations(1000, func() {
		if d, err := l.Take(context.Background(), "api", 1); err != nil || !d.Granted {
			t.Fatal(d, err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestDeniedTakeAllocatesNothing(t *testing.T) {
	l := startAlone(t)
	putSlow(t, l, "api")
	if n := retrytest.Allocations(1000, func() {
		if d, err := l.Take(context.Background(), "api", 1); err != nil || d.Granted {
			t.Fatal(d, err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// putSlow sets a limit of which nothing can be bought during a test, since its burst is
// taken.
func putSlow(t testing.TB, l *Limits, name string) {
	t.Helper()
	mustPut(t, l, name, policy(0.001, 1))
	mustTake(t, l, name, 1)
}

// stockTokens replaces an agent's bought tokens by n that are good for an hour.
func stockTokens(t testing.TB, l *Limits, name string, n int64) {
	t.Helper()
	p := (*l.purchasers.Load())[name]
	p.update(func(now time.Duration) {
		p.account.tokens.clear()
		p.account.tokens.add(n, now+time.Hour)
	})
}

func TestTakeAll(t *testing.T) {
	t.Parallel()
	l := startAlone(t)
	putSlow(t, l, "rich")
	putSlow(t, l, "poor")
	stockTokens(t, l, "rich", 10)
	takes := []discovery.Take{{Limit: "rich", N: 1}, {Limit: "poor", N: 1}}
	left := func() int64 {
		p := (*l.purchasers.Load())["rich"]
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.account.tokens.total
	}
	d, err := l.TakeAll(t.Context(), takes)
	if err != nil || len(d) != 2 || !d[0].Granted || d[1].Granted || d[1].RetryAfter <= 0 {
		t.Errorf("decisions %+v, %v", d, err)
	}
	if left() != 10 {
		t.Errorf("%d tokens are left of 10, although nothing was granted", left())
	}
	if d, err := l.TakeAll(t.Context(), takes[:1]); err != nil || len(d) != 1 || !d[0].Granted {
		t.Errorf("decisions %+v, %v", d, err)
	}
}

func TestEtcdAway(t *testing.T) {
	t.Parallel()
	server := etcdtest.Start(t)
	link := etcdtest.StartLink(t, server.Endpoint())
	l := start(t, etcdtest.Client(t, link.Endpoint()))
	allow := policy(20, 20)
	allow.OnUnavailable = discovery.AllowUnavailable
	mustPut(t, l, "deny", policy(20, 20))
	mustPut(t, l, "allow", allow)
	mustTake(t, l, "deny", 1)
	mustTake(t, l, "allow", 1)
	link.Freeze()
	for name, granted := range map[string]bool{"deny": false, "allow": true} {
		retrytest.Eventually(t, name+" decides by itself", func() bool {
			d, err := l.Take(t.Context(), name, 1)
			return err == nil && d.Unavailable && d.Granted == granted
		})
	}
	link.Mend()
	link.Cut()
	for _, name := range []string{"deny", "allow"} {
		retrytest.Eventually(t, name+" is counted again", func() bool {
			d, err := l.Take(t.Context(), name, 1)
			return err == nil && d.Granted && !d.Unavailable
		})
	}
}

// A limit that is not used any more is evicted, and watched again when it is used again.
func TestEviction(t *testing.T) {
	t.Parallel()
	l := startAlone(t)
	mustPut(t, l, "api", policy(50, 50))
	mustTake(t, l, "api", 1)
	evict(t, l, "api")
	mustTake(t, l, "api", 1)
}

// evict ends the watch of a limit, as if it had not been used for long.
func evict(t *testing.T, l *Limits, name string) {
	t.Helper()
	p := (*l.purchasers.Load())[name]
	p.mu.Lock()
	p.lastUsed = lease.Uptime() - idleTime - time.Second
	p.mu.Unlock()
	l.editPurchasers(func(map[string]*purchaser) {}) // wakes Run
	retrytest.Eventually(t, "the end of the watch", func() bool { return (*l.purchasers.Load())[name] == nil })
}

// A new limit has its whole burst at once, through each agent.
func TestNewLimitGivesItsBurst(t *testing.T) {
	t.Parallel()
	server := etcdtest.Start(t)
	l, other := start(t, etcdtest.Client(t, server.Endpoint())), start(t, etcdtest.Client(t, server.Endpoint()))
	attempt := 0
	// A take waits for a second only, so a slow machine may need another limit.
	retrytest.Succeeds(t, func() error {
		attempt++
		name := fmt.Sprint("api-", attempt)
		mustPut(t, l, name, policy(1.0/60, 60))
		for _, c := range []struct {
			through *Limits
			n, left int64
		}{{l, 40, 20}, {other, 20, 0}} {
			d, err := c.through.Take(t.Context(), name, c.n)
			if err != nil {
				return err
			}
			if !d.Granted || d.Remaining != c.left {
				return fmt.Errorf("the first take of %d from %s: %+v; want it granted, and %d left", c.n, name, d, c.left)
			}
		}
		return nil
	})
}

// An agent that was away for a moment, and one that did not use a limit for long, know what
// was taken, and buy again at once.
func TestBlipForgetsNothing(t *testing.T) {
	t.Parallel()
	server := etcdtest.Start(t)
	link := etcdtest.StartLink(t, server.Endpoint())
	l := start(t, etcdtest.Client(t, link.Endpoint()))
	mustPut(t, l, "api", policy(0.001, 50))
	mustTake(t, l, "api", 10)
	for _, disturb := range []func(){link.Cut, func() { evict(t, l, "api") }} {
		disturb()
		mustTake(t, l, "api", 1)
	}
	// A purchase whose answer was cut off may count, too. Who forgets owes the whole burst.
	if d, err := l.Take(t.Context(), "api", 41); err != nil || d.Granted || d.Remaining < 1 || d.Remaining > 38 {
		t.Errorf("after 12 of 50 were taken: %+v, %v", d, err)
	}
}

// A limit that this agent has not taken from yet is known, and its on_unavailable decides.
func TestUnusedLimitWhileEtcdIsAway(t *testing.T) {
	t.Parallel()
	server := etcdtest.Start(t)
	link := etcdtest.StartLink(t, server.Endpoint())
	l := start(t, etcdtest.Client(t, link.Endpoint()))
	allow := policy(20, 20)
	allow.OnUnavailable = discovery.AllowUnavailable
	mustPut(t, l, "allow", allow)
	mustPut(t, l, "deny", policy(20, 20))
	retrytest.Eventually(t, "the policies", func() bool {
		known, err := l.Exists(t.Context(), "deny")
		return known && err == nil
	})
	link.Freeze()
	for name, granted := range map[string]bool{"deny": false, "allow": true} {
		d, err := l.Take(t.Context(), name, 1)
		if err != nil || !d.Unavailable || d.Granted != granted || d.Cause == nil {
			t.Errorf("%s: %+v, %v", name, d, err)
		}
	}
}

// In a large fleet agents ask rarely whether their views are current.
func TestFreshForFollowsTheInterval(t *testing.T) {
	l := etcdtest.Must(New(nil, keys, Options{ProgressInterval: func() time.Duration { return 40 * time.Second }}))
	a := restedAccount(0)
	a.confirm(0, 0, l.freshFor())
	if r := a.take(40*time.Second, 1); r.outcome != queued {
		t.Errorf("a take just before the view is confirmed again: %v, want it to be queued", r.outcome)
	}
	if r := a.take(2*time.Minute, 1); r.outcome != unavailable {
		t.Errorf("a take long after it should have been confirmed: %v, want unavailable", r.outcome)
	}
}

// An etcd that is out of space answers, but sells nothing. The cause says so.
func TestOutOfSpace(t *testing.T) {
	t.Parallel()
	server := etcdtest.Start(t)
	client := etcdtest.Client(t, server.Endpoint())
	l := start(t, client)
	mustPut(t, l, "api", policy(20, 20))
	mustTake(t, l, "api", 1)
	etcdtest.RaiseNoSpace(t, client)
	retrytest.Eventually(t, "the cause", func() bool {
		d, err := l.Take(t.Context(), "api", 1)
		return err == nil && d.Unavailable && strings.Contains(d.Cause.Error(), "is out of space")
	})
	if _, _, err := start(t, client).Put(t.Context(), "other", policy(20, 20)); !errors.Is(err, discovery.ErrStorageFull) {
		t.Errorf("a new limit: %v, want that storage is full", err)
	}
}

// A limit has its burst although it is made before this agent, the first, has read anything.
func TestPutAtOnce(t *testing.T) {
	t.Parallel()
	client := etcdtest.Client(t, etcdtest.Start(t).Endpoint())
	mustPut(t, newLimits(t, client), "sms", discovery.Limit{Rate: 1, Per: discovery.Duration(time.Hour)})
	mustTake(t, start(t, client), "sms", 1)
}

// A policy of another life of etcd is not kept because its revision is the same.
func TestPolicyOfAnotherLife(t *testing.T) {
	t.Parallel()
	a := restedAccount(time.Hour)
	a.forgetPolicy()
	a.setPolicy(time.Hour, Policy{Limit: policy(10, 10), Created: 1, Revision: 1})
	if a.rate != 10 {
		t.Errorf("the rate is %v, want that of the new life's policy of the same revision, 10", a.rate)
	}
}

// An operator may write anything to the keys by hand.
func TestKeysEditedByHand(t *testing.T) {
	t.Parallel()
	l := startAlone(t)
	mustPut(t, l, "api", policy(50, 50))
	mustTake(t, l, "api", 1)
	for _, value := range []string{"", "junk", `{"sold":-1}`, `{"sold":1,"sale":"x"}`} {
		if _, err := l.client.Put(t.Context(), keys.Ledger("api"), value); err != nil {
			t.Fatal(err)
		}
		mustTake(t, l, "api", 1)
	}
	if _, err := l.client.Delete(t.Context(), keys.Ledger("api")); err != nil {
		t.Fatal(err)
	}
	mustTake(t, l, "api", 1)
	if _, err := l.client.Put(t.Context(), keys.Limit("api"), `{"rate":"much"}`); err != nil {
		t.Fatal(err)
	}
	retrytest.Eventually(t, "the error", func() bool {
		_, err := l.Take(t.Context(), "api", 1)
		return errors.Is(err, discovery.ErrUnavailable) && strings.Contains(err.Error(), "set it again")
	})
	mustPut(t, l, "api", policy(50, 50))
	mustTake(t, l, "api", 1)
}
