package etcd

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/embed"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"disc/discovery/devetcd"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/retry/retrytest"
)

// A refused password costs etcd an attempt now and then, however many calls need a token; other
// credentials are tried at once, and the same ones succeed once etcd has them.
func TestRefusedPasswordIsRemembered(t *testing.T) {
	t.Parallel()
	s := etcdtest.StartWith(t, devetcd.Options{Configure: func(c *embed.Config) { c.BcryptCost = 4 }})
	admin, ctx := etcdtest.Client(t, s.Endpoint()), etcdtest.Context(t)
	_, root := admin.UserAdd(ctx, "root", "secret")
	_, granted := admin.UserGrantRole(ctx, "root", "root")
	_, app := admin.UserAdd(ctx, "app", "secret")
	_, enabled := admin.AuthEnable(ctx)
	if err := errors.Join(root, granted, app, enabled); err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int64
	conn, err := grpc.NewClient(strings.TrimPrefix(s.Endpoint(), "http://"), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithUnaryInterceptor(func(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			if method == pb.Auth_Authenticate_FullMethodName {
				asked.Add(1)
			}
			return invoke(ctx, method, req, reply, conn, opts...)
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	password := "wrong"
	tokens := &tokenAuth{timeout: time.Minute, fetching: make(chan struct{}, 1),
		credentials: func(context.Context) (string, string, error) { return "app", password, nil }}
	began := time.Now()
	for range 1000 {
		if _, err := tokens.get(ctx, conn); Refused(err) != RefusedUser {
			t.Fatalf("with a wrong password: %v", err)
		}
	}
	if most := 2 + int64(time.Since(began)/(firstRejection/2)); asked.Load() > most {
		t.Errorf("etcd was asked %d times for 1000 calls, want at most %d", asked.Load(), most)
	}
	password = "secret"
	if _, err := tokens.get(ctx, conn); err != nil {
		t.Errorf("with another password: %v", err)
	}
	password = "next"
	tokens.current.Store(nil)
	if _, err := tokens.get(ctx, conn); Refused(err) != RefusedUser {
		t.Errorf("before etcd has the password: %v", err)
	}
	change, err := Dial(ctx, Config{Endpoints: []string{s.Endpoint()},
		Credentials: func(context.Context) (string, string, error) { return "root", "secret", nil }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { change.Close() })
	if _, err := change.UserChangePassword(ctx, "app", "next"); err != nil {
		t.Fatal(err)
	}
	retrytest.Eventually(t, "the password that etcd has now", func() bool {
		_, err := tokens.get(ctx, conn)
		return err == nil
	})
}

// A refusal is remembered for longer each time, and forgotten with other credentials.
func TestRejection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r rejection
		refused := status.Error(codes.PermissionDenied, "wrong")
		for n, wait := 0, firstRejection; n < 8; n, wait = n+1, min(2*wait, maxRejection) {
			r.remember("app", "a", refused)
			if left := time.Until(r.until); left <= wait/2 || left > wait {
				t.Errorf("refusal %d is remembered for %v, want nearly %v", n+1, left, wait)
			}
			if !errors.Is(r.of("app", "a"), refused) || r.of("app", "b") != nil || r.of("other", "a") != nil {
				t.Error("it is remembered for other credentials")
			}
			time.Sleep(wait)
			if r.of("app", "a") != nil {
				t.Error("it is remembered for ever")
			}
		}
		if r.remember("app", "b", refused); time.Until(r.until) > firstRejection {
			t.Error("another password waits as long as the one before")
		}
	})
}
