package registry

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"

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
	root = restrict(t, s.Endpoint(), keys.Nodes(), keys.Service("web"))
	a := start(t, s.Endpoint(), settings{client: etcdtest.User(t, s.Endpoint(), "agent"), view: emptyView{}})
	a.etcd = root

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

// restrict enables authentication: the user agent may read and write the keys under the prefixes.
func restrict(t *testing.T, endpoint string, prefixes ...string) (root *clientv3.Client) {
	t.Helper()
	root = etcdtest.EnableAuth(t, endpoint)
	for _, prefix := range prefixes {
		etcdtest.PermitPrefix(t, root, clientv3.PermissionType(clientv3.PermReadWrite), prefix)
	}
	return root
}
