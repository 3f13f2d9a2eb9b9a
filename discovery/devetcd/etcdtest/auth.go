package etcdtest

import (
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// EnableAuth has an etcd authenticate its clients. It returns one of the user root, which may do
// everything. The user agent may do what Permit permits.
func EnableAuth(t testing.TB, endpoint string) (root *clientv3.Client) {
	t.Helper()
	open := Client(t, endpoint)
	for _, name := range []string{"root", "agent"} {
		Must(open.RoleAdd(t.Context(), name))
		Must(open.UserAdd(t.Context(), name, name))
		Must(open.UserGrantRole(t.Context(), name, name))
	}
	Must(open.AuthEnable(t.Context()))
	return User(t, endpoint, "root")
}

// User returns a client that authenticates as a user of EnableAuth. It is closed when the test
// ends.
func User(t testing.TB, endpoint, name string) *clientv3.Client {
	t.Helper()
	return connect(t, clientv3.Config{Endpoints: []string{endpoint}, Username: name, Password: name})
}

// Permit permits the user agent to read, to write or both, the keys from one to before another; to
// is "" for one key.
func Permit(t testing.TB, root *clientv3.Client, permission clientv3.PermissionType, from, to string) {
	t.Helper()
	Must(root.RoleGrantPermission(t.Context(), "agent", from, to, permission))
}

// PermitPrefix permits the same for all keys with a prefix.
func PermitPrefix(t testing.TB, root *clientv3.Client, permission clientv3.PermissionType, prefix string) {
	t.Helper()
	Permit(t, root, permission, prefix, clientv3.GetPrefixRangeEnd(prefix))
}
