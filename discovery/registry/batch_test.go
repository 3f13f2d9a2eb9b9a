package registry

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"disc/discovery/devetcd"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/retry/retrytest"
)

// Thousands of records are written in few transactions.
func TestBatches(t *testing.T) {
	t.Parallel()
	const n = 3000
	a := start(t, etcdtest.Start(t).Endpoint(), settings{view: emptyView{}})
	a.putAndAwait("first")
	putMany(a, n)
	records := map[int64]int{}
	for i := range n {
		records[a.awaitSettled(fmt.Sprintf("%04d", i)).Revision]++
	}
	for revision, n := range records {
		if n > 100 {
			t.Errorf("%d records in revision %d", n, revision)
		}
	}
	old := a.revokeLease()
	retrytest.Eventually(t, "everything again", func() bool { return a.lease() != old && a.ownsRecord(fmt.Sprintf("%04d", n-1)) })
	again := map[int64]bool{}
	for i := range n {
		again[a.awaitSettled(fmt.Sprintf("%04d", i)).Revision] = true
	}
	if len(again) > n/100+2 {
		t.Errorf("%d records took %d transactions", n, len(again))
	}
}

// putMany puts n instances.
func putMany(a *agent, n int) {
	for i := range n {
		a.Put(instance(fmt.Sprintf("%04d", i)))
	}
}

// An instance that is in conflict, is too large or may not be written does not hold up the
// others.
func TestRefusedInstances(t *testing.T) {
	t.Parallel()
	s := etcdtest.StartWith(t, devetcd.Options{Configure: func(c *embed.Config) { c.MaxRequestBytes, c.BcryptCost = 128<<10, 4 }})
	root := etcdtest.Client(t, s.Endpoint())
	if _, err := root.Put(t.Context(), keys.Instance("web", "0150"), foreign("0150", "other", "r", "")); err != nil {
		t.Fatal(err)
	}
	restrict(t, root, keys.Nodes(), keys.Service("web"))
	a := start(t, s.Endpoint(), settings{client: user(t, s.Endpoint(), "agent"), view: emptyView{}})
	a.etcd = user(t, s.Endpoint(), "root")

	large := instance("0250")
	large.Meta = map[string]string{}
	for i := range 40 {
		large.Meta[fmt.Sprint(i)] = strings.Repeat("x", 4000)
	}
	denied := instance("0100")
	denied.Service = "forbidden"
	a.Put(denied)
	putMany(a, 300)
	a.Put(large)
	for i := range 300 {
		if id := fmt.Sprintf("%04d", i); i != 150 && i != 250 {
			if s := a.awaitSettled(id); s.Phase != PhaseWritten {
				t.Fatalf("%s is %+v", id, s)
			}
		}
	}
	if s := a.awaitSettled("0150"); s.Phase != PhaseConflict {
		t.Errorf("0150, which another has registered, is %+v", s)
	}
	for name, want := range map[string]error{"forbidden/0100": rpctypes.ErrPermissionDenied, "web/0250": rpctypes.ErrRequestTooLarge} {
		service, id, _ := strings.Cut(name, "/")
		retrytest.Eventually(t, "the reason for "+name, func() bool {
			s, err := a.State(service, id)
			return err == nil && s.Phase == PhasePending && errors.Is(s.Err, want)
		})
	}
	a.putAndAwait("later")
	a.putAndAwait("0250") // small enough
	a.Remove("web", "0000")
	a.awaitSettled("0000")
	wantTombstone(t, a, "0000")
}

// restrict enables authentication: root may do everything, and agent may read and write the
// keys under the prefixes. A user's password is its name.
func restrict(t *testing.T, root *clientv3.Client, prefixes ...string) {
	t.Helper()
	ctx := t.Context()
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"root", "agent"} {
		must(root.RoleAdd(ctx, name))
		must(root.UserAdd(ctx, name, name))
		must(root.UserGrantRole(ctx, name, name))
	}
	for _, prefix := range prefixes {
		must(root.RoleGrantPermission(ctx, "agent", prefix, clientv3.GetPrefixRangeEnd(prefix), clientv3.PermissionType(clientv3.PermReadWrite)))
	}
	must(root.AuthEnable(ctx))
}

// user returns a client that authenticates as a user.
func user(t *testing.T, endpoint, name string) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Username: name, Password: name, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}
