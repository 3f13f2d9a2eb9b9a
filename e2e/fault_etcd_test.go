package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/metadata"

	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/retry/retrytest"
)

// undisturbed has two agents on one etcd, and checks that a fault does not disturb them.
type undisturbed struct {
	one, peer *sidecar
	lease     string
	watch     *process
	stop      func() // ends the lookups and checks their answers
}

// startUndisturbed registers web-1 through the first of two agents. From then on it looks web-1
// up and watches it through the second.
func startUndisturbed(t *testing.T, one, peer *sidecar) *undisturbed {
	t.Helper()
	one.register(t, "web", "web-1")
	peer.find(t, "web", "web-1")
	return &undisturbed{one, peer, one.lease(t), peer.follow(t, "web"), peer.steady(t, "web", "web-1")}
}

// check fails the test unless every lookup was answered, the lease is the same, and nothing was
// deregistered.
func (w *undisturbed) check(t *testing.T) {
	t.Helper()
	w.stop()
	if now := w.one.lease(t); now != w.lease {
		t.Errorf("the lease was %s and is %s", w.lease, now)
	}
	if strings.Contains(w.watch.output.String(), `"event":"delete"`) {
		t.Errorf("the watch reports a deletion:\n%s", w.watch.output.String())
	}
}

// tryRegister registers an instance, and returns the reason why it is not in etcd; "" if it is.
func (s *sidecar) tryRegister(t *testing.T, service, id string) string {
	t.Helper()
	done, err := s.Register(t.Context(), discovery.Registration{Service: service, ID: id, Address: "127.0.0.1", Port: 1})
	if err != nil {
		t.Fatal(err)
	}
	return done.Warning
}

// TestFaultNoSpace fills etcd to its quota. Leases are kept alive, each failed write reports the
// reason, and it is made once there is space again.
func TestFaultNoSpace(t *testing.T) {
	t.Parallel()
	etcd := startMember(t, "--quota-backend-bytes", "4194304")
	w := startUndisturbed(t, startSidecar(t, "one", etcd.endpoint), startSidecar(t, "peer", etcd.endpoint))
	client := etcdtest.Client(t, etcd.endpoint)
	fillQuota(t, client)

	reasons := map[string]string{"registration": w.one.tryRegister(t, "db", "db-1")}
	_, _, err := w.one.PatchOverride(t.Context(), "web", "web-1", []byte(`{"weight":3}`))
	if !errors.Is(err, discovery.ErrStorageFull) {
		t.Errorf("override: %v", err)
	}
	reasons["override"], reasons["readiness"] = fmt.Sprint(err), fmt.Sprint(w.one.Ready(t.Context()))
	status, err := w.one.Agent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	reasons["status"] = status.Registrations[0].Error
	for what, reason := range reasons {
		if !strings.Contains(reason, "out of space") {
			t.Errorf("%s does not say that etcd is out of space: %q", what, reason)
		}
	}
	pause(ttl + 2*time.Second)
	w.check(t)

	freeQuota(t, client, etcd.endpoint)
	within(t, time.Now(), 5*time.Second, "the failed registration is there", func() error { return w.peer.answers(t.Context(), "db", "db-1") })
}

// fillQuota writes until etcd raises the alarm NOSPACE.
func fillQuota(t *testing.T, client *clientv3.Client) {
	t.Helper()
	for n := range 100 {
		if _, err := client.Put(t.Context(), fmt.Sprintf("fill/%d", n), strings.Repeat("x", 256<<10)); err != nil {
			if !errors.Is(err, rpctypes.ErrNoSpace) {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatal("etcd is not full")
}

// freeQuota makes space and disarms the alarm, as an operator does.
func freeQuota(t *testing.T, client *clientv3.Client, endpoint string) {
	t.Helper()
	gone, err := client.Delete(t.Context(), "fill/", clientv3.WithPrefix())
	if err == nil {
		_, err = client.Compact(t.Context(), gone.Header.Revision, clientv3.WithCompactPhysical())
	}
	if err == nil {
		_, err = client.Defragment(t.Context(), endpoint)
	}
	if err == nil {
		_, err = client.AlarmDisarm(t.Context(), &clientv3.AlarmMember{})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestFaultPasswordRotated lets the agents' token expire, and then changes their password in etcd
// and in the file. The agents continue by themselves.
func TestFaultPasswordRotated(t *testing.T) {
	t.Parallel()
	etcd := startMember(t, "--auth-token-ttl", "1", "--bcrypt-cost", "4")
	client := etcdtest.Client(t, etcd.endpoint)
	root := switchAuthOn(t, client)
	file := filepath.Join(t.TempDir(), "password")
	write := func(password string) {
		if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("s3cret")
	settings := fmt.Sprintf("etcd: {endpoints: [%s], user: disc, password_file: %s}", etcd.endpoint, file)
	w := startUndisturbed(t, startSidecar(t, "one", etcd.endpoint, settings), startSidecar(t, "peer", etcd.endpoint, settings))

	token := root(t)
	if !await(func() bool {
		pause(3 * time.Second) // each use extends its life
		_, err := client.Get(token, "k")
		return errors.Is(err, rpctypes.ErrInvalidAuthToken)
	}) {
		t.Fatal("an unused token does not expire")
	}
	w.one.register(t, "db", "db-1")

	retrytest.Succeeds(t, func() error { // a slow machine may need another token
		_, err := client.UserChangePassword(root(t), "disc", "r0tated")
		return err
	})
	if reason := w.one.tryRegister(t, "db", "db-2"); !strings.Contains(reason, `"disc"`) {
		t.Errorf("with the old password: %q", reason)
	}
	write("r0tated")
	within(t, time.Now(), 5*time.Second, "writes succeed with the new password", func() error { return w.peer.answers(t.Context(), "db", "db-1", "db-2") })
	etcd.signal(syscall.SIGKILL) // so that all streams are opened again
	<-etcd.ended
	etcd.start(t)
	w.one.register(t, "db", "db-3")
	w.peer.find(t, "db", "db-1", "db-2", "db-3")
	w.check(t)
}

// TestFaultForbiddenRange takes the permission to read one service from the agents, and lets
// them open their streams again. The others go on, also over a restart of an agent.
func TestFaultForbiddenRange(t *testing.T) {
	t.Parallel()
	etcd := startMember(t, "--bcrypt-cost", "4")
	client := etcdtest.Client(t, etcd.endpoint)
	root := switchAuthOn(t, client)
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	user := fmt.Sprintf("etcd: {endpoints: [%s], user: disc, password_file: %s}", etcd.endpoint, file)
	w := startUndisturbed(t, startSidecar(t, "one", etcd.endpoint, user), startSidecar(t, "peer", etcd.endpoint, user, "catalog: {watch: lazy}"))
	keys := discovery.NewKeys("default")
	ctx := root(t)
	if _, err := client.Put(ctx, keys.Static("db", "db-1"), `{"service":"db","id":"db-1","address":"10.0.0.5","port":1}`); err != nil {
		t.Fatal(err)
	}
	w.peer.find(t, "db", "db-1")

	from, to := keys.ScopeRange(discovery.Scope{Service: "db"})
	for _, err := range []error{
		errorOf(client.RoleGrantPermission(ctx, "disc", "/disc/", from, clientv3.PermissionType(clientv3.PermReadWrite))),
		errorOf(client.RoleGrantPermission(ctx, "disc", to, "/disc0", clientv3.PermissionType(clientv3.PermReadWrite))),
		errorOf(client.RoleRevokePermission(ctx, "disc", "/disc/", "/disc0")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	etcd.signal(syscall.SIGKILL) // so that all streams are opened again
	<-etcd.ended
	etcd.start(t)
	forbidden := func() error {
		if err := w.peer.ask(t.Context(), "db").err; !errors.Is(err, discovery.ErrUnavailable) || !strings.Contains(err.Error(), "grant the user's role read on prefix "+from) {
			return fmt.Errorf("the lookup of db: %w", err)
		}
		return nil
	}
	within(t, time.Now(), 5*time.Second, "the forbidden service is unavailable", forbidden)
	w.one.register(t, "cache", "cache-1")
	w.peer.find(t, "cache", "cache-1")
	w.check(t)

	w.peer.signal(syscall.SIGKILL)
	<-w.peer.ended
	w.peer.start(t)
	w.one.register(t, "cache", "cache-2")
	w.peer.find(t, "cache", "cache-1", "cache-2")
	within(t, time.Now(), 5*time.Second, "after a restart, the forbidden service is unavailable", forbidden)
}

// switchAuthOn makes the user disc with the password s3cret, who may use disc's keys,
// and switches authentication on. It returns what makes a context of root's.
func switchAuthOn(t *testing.T, client *clientv3.Client) (root func(*testing.T) context.Context) {
	t.Helper()
	ctx, prefix := t.Context(), "/disc/"
	for _, err := range []error{
		errorOf(client.RoleAdd(ctx, "root")), errorOf(client.UserAdd(ctx, "root", "r00t")), errorOf(client.UserGrantRole(ctx, "root", "root")),
		errorOf(client.RoleAdd(ctx, "disc")), errorOf(client.UserAdd(ctx, "disc", "s3cret")), errorOf(client.UserGrantRole(ctx, "disc", "disc")),
		errorOf(client.RoleGrantPermission(ctx, "disc", prefix, clientv3.GetPrefixRangeEnd(prefix), clientv3.PermissionType(clientv3.PermReadWrite))),
		errorOf(client.AuthEnable(ctx)),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return func(t *testing.T) context.Context {
		r, err := client.Authenticate(t.Context(), "root", "r00t")
		if err != nil {
			t.Fatal(err)
		}
		return metadata.AppendToOutgoingContext(t.Context(), rpctypes.TokenFieldNameGRPC, r.Token)
	}
}

// TestFaultNameUnresolved makes the name of etcd's host unresolvable. The agents continue with
// their connections, and without a connection they answer with their views.
func TestFaultNameUnresolved(t *testing.T) {
	t.Parallel()
	host := newNamespace(t)
	dir := t.TempDir()
	names := func(etcd string) {
		if err := os.WriteFile(filepath.Join(dir, "hosts"), []byte("127.0.0.1 localhost\n"+etcd), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const known = "10.77.0.1 etcd.fleet\n"
	names(known)
	host.run(t, "ip addr add 10.77.0.1/32 dev lo && mount --bind %s/hosts /etc/hosts && getent hosts etcd.fleet", dir)
	etcd := startMemberAt(t, host.prefix, "10.77.0.1:2379", "10.77.0.1:2380")
	w := startUndisturbed(t, startSidecarThrough(t, host.prefix, "one", "etcd.fleet:2379"), startSidecarThrough(t, host.prefix, "peer", "etcd.fleet:2379"))

	names("")
	host.run(t, "! getent hosts etcd.fleet")
	pause(ttl + 2*time.Second)
	w.one.register(t, "db", "db-1")
	w.peer.find(t, "db", "db-1")
	w.check(t)

	etcd.signal(syscall.SIGKILL)
	<-etcd.ended
	etcd.start(t)
	stop := w.peer.steady(t, "web", "web-1")
	if reason := w.one.tryRegister(t, "db", "db-2"); reason == "" {
		t.Error("a record was written to an etcd whose name does not resolve")
	}
	stop()
	names(known)
	within(t, time.Now(), 10*time.Second, "the instances are back with the name", func() error {
		if err := w.peer.answers(t.Context(), "web", "web-1"); err != nil {
			return err
		}
		return w.peer.answers(t.Context(), "db", "db-1", "db-2")
	})
}
