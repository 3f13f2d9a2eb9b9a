package lock_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/life"
	"disc/discovery/lock"
	"disc/discovery/lock/locktest"
)

// startAgents runs two agents on one etcd.
func startAgents(t *testing.T) (a, b *locktest.Agent) {
	t.Helper()
	etcd := etcdtest.Start(t)
	return locktest.Start(t, "a", locktest.LongTTL, etcd.Endpoint()), locktest.Start(t, "b", locktest.LongTTL, etcd.Endpoint())
}

// mustBreak breaks a lock.
func mustBreak(t *testing.T, a *locktest.Agent, name string, r lock.BreakRequest) lock.Breakage {
	t.Helper()
	b, err := a.Break(etcdtest.Context(t), name, r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// valueOf returns the value and the lease of the key of a grant.
func valueOf(t *testing.T, a *locktest.Agent, g *lock.Grant) (map[string]any, int64) {
	t.Helper()
	r, err := a.Client.Get(etcdtest.Context(t), locktest.Keys().Lock(g.Name())+g.ID())
	if err != nil || len(r.Kvs) != 1 {
		t.Fatalf("got %v, %v", r, err)
	}
	var value map[string]any
	if err := json.Unmarshal(r.Kvs[0].Value, &value); err != nil {
		t.Fatal(err)
	}
	return value, r.Kvs[0].Lease
}

// The holder of a broken lock is told at once; the next gets the lock when the holder does not
// rely on it any more.
func TestBreakOwn(t *testing.T) {
	t.Parallel()
	a, b := startAgents(t)
	g := a.MustLock("x", lock.Request{TTL: 2 * time.Second})
	promise := time.Now().Add(g.ValidFor())
	broken := mustBreak(t, a, "x", lock.BreakRequest{By: "ada"})
	if broken.Within <= 0 || broken.Holder.Node != "a" || broken.Holder.Holder != lock.ShortID(g.ID()) {
		t.Errorf("got %+v", broken)
	}
	if err := locktest.AwaitLost(t, g); !strings.Contains(err.Error(), "broken by ada") {
		t.Errorf("lost because %v", err)
	}
	if _, err := a.Renew("x", g.ID()); !errors.Is(err, discovery.ErrLost) {
		t.Errorf("renewed: %v", err)
	}
	next := b.MustLock("x", lock.Request{Wait: time.Minute})
	if early := time.Until(promise); early > 0 {
		t.Errorf("the next has the lock %v before the promise ends", early)
	}
	if next.Fence() <= g.Fence() {
		t.Errorf("fence %d after %d", next.Fence(), g.Fence())
	}
}

// While an agent of the fleet may not know marks, only a break that says that two may hold the lock
// is made.
func TestBreakBelowTheLevel(t *testing.T) {
	t.Parallel()
	a, b := startAgents(t)
	for name, value := range map[string]string{"an older agent": `{"level":1,"target":2}`, "no level": "", "junk": "{"} {
		t.Run(name, func(t *testing.T) {
			_, err := a.Client.Put(etcdtest.Context(t), locktest.Keys().Level(), value)
			if value == "" {
				_, err = a.Client.Delete(etcdtest.Context(t), locktest.Keys().Level())
			}
			if err != nil {
				t.Fatal(err)
			}
			g := a.MustLock("x", lock.Request{})
			if _, err := b.Break(etcdtest.Context(t), "x", lock.BreakRequest{By: "ada"}); !errors.Is(err, discovery.ErrConflict) && !errors.Is(err, discovery.ErrInvalid) {
				t.Errorf("got %v", err)
			}
			if value, _ := valueOf(t, a, g); value["broken"] != nil {
				t.Errorf("the key is %v", value)
			}
			mustBreak(t, b, "x", lock.BreakRequest{By: "ada", Now: true})
			locktest.AwaitLost(t, g)
		})
	}
}

// A mark keeps the lease and the value of the holder's key, and is not moved by another break.
func TestBreakMarks(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	link := etcdtest.StartLink(t, etcd.Endpoint())
	a, b := locktest.Start(t, "a", locktest.LongTTL, link.Endpoint()), locktest.Start(t, "b", locktest.LongTTL, etcd.Endpoint())
	g := a.MustLock("x", lock.Request{})
	link.Freeze() // or a sees the mark, and removes the key
	before, _ := valueOf(t, b, g)
	for _, by := range []string{"ada", "bob"} {
		mustBreak(t, b, "x", lock.BreakRequest{By: by})
	}
	after, lease := valueOf(t, b, g)
	current, _ := a.Session.Lease()
	mark, _ := after["broken"].(map[string]any)
	if mark["by"] != "ada" || lease != int64(current.ID) || after["id"] != before["id"] || after["asked"] != before["asked"] || after["node"] != "a" {
		t.Errorf("got %v with lease %x", after, lease)
	}
	q, err := b.Queue(etcdtest.Context(t), "x")
	if err != nil || q.Holders[0].Broken == nil || q.Holders[0].Broken.By != "ada" {
		t.Errorf("got %+v, %v", q, err)
	}
	link.Mend()
	lock.MarkedBroken(a.Manager, g, lock.Broken{By: "ada"}) // nothing was promised
	locktest.AwaitKeys(t, b.Client, locktest.Keys().Lock("x"), 0)
}

// When the holder's agent does not see the mark, the key goes by who broke the lock, or by who
// waits for it, but not before they have known the mark for longer than any promise.
func TestBreakDeaf(t *testing.T) {
	t.Parallel()
	for name, shared := range map[string]int{"one holder": 1, "shared": 2} {
		for _, who := range []string{"breaker", "waiter"} {
			t.Run(name+" "+who, func(t *testing.T) {
				t.Parallel()
				etcd := etcdtest.Start(t)
				link := etcdtest.StartLink(t, etcd.Endpoint())
				quarantine(t, etcd.Endpoint(), life.MinQuarantine)
				a, b := locktest.Start(t, "a", locktest.LongTTL, link.Endpoint()), locktest.Start(t, "b", locktest.LongTTL, etcd.Endpoint())
				var all []*lock.Grant
				for range shared {
					all = append(all, a.MustLock("x", lock.Request{Shared: shared}))
				}
				link.Freeze()
				began := time.Now()
				r := lock.BreakRequest{By: "ada", Holder: all[0].ID()}
				if who == "breaker" {
					mustBreak(t, b, "x", r)
					locktest.AwaitKeys(t, b.Client, locktest.Keys().Lock("x"), shared-1)
				} else {
					if _, err := lock.Break(etcdtest.Context(t), b.Client, locktest.Keys(), "x", r); err != nil {
						t.Fatal(err)
					}
					b.MustLock("x", lock.Request{Shared: shared, Wait: time.Minute})
				}
				if took := time.Since(began); took < life.MinQuarantine {
					t.Errorf("removed after %v", took)
				}
				link.Mend()
			})
		}
	}
}

// A waiter sees a mark that comes while it waits.
func TestBreakWhileWaiting(t *testing.T) {
	t.Parallel()
	a, b := startAgents(t)
	a.MustLock("x", lock.Request{})
	waited := make(chan error, 1)
	go func() {
		_, err := b.Lock(etcdtest.Context(t), "x", lock.Request{Wait: time.Minute})
		waited <- err
	}()
	locktest.AwaitKeys(t, b.Client, locktest.Keys().Lock("x"), 2)
	if _, err := lock.Break(etcdtest.Context(t), a.Client, locktest.Keys(), "x", lock.BreakRequest{By: "ada"}); err != nil {
		t.Fatal(err)
	}
	if err := <-waited; err != nil {
		t.Error(err)
	}
}

// A key that was written again without a mark stays.
func TestNoBreakWithoutMark(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	quarantine(t, etcd.Endpoint(), life.MinQuarantine)
	b := locktest.Start(t, "b", locktest.LongTTL, etcd.Endpoint())
	for range 2 { // of no agent here, which might lose it within the short promises
		if _, err := b.Client.Put(etcdtest.Context(t), locktest.Keys().Lock("x")+"1-other", `{"id":"1-other","shared":1}`); err != nil {
			t.Fatal(err)
		}
	}
	b.MustFail("x", lock.Request{Wait: life.MinQuarantine + time.Second}, discovery.ErrConflict)
	locktest.AwaitKeys(t, b.Client, locktest.Keys().Lock("x"), 1)
}

// A break that does not wait gives the lock to the next at once; the release tells the holder.
func TestBreakNow(t *testing.T) {
	t.Parallel()
	a, b := startAgents(t)
	g := a.MustLock("x", lock.Request{})
	if broken := mustBreak(t, b, "x", lock.BreakRequest{Now: true}); broken.Within != 0 {
		t.Errorf("got %+v", broken)
	}
	b.MustLock("x", lock.Request{})
	if _, err := a.Release(etcdtest.Context(t), "x", g.ID()); !errors.Is(err, discovery.ErrLost) {
		t.Errorf("released: %v", err)
	}
}

// A break names one holder.
func TestBreakHolder(t *testing.T) {
	t.Parallel()
	a, b := startAgents(t)
	ctx := etcdtest.Context(t)
	one, two := a.MustLock("s", lock.Request{Shared: 2}), b.MustLock("s", lock.Request{Shared: 2})
	for name, c := range map[string]struct {
		lock string
		r    lock.BreakRequest
		kind error
		want string
	}{
		"nobody":           {"nosuch", lock.BreakRequest{}, discovery.ErrNotFound, "nobody holds"},
		"several":          {"s", lock.BreakRequest{}, discovery.ErrInvalid, lock.ShortID(one.ID())},
		"another":          {"s", lock.BreakRequest{Holder: "nosuch"}, discovery.ErrNotFound, lock.ShortID(two.ID())},
		"another agent's":  {"s", lock.BreakRequest{Holder: two.ID(), OwnOnly: true}, discovery.ErrForbidden, "another agent"},
		"no name":          {"s/", lock.BreakRequest{}, discovery.ErrInvalid, "'/'"},
		"own, not its own": {"nosuch", lock.BreakRequest{OwnOnly: true}, discovery.ErrNotFound, "nobody holds"},
	} {
		if _, err := a.Break(ctx, c.lock, c.r); !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	mustBreak(t, a, "s", lock.BreakRequest{Holder: lock.ShortID(one.ID()), OwnOnly: true})
	if err := locktest.AwaitLost(t, one); !strings.Contains(err.Error(), "the agent on node a") {
		t.Errorf("lost because %v", err)
	}
	if _, err := b.Renew("s", two.ID()); err != nil {
		t.Error(err)
	}
}

// Who breaks a lock without an agent can wait until the key is gone, or remove it.
func TestBreakage(t *testing.T) {
	t.Parallel()
	a := locktest.Start(t, "a", locktest.LongTTL, etcdtest.Start(t).Endpoint())
	ctx := etcdtest.Context(t)
	breakX := func() (lock.Breakage, *lock.Grant) {
		g := a.MustLock("x", lock.Request{})
		g.ValidFor() // the agent may see the mark at any time, and is to keep the key then
		return etcdtest.Must(lock.Break(ctx, a.Client, locktest.Keys(), "x", lock.BreakRequest{By: "ada"})), g
	}
	b, g := breakX()
	waited := make(chan error, 1)
	go func() { waited <- b.Await(ctx, a.Client) }()
	a.MustRelease(g)
	if err := <-waited; err != nil {
		t.Error(err)
	}
	if gone, err := b.Remove(ctx, a.Client); !gone || err != nil {
		t.Errorf("removed a key that is gone: %v, %v", gone, err)
	}
	b, _ = breakX()
	if gone, err := b.Remove(ctx, a.Client); gone || err != nil {
		t.Errorf("got %v, %v", gone, err)
	}
	locktest.AwaitKeys(t, a.Client, locktest.Keys().Lock("x"), 0)
}
