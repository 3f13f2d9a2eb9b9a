package lease

import (
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/retry/retrytest"
)

// shorterThanInEtcd fails the test if a session takes its lease for longer than etcd keeps it, which
// tells whole seconds. It returns what etcd says; negative: it has no lease.
func (f *fixture) shorterThanInEtcd(direct *clientv3.Client) (left time.Duration) {
	f.t.Helper()
	l, _ := f.Lease()
	r, err := direct.TimeToLive(f.t.Context(), l.ID)
	if err != nil {
		f.t.Fatal(err)
	}
	left = time.Duration(r.TTL) * time.Second
	if now, _ := f.Lease(); now.ID == l.ID && now.sent == l.sent && now.Remaining() > max(left, 0)+time.Second {
		f.t.Errorf("the session takes its lease for %v long; etcd says %v", now.Remaining(), left)
	}
	return left
}

// askedAnew waits until the session knows what etcd says of its lease from now on.
func (f *fixture) askedAnew(direct *clientv3.Client) Lease {
	f.t.Helper()
	r, err := direct.Put(f.t.Context(), "now", "")
	if err != nil {
		f.t.Fatal(err)
	}
	retrytest.Eventually(f.t, "an answer", func() bool {
		l, _ := f.Lease()
		f.Verify(l.ID)
		return l.ID != 0 && l.Revision >= r.Header.Revision
	})
	l, _ := f.Lease()
	return l
}

// Behind etcd's grpc-proxy a lease is kept over the first stream, and is never taken for longer than
// etcd keeps it.
func TestBehindProxy(t *testing.T) {
	etcdtest.ForEachProxy(t, func(t *testing.T, program string) {
		t.Parallel()
		server := etcdtest.Start(t)
		direct := etcdtest.Client(t, server.Endpoint())
		f := start(t, DefaultTTL, etcdtest.StartProxy(t, program, server.Endpoint()).Endpoint())
		first := f.granted(Lease{})
		for until := Uptime() + etcdtest.Length(10*time.Second, 30*time.Second); Uptime() < until; time.Sleep(10 * time.Millisecond) {
			f.shorterThanInEtcd(direct)
		}
		if l := f.askedAnew(direct); l.ID != first.ID || l.TTL != first.TTL || f.failures("renew") > 0 {
			t.Errorf("lease %x after %x, TTL %v; %d renewals failed", l.ID, first.ID, l.TTL, f.failures("renew"))
		}
	})
}

// A proxy that gets old answers of etcd, or hangs, does not make a session trust a lease that has
// expired.
func TestProxyIsLate(t *testing.T) {
	for name, hold := range map[string]func(l *etcdtest.Link, p *etcdtest.Proxy, renewed func()) (release func()){
		"an answer is held": func(l *etcdtest.Link, _ *etcdtest.Proxy, renewed func()) func() {
			l.HoldAnswers()
			renewed()
			l.Freeze()
			return l.Mend
		},
		"it is suspended": func(_ *etcdtest.Link, p *etcdtest.Proxy, _ func()) func() { p.Pause(); return p.Continue },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := etcdtest.Start(t)
			direct, link := etcdtest.Client(t, server.Endpoint()), etcdtest.StartLink(t, server.Endpoint())
			proxy := etcdtest.StartProxy(t, etcdtest.Bundled, link.Endpoint())
			f := start(t, 5*time.Second, proxy.Endpoint())
			old := f.granted(Lease{})
			f.askedAnew(direct)
			left := f.shorterThanInEtcd(direct)
			release := hold(link, proxy, func() {
				retrytest.Eventually(t, "etcd to renew the lease", func() bool {
					before := left
					left = f.shorterThanInEtcd(direct)
					return left > before
				})
			})
			retrytest.Eventually(t, "the lease to expire", func() bool { return f.shorterThanInEtcd(direct) < 0 })
			release()
			retrytest.Eventually(t, "another lease", func() bool {
				f.shorterThanInEtcd(direct)
				l, _ := f.Lease()
				return l.ID != 0 && l.ID != old.ID
			})
		})
	}
}

// A session leaves a proxy that hangs or dies for another, and keeps its lease.
func TestProxyFails(t *testing.T) {
	t.Parallel()
	server := etcdtest.Start(t)
	direct := etcdtest.Client(t, server.Endpoint())
	one, two := etcdtest.StartProxy(t, etcdtest.Bundled, server.Endpoint()), etcdtest.StartProxy(t, etcdtest.Bundled, server.Endpoint())
	f := start(t, 30*time.Second, one.Endpoint(), two.Endpoint(), server.Endpoint())
	old := f.granted(Lease{})
	one.Pause()
	f.askedAnew(direct)
	one.Continue()
	two.Kill()
	f.askedAnew(direct)
	one.Kill()
	if l := f.askedAnew(direct); l.ID != old.ID {
		t.Errorf("lease %x after %x", l.ID, old.ID)
	}
}

// A second stream for a lease behind a proxy need not wait until the proxy renews it again.
func TestSecondStreamThroughProxy(t *testing.T) {
	etcdtest.ForEachProxy(t, func(t *testing.T, program string) {
		t.Parallel()
		client := etcdtest.Client(t, etcdtest.StartProxy(t, program, etcdtest.Start(t).Endpoint()).Endpoint())
		const ttl = time.Hour
		granted := etcdtest.Must(client.Grant(t.Context(), int64(ttl.Seconds())))
		for range 2 {
			k := keepalive{client: client, id: granted.ID}
			defer k.close()
			if a, err := k.renew(t.Context(), time.Minute); err != nil || a.ttl != ttl || !k.proxied {
				t.Errorf("TTL %v, proxied %v, error %v", a.ttl, k.proxied, err)
			}
		}
	})
}

// What a session takes for the last renewal never lies behind the question, however long etcd says
// that it keeps the lease.
func TestRenewedBefore(t *testing.T) {
	for left, want := range map[time.Duration]time.Duration{
		15 * time.Second:         100 * time.Second,
		6 * time.Second:          91 * time.Second,
		19 * time.Second:         100 * time.Second, // after a change of leader
		9223372036 * time.Second: 100 * time.Second, // by one that was leader
	} {
		if got := renewedBefore(100*time.Second, 15*time.Second, left); got != want {
			t.Errorf("left %v: renewed at %v, want %v", left, got, want)
		}
	}
}
