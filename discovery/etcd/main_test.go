package etcd_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"

	"disc/discovery/devetcd"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/etcd"
)

func TestMain(m *testing.M) { etcdtest.Main(m) }

// account is the source of a user's name and password, and counts its calls.
type account struct {
	mu             sync.Mutex
	user, password string
	err            error
	asked          int
}

func (a *account) credentials(context.Context) (user, password string, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked++
	return a.user, a.password, a.err
}

func (a *account) set(password string, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.password, a.err = password, err
}

func (a *account) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.asked
}

// app is the account of the user app.
func app() *account { return &account{user: "app", password: "secret"} }

func root() *account { return &account{user: "root", password: "secret"} }

// cheap configures an etcd whose passwords cost little time.
func cheap(c *embed.Config) { c.BcryptCost = 4 }

// start runs an etcd with authentication, see secure.
func start(t *testing.T, o devetcd.Options) *devetcd.Server {
	t.Helper()
	if o.Configure == nil {
		o.Configure = cheap
	}
	s := etcdtest.StartWith(t, o)
	secure(t, etcdtest.Client(t, s.Endpoint()))
	return s
}

// secure switches authentication on, for root, and for app, which may use the keys below
// app/. Both have the password "secret".
func secure(t *testing.T, c *clientv3.Client) {
	t.Helper()
	ctx := timeout(t)
	_, root := c.UserAdd(ctx, "root", "secret")
	_, rooted := c.UserGrantRole(ctx, "root", "root")
	_, app := c.UserAdd(ctx, "app", "secret")
	_, role := c.RoleAdd(ctx, "app")
	allowed := allow(ctx, c, "app/")
	_, granted := c.UserGrantRole(ctx, "app", "app")
	_, enabled := c.AuthEnable(ctx)
	if err := errors.Join(root, rooted, app, role, allowed, granted, enabled); err != nil {
		t.Fatal(err)
	}
}

// allow lets the role app use a prefix.
func allow(ctx context.Context, c *clientv3.Client, prefix string) error {
	_, err := c.RoleGrantPermission(ctx, "app", prefix, clientv3.GetPrefixRangeEnd(prefix), clientv3.PermissionType(clientv3.PermReadWrite))
	return err
}

func dial(t *testing.T, a *account, endpoints ...string) *clientv3.Client {
	t.Helper()
	c, err := etcd.Dial(t.Context(), etcd.Config{Endpoints: endpoints, Credentials: a.credentials})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func timeout(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}
