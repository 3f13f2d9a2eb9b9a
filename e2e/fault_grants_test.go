package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
)

// promise is an agent's answer about a grant: nobody else has it for validFor, counted from the
// request.
type promise struct {
	id       string
	fence    int64
	validFor time.Duration
}

// exclusive is a thing that one client may have at a time.
type exclusive struct {
	keys    string // the prefix of the keys of its grants
	take    func(ctx context.Context, s *sidecar, wait time.Duration) (promise, error)
	renew   func(ctx context.Context, s *sidecar, id string) (promise, error)
	release func(ctx context.Context, s *sidecar, id string) error
}

// layout has the keys of the agents' namespace.
var layout = discovery.NewKeys("default")

// lockNamed is a lock.
func lockNamed(name string) exclusive {
	promised := func(l api.Lock, err error) (promise, error) {
		return promise{l.ID, l.Fence, time.Duration(l.ValidFor)}, err
	}
	return exclusive{
		layout.Lock(name),
		func(ctx context.Context, s *sidecar, wait time.Duration) (promise, error) {
			return promised(s.Lock(ctx, name, api.LockOptions{Wait: wait, TTL: time.Minute}))
		},
		func(ctx context.Context, s *sidecar, id string) (promise, error) {
			return promised(s.RenewLock(ctx, name, id))
		},
		func(ctx context.Context, s *sidecar, id string) error { return s.Unlock(ctx, name, id) },
	}
}

// slotOf is the slot of a service's only instance, which has one.
func slotOf(service string) exclusive {
	promised := func(c api.Claim, err error) (promise, error) {
		return promise{c.ID, c.Fence, time.Duration(c.ValidFor)}, err
	}
	return exclusive{
		layout.ClaimsOf(service),
		func(ctx context.Context, s *sidecar, wait time.Duration) (promise, error) {
			return promised(s.Claim(ctx, service, api.ClaimOptions{Wait: wait, TTL: time.Minute}))
		},
		func(ctx context.Context, s *sidecar, id string) (promise, error) {
			return promised(s.RenewClaim(ctx, id))
		},
		func(ctx context.Context, s *sidecar, id string) error { return s.ReleaseClaim(ctx, id) },
	}
}

// contender is a client that asks for an exclusive thing until it has it, and then renews its
// grant every 100 ms until it is told that the grant is lost, or releases it.
type contender struct {
	through *sidecar
	of      exclusive
	stop    context.CancelFunc
	stopped chan struct{}

	mu       sync.Mutex
	got      promise       // with the fence of the grant; id "": it has not been granted yet
	began    time.Time     // when the grant was answered
	until    time.Time     // the end of the last promise
	longest  time.Duration // of the promises
	renewals int
	lost     error // why the grant is lost, once the client was told
	last     error // the last error
}

// contend runs a contender until the test ends.
func (s *sidecar) contend(t *testing.T, of exclusive) *contender {
	ctx, cancel := context.WithCancel(t.Context())
	c := &contender{through: s, of: of, stop: cancel, stopped: make(chan struct{})}
	go func() {
		defer close(c.stopped)
		for ctx.Err() == nil && c.state() == nil {
			c.step(ctx)
			pause(100 * time.Millisecond)
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-c.stopped
	})
	return c
}

// hold runs a contender, and waits until it has the grant.
func (s *sidecar) hold(t *testing.T, of exclusive) *contender {
	t.Helper()
	c := s.contend(t, of)
	within(t, time.Now(), waitTimeout, "the first has "+of.keys, c.granted)
	return c
}

// state returns why the grant is lost; nil while it is not.
func (c *contender) state() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lost
}

// step asks for the grant, or renews it.
func (c *contender) step(ctx context.Context) {
	asked := time.Now()
	if c.got.id == "" {
		p, err := c.of.take(ctx, c.through, 2*time.Second)
		c.record(asked, p, err)
		return
	}
	p, err := c.of.renew(ctx, c.through, c.got.id)
	c.record(asked, p, err)
}

func (c *contender) record(asked time.Time, p promise, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch c.last = err; {
	case errors.Is(err, discovery.ErrLost):
		c.lost = err
	case err != nil:
	case c.got.id == "":
		c.got, c.began = p, time.Now()
	default:
		c.renewals++
	}
	if err == nil && asked.Add(p.validFor).After(c.until) {
		c.until = asked.Add(p.validFor)
	}
	c.longest = max(c.longest, p.validFor)
}

// takeOthers takes and releases another lock, again and again.
func (s *sidecar) takeOthers(t *testing.T) {
	t.Helper()
	for n := range 20 {
		other := lockNamed(fmt.Sprint("other-", n))
		var p promise
		within(t, time.Now(), 2*time.Second, "another lock is granted", func() (err error) {
			p, err = other.take(t.Context(), s, 0)
			return err
		})
		if err := other.release(t.Context(), s, p.id); err != nil {
			t.Fatal(err)
		}
	}
}

// granted returns an error until the client has the grant.
func (c *contender) granted() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.got.id == "" {
		return errors.Join(errors.New("it was not granted"), c.last)
	}
	return nil
}

// told returns an error until the client was told that its grant is lost.
func (c *contender) told() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lost == nil {
		return errors.Join(fmt.Errorf("it was told nothing, and its last promise ends in %v", time.Until(c.until)), c.last)
	}
	return nil
}

// renewed returns an error until the client has renewed its grant more than n times.
func (c *contender) renewed(n int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lost != nil || c.renewals <= n {
		return errors.Join(fmt.Errorf("%d renewals", c.renewals), c.lost, c.last)
	}
	return nil
}

// renewsOn waits until the client has renewed its grant ten times more.
func (c *contender) renewsOn(t *testing.T, what string) {
	t.Helper()
	c.mu.Lock()
	before := c.renewals
	c.mu.Unlock()
	within(t, time.Now(), 2*time.Second, what, func() error { return c.renewed(before + 10) })
}

// release ends the contender, and releases its grant.
func (c *contender) release(t *testing.T) {
	t.Helper()
	c.stop()
	<-c.stopped
	c.until = time.Now()
	within(t, c.until, 2*time.Second, "released", func() error { return c.of.release(t.Context(), c.through, c.got.id) })
}

// follows checks that the grant of c, if it has been granted, began after every promise to the one
// before had ended, and has a higher fence.
func (c *contender) follows(t *testing.T, before *contender) {
	t.Helper()
	if c.granted() != nil {
		return
	}
	before.mu.Lock()
	defer before.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	t.Logf("the next began %v after the last promise had ended (%v); the fences are %d and %d", c.began.Sub(before.until), before.lost, before.got.fence, c.got.fence)
	if c.began.Before(before.until) {
		t.Errorf("two hold %s: the next was granted it %v before the last promise to the first ended", c.of.keys, before.until.Sub(c.began))
	}
	if c.got.fence <= before.got.fence {
		t.Errorf("the fence of the first is %d, and that of the next is %d", before.got.fence, c.got.fence)
	}
}

// promisedAtMost checks that no promise was longer.
func (c *contender) promisedAtMost(t *testing.T, limit time.Duration) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.longest > limit {
		t.Errorf("a promise was for %v, and a quarantine is %v", c.longest, limit)
	}
}

// keyOf returns the key of a client's grant.
func (c *contender) keyOf(t *testing.T, etcd *clientv3.Client) string {
	t.Helper()
	r, err := etcd.Get(t.Context(), c.of.keys, clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range r.Kvs {
		if strings.Contains(string(kv.Value), `"`+c.got.id+`"`) {
			return string(kv.Key)
		}
	}
	t.Fatalf("no key of %s has the grant %s: %v", c.of.keys, c.got.id, r.Kvs)
	return ""
}

// startStore starts an etcd whose data a test can put back. Quarantines have a length.
func startStore(t *testing.T, size int, quarantine time.Duration) *etcdtest.Cluster {
	t.Helper()
	etcd := etcdtest.StartClusterOf(t, etcdtest.Bundled, size, "--unsafe-no-fsync", "--heartbeat-interval=50", "--election-timeout=500")
	setQuarantine(t, etcd.Client(), quarantine)
	return etcd
}

func setQuarantine(t *testing.T, etcd *clientv3.Client, length time.Duration) {
	t.Helper()
	if _, err := etcd.Put(t.Context(), layout.QuarantineLength(), fmt.Sprintf(`{"length":%q}`, length)); err != nil {
		t.Fatal(err)
	}
}
