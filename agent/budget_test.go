package agent_test

import (
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/agent/api"
	"disc/agent/api/apitest"
	"disc/agent/httpapi"
	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/retry/retrytest"
)

// checked makes an agent's client check each answer against the description of the API.
func (r *running) checked(t *testing.T) {
	t.Helper()
	r.api.HTTP.Transport = etcdtest.Must(apitest.NewValidator(httpapi.OpenAPI())).Transport(r.api.HTTP.Transport)
}

// Beyond the bounds of the settings a write is 507, and nothing else is refused.
func TestBudgetOfKeyValue(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	a := start(t, settings(t, etcd.Endpoint(), "kv: {max_keys: 2, max_bytes: 100KiB}\n"))
	a.checked(t)
	ctx := t.Context()
	put := func(key string, size int) error {
		_, err := a.api.KVPut(ctx, key, make([]byte, size), 0, nil)
		return err
	}
	full := func(says string, err error) {
		t.Helper()
		var p *api.Problem
		if !errors.As(err, &p) || p.Status != http.StatusInsufficientStorage || !errors.Is(err, discovery.ErrStorageFull) || !strings.Contains(p.Detail, says) {
			t.Errorf("got %v, want %q", err, says)
		}
	}
	if err := errors.Join(put("a", 1), put("b", 1)); err != nil {
		t.Fatal(err)
	}
	full("kv.max_keys is 2", put("c", 1))
	if _, err := a.api.KVDelete(ctx, "b", nil); err != nil {
		t.Fatal(err)
	}
	if err := put("b", 100<<10); err != nil {
		t.Fatal(err)
	}
	if _, err := a.api.KVDelete(ctx, "a", nil); err != nil {
		t.Fatal(err)
	}
	full("kv.max_bytes is 100KiB", put("c", 1))
	_, err := a.api.KVWrite(ctx, []api.KVOp{{Op: api.KVPut, Key: "c"}})
	full("kv.max_bytes is 100KiB", err)
	if l, err := a.api.Lock(ctx, "l", api.LockOptions{}); err != nil || l.Fence == 0 {
		t.Error(err)
	}
	if _, err := a.api.KVDeleteBelow(ctx, "none/"); err != nil {
		t.Error(err)
	}
}

// While etcd has no space, keys, locks and claims are 507, with the reason. The session goes on.
func TestNoSpaceInEtcd(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	a := start(t, settings(t, etcd.Endpoint(), ""))
	a.checked(t)
	ctx := t.Context()
	if _, err := a.api.Register(ctx, discovery.Registration{Service: "gpu", ID: "gpu-1", Address: "127.0.0.1", Port: 1}); err != nil {
		t.Fatal(err)
	}
	client := etcdtest.Client(t, etcd.Endpoint())
	etcdtest.RaiseNoSpace(t, client)
	_, put := a.api.KVPut(ctx, "a", nil, 0, nil)
	_, lock := a.api.Lock(ctx, "l", api.LockOptions{})
	_, claim := a.api.Claim(ctx, "gpu", api.ClaimOptions{})
	_, _, override := a.api.PatchOverride(ctx, "gpu", "gpu-1", []byte(`{"weight":3}`)) // which only etcd refuses
	for what, err := range map[string]error{"key": put, "lock": lock, "claim": claim, "override": override} {
		var p *api.Problem
		if !errors.As(err, &p) || p.Status != http.StatusInsufficientStorage || !strings.Contains(p.Detail, "NOSPACE") {
			t.Errorf("%s: %v", what, err)
		}
	}
	etcdtest.Must(client.AlarmDisarm(ctx, &clientv3.AlarmMember{})) // or the agent cannot leave
}

// An agent that has too many writes of shared state to make refuses some, and says when to try
// again. Registrations are not among them, and do not wait for them.
func TestTooManyWrites(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	a := start(t, settings(t, etcd.Endpoint(), "kv: {max_writes_per_second: 1}\n"))
	a.checked(t)
	ctx := t.Context()
	busy := make(chan error, 200)
	var writers sync.WaitGroup
	for n := range cap(busy) {
		writers.Go(func() {
			var err error
			if n%2 == 0 {
				_, err = a.api.KVPut(ctx, "a", nil, 0, nil)
			} else {
				_, err = a.api.Lock(ctx, "l", api.LockOptions{})
			}
			// A slow machine answers some of them too late: etcd is then unavailable.
			if err != nil && !errors.Is(err, discovery.ErrConflict) && !errors.Is(err, discovery.ErrUnavailable) {
				busy <- err
			}
		})
	}
	writers.Wait()
	if len(busy) == 0 {
		t.Error("no write is refused")
	}
	for range len(busy) {
		var p *api.Problem
		if err := <-busy; !errors.As(err, &p) || p.Status != http.StatusTooManyRequests || p.RetryAfter <= 0 || !errors.Is(err, discovery.ErrBusy) {
			t.Fatal(err)
		}
	}
	retrytest.Eventually(t, "a registration", func() bool {
		done, err := a.api.Register(ctx, discovery.Registration{Service: "web", ID: "web-1", Address: "127.0.0.1", Port: 1})
		return err == nil && done.Written
	})
}
