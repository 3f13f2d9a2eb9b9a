package etcd_test

import (
	"errors"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/devetcd"
	"disc/discovery/etcd"
)

// TestDeniedNamesTheGrant asks etcd for what a user may not do. The error names
// the keys and the least that must be granted, in the namespace of the request.
func TestDeniedNamesTheGrant(t *testing.T) {
	t.Parallel()
	c := dial(t, app(), start(t, devetcd.Options{}).Endpoint())
	keys := discovery.NewKeys("fleet")
	put := func(key string) clientv3.Op { return clientv3.OpPut(key, "v") }
	for name, test := range map[string]struct {
		ask  func() error
		want string
	}{
		"read": {func() error { _, err := c.Get(t.Context(), keys.Nodes(), clientv3.WithPrefix()); return err },
			"permission denied to read /disc/v1/fleet/nodes/; grant the user's role read on prefix /disc/v1/fleet/"},
		"write": {func() error { _, err := c.Put(t.Context(), keys.Instance("web", "web-1"), "v"); return err },
			"permission denied to write /disc/v1/fleet/services/web/instances/web-1; grant the user's role write on prefix /disc/v1/fleet/services/web/instances/"},
		"delete": {func() error { _, err := c.Delete(t.Context(), keys.KV()+"a\x1b[2J"); return err },
			`permission denied to write "/disc/v1/fleet/kv/a\x1b[2J"; grant the user's role write on prefix /disc/v1/fleet/kv/`},
		"transaction": {func() error {
			_, err := c.Txn(t.Context()).If(clientv3.Compare(clientv3.ModRevision(keys.Epoch()), "=", 0)).
				Then(put(keys.Node("host-1", "a")), put(keys.Instance("web", "web-1")), put(keys.Instance("web", "web-2"))).
				Else(clientv3.OpGet(keys.Node("host-1", "a"))).Commit()
			return err
		}, "permission denied to read /disc/v1/fleet/epoch and 1 more or to write /disc/v1/fleet/nodes/host-1/a and 2 more; " +
			"grant the user's role read on prefix /disc/v1/fleet/ and write on prefix /disc/v1/fleet/nodes/host-1/, prefix /disc/v1/fleet/services/web/instances/"},
	} {
		t.Run(name, func(t *testing.T) {
			err := test.ask()
			if !errors.Is(err, rpctypes.ErrPermissionDenied) || etcd.Refused(err) != etcd.RefusedPermission {
				t.Errorf("%v is %v, want the denial of a permission", err, etcd.Refused(err))
			}
			got := etcd.Explain([]string{"a:1"}, err)
			if !errors.Is(got, discovery.ErrForbidden) || got.Error() != "etcd at a:1: "+test.want {
				t.Errorf("got  %v\nwant %s", got, test.want)
			}
			if strings.Contains(got.Error(), "\x1b") {
				t.Errorf("a key is shown as it is: %q", got)
			}
		})
	}
}
