package etcd_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"golang.org/x/sync/errgroup"

	"disc/discovery"
	"disc/discovery/devetcd"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/etcd"
	"disc/discovery/retry/retrytest"
)

// mustGet reads a key that app may read.
func mustGet(t *testing.T, c *clientv3.Client) {
	t.Helper()
	if _, err := c.Get(timeout(t), "app/k"); err != nil {
		t.Fatal(err)
	}
}

// watch opens a watch, and another after a refusal.
func watch(t *testing.T, c *clientv3.Client) clientv3.WatchChan {
	t.Helper()
	var refusal error
	for range 3 {
		watcher := clientv3.NewWatcher(c)
		t.Cleanup(func() { watcher.Close() })
		events := watcher.Watch(timeout(t), "app/", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
		first := <-events
		if first.Created && !first.Canceled {
			return events
		}
		refusal = first.Err()
	}
	t.Fatalf("refused each time: %v", refusal)
	return nil
}

func TestEtcdAwayAtStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, devetcd.Options{Dir: dir})
	s.Close()
	c := dial(t, app(), s.Endpoint())
	short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := c.Get(short, "app/k")
	if got := etcd.Explain(c.Endpoints(), err); !errors.Is(got, discovery.ErrUnavailable) || !strings.Contains(got.Error(), s.Endpoint()) {
		t.Errorf("got %v, want an ErrUnavailable with the endpoint", got)
	}
	etcdtest.StartWith(t, devetcd.Options{Dir: dir, Listen: s.Endpoint(), Configure: cheap})
	mustGet(t, c)
}

func TestWrongPassword(t *testing.T) {
	t.Parallel()
	s := start(t, devetcd.Options{})
	for _, test := range []struct {
		name string
		a    *account
		want string
	}{
		{"password", &account{user: "app", password: "Tr0ub4dor"}, `refuses user "app"`},
		{"user", &account{user: "nobody", password: "Tr0ub4dor"}, `refuses user "nobody"`},
		{"no user", &account{password: "Tr0ub4dor"}, `refuses user ""`},
		{"unreadable", &account{user: "app", err: errors.New("open /etc/disc/password: permission denied")}, "open /etc/disc/password"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := dial(t, test.a, s.Endpoint())
			_, unary := c.Get(timeout(t), "app/k")
			stream := <-c.Watch(timeout(t), "app/")
			for _, err := range []error{unary, stream.Err()} {
				got := etcd.Explain(c.Endpoints(), err)
				if !etcd.Refused(err).Access() || !errors.Is(got, discovery.ErrForbidden) || !strings.Contains(got.Error(), test.want) {
					t.Errorf("got %v, want %q", got, test.want)
				}
				if strings.Contains(err.Error()+got.Error(), "Tr0ub4dor") {
					t.Errorf("the password is in %v", err)
				}
			}
			test.a.set("secret", nil)
			if _, err := c.Get(timeout(t), "app/k"); test.a.user == "app" && err != nil {
				t.Errorf("with the right password: %v", err)
			}
		})
	}
}

// etcd drops a token that is not used for three seconds.
func TestTokenExpires(t *testing.T) {
	t.Parallel()
	s := start(t, devetcd.Options{Configure: func(c *embed.Config) { c.BcryptCost, c.AuthTokenTTL = 4, 3 }})
	for name, use := range map[string]func(*testing.T, *clientv3.Client){
		"unary": mustGet,
		"watch": func(t *testing.T, c *clientv3.Client) { watch(t, c) },
		"renewal": func(t *testing.T, c *clientv3.Client) {
			retrytest.Eventually(t, "a stream whose token has not expired", func() bool {
				_, err := c.KeepAliveOnce(timeout(t), 1)
				if !errors.Is(err, rpctypes.ErrInvalidAuthToken) && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
					t.Fatalf("renewal of an unknown lease: %v", err)
				}
				return errors.Is(err, rpctypes.ErrLeaseNotFound)
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := app()
			c := dial(t, a, s.Endpoint())
			for use(t, c); a.count() < 2; use(t, c) {
				<-time.After(4500 * time.Millisecond) // nothing shows when etcd drops it
			}
		})
	}
}

func TestOneFetchesTheToken(t *testing.T) {
	t.Parallel()
	a := app()
	c := dial(t, a, start(t, devetcd.Options{}).Endpoint())
	var calls errgroup.Group
	for range 50 {
		calls.Go(func() error {
			_, err := c.Get(t.Context(), "app/k")
			return err
		})
	}
	if err := calls.Wait(); err != nil {
		t.Error(err)
	}
	if n := a.count(); n != 1 {
		t.Errorf("%d tokens were fetched for 50 calls at once, want 1", n)
	}
}

func TestPasswordIsRotated(t *testing.T) {
	t.Parallel()
	s := start(t, devetcd.Options{})
	a := app()
	c := dial(t, a, s.Endpoint())
	mustGet(t, c)
	if _, err := dial(t, root(), s.Endpoint()).UserChangePassword(timeout(t), "app", "rotated"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(timeout(t), "app/k"); !etcd.Refused(err).Access() {
		t.Errorf("with the old password: %v", err)
	}
	a.set("rotated", nil)
	mustGet(t, c)
	watch(t, c)
}

func TestRoleChanges(t *testing.T) {
	t.Parallel()
	s := start(t, devetcd.Options{})
	c, root := dial(t, app(), s.Endpoint()), dial(t, root(), s.Endpoint())
	events := watch(t, c)
	if _, err := c.Get(timeout(t), "other/k"); !etcd.Refused(err).Access() {
		t.Errorf("without permission: %v", err)
	}
	if err := allow(timeout(t), root, "other/"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(timeout(t), "other/k"); err != nil {
		t.Errorf("with permission: %v", err)
	}
	if _, err := c.Put(timeout(t), "app/k", "v"); err != nil {
		t.Fatal(err)
	}
	if r := <-events; len(r.Events) != 1 {
		t.Errorf("the watch goes on with %v, want the put", r)
	}
}

func TestAuthenticationIsSwitchedOn(t *testing.T) {
	t.Parallel()
	s := etcdtest.StartWith(t, devetcd.Options{Configure: cheap})
	c := dial(t, app(), s.Endpoint())
	mustGet(t, c)
	secure(t, etcdtest.Client(t, s.Endpoint()))
	mustGet(t, c)
	watch(t, c)
}

// TestOldEtcd runs against an etcd of the Debian package, in a process of its own.
func TestOldEtcd(t *testing.T) {
	t.Parallel()
	old := etcdtest.StartCluster(t, 1, "--bcrypt-cost", "4")
	endpoint := old.Endpoints()[0]
	secure(t, old.Client())
	c := dial(t, app(), endpoint)
	watch(t, c)
	if _, err := dial(t, root(), endpoint).UserChangePassword(timeout(t), "app", "secret"); err != nil { // forgets the tokens
		t.Fatal(err)
	}
	watch(t, c)
	mustGet(t, c)
}
