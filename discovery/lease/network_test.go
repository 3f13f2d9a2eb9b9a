package lease

import (
	"fmt"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/pkg/v3/proxy"
	"go.uber.org/zap"

	"disc/discovery/devetcd/etcdtest"
)

// hold stops all traffic through a proxy, as a network does that loses packets. The traffic
// arrives after release.
func hold(p proxy.Server) {
	p.PauseTx()
	p.PauseRx()
}

func release(p proxy.Server) {
	p.UnpauseTx()
	p.UnpauseRx()
}

// Two endpoints in turn swallow all traffic. At least once it is the one in use.
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

func TestCallTimeout(t *testing.T) {
	for _, test := range []struct {
		ttl       time.Duration
		endpoints []string
		want      [5]time.Duration // by failures
	}{
		{5 * time.Second, []string{"a"}, [5]time.Duration{1e9, 2e9, 4e9, 4e9, 4e9}},
		{10 * time.Second, []string{"a", "b"}, [5]time.Duration{2e9, 2e9, 4e9, 4e9, 8e9}},
		{time.Hour, []string{"a", "b", "c"}, [5]time.Duration{3e9, 3e9, 3e9, 6e9, 6e9}},
	} {
		t.Run(fmt.Sprintf("%v over %d", test.ttl, len(test.endpoints)), func(t *testing.T) {
			s := etcdtest.Must(New(etcdtest.Client(t, test.endpoints...), test.ttl, Options{}))
			for failures, want := range test.want {
				if got := s.callTimeout(failures); got != want {
					t.Errorf("%d failures: %v, want %v", failures, got, want)
				}
			}
		})
	}
}

// The packets to the only member are lost, and arrive before the lease expires.
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

// A slow answer confirms the lease as of when the renewal was sent.
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
