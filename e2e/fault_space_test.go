package e2e_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
)

// TestFaultStoreFilled fills etcd through an agent as fast as several writers can. From 80 % of
// etcd's quota on, keys, locks and claims are refused. Registrations and lookups go on, and
// sessions are renewed. After a deletion, a compaction and a defragmentation, keys are written
// again.
func TestFaultStoreFilled(t *testing.T) {
	etcdtest.SkipUnlessLong(t, "fills the store of etcd")
	t.Parallel()
	etcd := startMember(t, "--quota-backend-bytes", fmt.Sprint(96<<20))
	unbounded := "kv: {max_keys: 0, max_bytes: 0, max_writes_per_second: 0}"
	one, peer := startSidecar(t, "one", etcd.endpoint, unbounded), startSidecar(t, "peer", etcd.endpoint, unbounded)
	w := startUndisturbed(t, one, peer)
	client := etcdtest.Client(t, etcd.endpoint)
	begun := time.Now()
	fillThrough(t, one)
	status, err := client.Status(t.Context(), etcd.endpoint)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("keys are refused after %v, at %d of %d bytes", time.Since(begun).Round(time.Millisecond), status.DbSize, status.DbSizeQuota)
	if status.DbSize < status.DbSizeQuota*8/10 || len(status.Errors) > 0 {
		t.Errorf("etcd has %d of %d bytes, and %v", status.DbSize, status.DbSizeQuota, status.Errors)
	}

	peer.register(t, "gpu", "gpu-1")
	one.find(t, "gpu", "gpu-1")
	_, lock := one.Lock(t.Context(), "l", api.LockOptions{})
	_, claim := one.Claim(t.Context(), "gpu", api.ClaimOptions{})
	for what, err := range map[string]error{"lock": lock, "claim": claim} {
		if !errors.Is(err, discovery.ErrStorageFull) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if reason := one.tryRegister(t, "db", "db-1"); reason != "" {
		t.Errorf("a registration is not written: %s", reason)
	}
	peer.find(t, "db", "db-1")
	pause(ttl + 2*time.Second)
	w.check(t)

	if _, err := one.KVDeleteBelow(t.Context(), "fill/"); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Compact(t.Context(), revisionOf(t, client), clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Defragment(t.Context(), etcd.endpoint); err != nil {
		t.Fatal(err)
	}
	within(t, time.Now(), 6*time.Second, "keys are written again", func() error {
		_, err := one.KVPut(t.Context(), "a", []byte("1"), 0, nil)
		return err
	})
}

// fillThrough writes keys through an agent, from several clients, until each is refused.
func fillThrough(t *testing.T, s *sidecar) {
	t.Helper()
	value := []byte(strings.Repeat("x", 16<<10))
	var writers sync.WaitGroup
	for writer := range 4 {
		writers.Go(func() {
			for n := 0; ; n++ {
				_, err := s.KVPut(t.Context(), fmt.Sprintf("fill/%d/%d", writer, n), value, 0, nil)
				var p *api.Problem
				switch {
				case errors.As(err, &p) && p.Status == http.StatusInsufficientStorage:
					if !strings.Contains(p.Detail, "of its quota of 96MiB") || !strings.Contains(p.Detail, "compact and defragment") {
						t.Errorf("the reason is %q", p.Detail)
					}
					return
				case err != nil:
					t.Error(err)
					return
				}
			}
		})
	}
	writers.Wait()
}
