package lease

import (
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/pkg/v3/proxy"
	"go.uber.org/zap"

	"disc/discovery/devetcd/etcdtest"
)

// hold stops everything on its way through a proxy, as a network does that loses
// packets: what is held arrives once it works again.
func hold(p proxy.Server) {
	p.PauseTx()
	p.PauseRx()
}

func release(p proxy.Server) {
	p.UnpauseTx()
	p.UnpauseRx()
}

// Of two endpoints, one after the other swallows everything. At least once that is
// the one in use.
func TestHungEndpoint(t *testing.T) {
	t.Parallel()
	server := etcdtest.Start(t)
	one, at1 := proxied(t, server.Endpoint())
	two, at2 := proxied(t, server.Endpoint())
	f := start(t, 10*time.Second, at1, at2)
	old := f.renewed()
	_, changed := f.Lease()

	one.BlackholeTx()
	f.renewed()
	one.UnblackholeTx()
	two.BlackholeTx()
	l := f.renewed()

	if l.ID != old.ID || isClosed(changed) {
		t.Errorf("lease %x after %x, reported as changed: %v", l.ID, old.ID, isClosed(changed))
	}
	if f.failures("renew") == 0 {
		t.Error("no renewal was repeated: neither endpoint hung while it was in use")
	}
}

func TestPatience(t *testing.T) {
	for _, test := range []struct {
		ttl       time.Duration
		endpoints []string
		want      [5]time.Duration // by failures
	}{
		{5 * time.Second, []string{"a"}, [5]time.Duration{1e9, 2e9, 4e9, 4e9, 4e9}},
		{10 * time.Second, []string{"a", "b"}, [5]time.Duration{2e9, 2e9, 4e9, 4e9, 8e9}},
		{time.Hour, []string{"a", "b", "c"}, [5]time.Duration{3e9, 3e9, 3e9, 6e9, 6e9}},
	} {
		s := etcdtest.Must(New(etcdtest.Client(t, test.endpoints...), test.ttl, Options{}))
		for failures, want := range test.want {
			if got := s.patience(failures); got != want {
				t.Errorf("TTL %v, endpoints %v, %d failures: %v, want %v", test.ttl, test.endpoints, failures, got, want)
			}
		}
	}
}

// The packets to the only member vanish, and come back before the lease runs out.
func TestOnlyMemberVanishes(t *testing.T) {
	t.Parallel()
	proxy, endpoint := proxied(t, etcdtest.Start(t).Endpoint())
	f := start(t, 10*time.Second, endpoint)
	old := f.renewed()
	_, changed := f.Lease()
	hold(proxy)
	f.Verify(old.ID)
	f.failed("renew", 1)
	release(proxy)
	if l := f.renewed(); l.ID != old.ID || isClosed(changed) {
		t.Errorf("lease %x after %x, reported as changed: %v", l.ID, old.ID, isClosed(changed))
	}
}

// An answer that takes its time says what etcd did when it was asked.
func TestRemainingCountsFromSending(t *testing.T) {
	t.Parallel()
	const delay = time.Second
	proxy, endpoint := proxied(t, etcdtest.Start(t).Endpoint())
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop()}) // waits longer for a connection
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	f := startWith(t, 20*time.Second, client)
	f.renewed()
	proxy.DelayRx(delay, 0)
	l := f.renewed()
	if age := l.SinceRenewal(); age < delay {
		t.Errorf("confirmed %v ago by an answer that took %v", age, delay)
	}
	if left := l.Remaining(); left > l.TTL-delay {
		t.Errorf("%v remain of %v after an answer that took %v", left, l.TTL, delay)
	}
}
