package e2e_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"disc/discovery/devetcd/etcdtest"
)

// TestFaultProxy has agents behind two of etcd's grpc-proxies and at etcd itself. One proxy after the
// other is killed, hangs, or is cut off from etcd. No lease is lost, no lookup changes, and changes go
// on.
func TestFaultProxy(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]func(*etcdtest.Proxy, *etcdtest.Link){
		"killed":            func(p *etcdtest.Proxy, _ *etcdtest.Link) { p.Kill() },
		"suspended":         func(p *etcdtest.Proxy, _ *etcdtest.Link) { p.Pause() },
		"cut off from etcd": func(_ *etcdtest.Proxy, l *etcdtest.Link) { l.Freeze() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			etcd := startMember(t)
			var proxies []*etcdtest.Proxy
			var links []*etcdtest.Link
			var at []string
			for range 2 {
				link := etcdtest.StartLink(t, etcd.endpoint)
				proxy := etcdtest.StartProxy(t, etcdtest.Bundled, link.Endpoint())
				links, proxies, at = append(links, link), append(proxies, proxy), append(at, proxy.Endpoint())
			}
			at = append(at, etcd.endpoint)
			const session = "session: {ttl: 1m}" // of which a slow machine loses none
			one, peer := startSidecar(t, "one", strings.Join(at, ", "), session), startSidecar(t, "peer", strings.Join(at, ", "), session)
			w := startUndisturbed(t, one, peer)
			for n, proxy := range proxies {
				harm(proxy, links[n])
				harmed, id := time.Now(), fmt.Sprintf("db-%d", n)
				one.register(t, "db", id)
				within(t, harmed, 15*time.Second, "the peer sees a change", func() error { return peer.has(t, "db", id) })
			}
			w.check(t)
		})
	}
}

// has returns an error unless a lookup returns an instance.
func (s *sidecar) has(t *testing.T, service, id string) error {
	got := s.ask(t.Context(), service)
	if got.err == nil && !slices.Contains(got.ids, id) {
		return fmt.Errorf("the answer is %v", got.ids)
	}
	return got.err
}

// TestFaultProxyChanges has two agents behind one proxy, which coalesces their watches. They see every
// change, and do not compare with etcd again.
func TestFaultProxyChanges(t *testing.T) {
	t.Parallel()
	etcdtest.ForEachProxy(t, func(t *testing.T, program string) {
		t.Parallel()
		etcd := startMember(t)
		proxy := etcdtest.StartProxy(t, program, etcd.endpoint)
		one := startSidecar(t, "one", proxy.Endpoint(), "session: {ttl: 1m}")
		two := startSidecar(t, "two", proxy.Endpoint(), "session: {ttl: 1m}")
		w := startUndisturbed(t, one, two)
		three := startSidecar(t, "three", proxy.Endpoint(), "session: {ttl: 1m}")
		three.find(t, "web", "web-1")
		agents, changes := []*sidecar{one, two, three}, 0
		resyncs := func() int { return one.resyncs(t) + two.resyncs(t) + three.resyncs(t) }
		for left := 10; ; left-- { // a proxy that has no core for 50 ms ends a watch
			before := resyncs()
			for range etcdtest.Length(10, 40) {
				id := fmt.Sprintf("db-%d", changes)
				agents[changes%3].register(t, "db", id)
				changes++
				for _, s := range agents {
					within(t, time.Now(), 5*time.Second, "an agent sees a change", func() error { return s.has(t, "db", id) })
				}
			}
			last := time.Now()
			for _, s := range agents {
				within(t, last, 15*time.Second, "a view is confirmed", func() error {
					if age := s.ask(t.Context(), "db").view.Age; age > time.Since(last) {
						return fmt.Errorf("the view is %v old", age)
					}
					return nil
				})
			}
			if resyncs() == before {
				break
			}
			if left == 0 {
				t.Fatal("the agents compare with etcd again and again")
			}
		}
		w.check(t)
	})
}

// TestFaultProxyWiped wipes the etcd behind a proxy, whose own watches do not notice it. The agents
// do, and register everything again; lookups go on.
func TestFaultProxyWiped(t *testing.T) {
	etcdtest.SkipUnlessLong(t, "waits for a fleet that registers again")
	t.Parallel()
	etcdtest.ForEachProxy(t, func(t *testing.T, program string) {
		t.Parallel()
		etcd := startStore(t, 1, time.Second)
		proxy := etcdtest.StartProxy(t, program, etcd.Members[0].Endpoint())
		one, two := startSidecar(t, "one", proxy.Endpoint()), startSidecar(t, "two", proxy.Endpoint())
		one.registerAt(t, "web", "web-1", livePort(t))
		two.find(t, "web", "web-1")
		stop, epoch := two.steady(t, "web", "web-1"), one.epoch(t)
		etcd.Kill()
		etcd.Members[0].Wipe()
		etcd.Start()
		back := time.Now()
		within(t, back, 10*time.Second, "it is registered again", func() error {
			r, err := etcd.Client().Get(t.Context(), layout.Instance("web", "web-1"))
			if err == nil && r.Count == 0 {
				err = errors.New("etcd does not have it")
			}
			return err
		})
		for _, s := range []*sidecar{one, two} {
			within(t, back, 10*time.Second, "an agent knows that etcd has started over", func() error {
				if s.epoch(t) == epoch {
					return fmt.Errorf("the epoch is still %s", epoch)
				}
				return nil
			})
		}
		stop()
	})
}

// TestFaultProxyLock pauses or kills the agent of a lock's holder behind a proxy, or the proxy. No two
// hold the lock. A proxy renews the lease of an agent that hangs for another TTL.
func TestFaultProxyLock(t *testing.T) {
	etcdtest.SkipUnlessLong(t, "waits until sessions end")
	t.Parallel()
	const session = 15 * time.Second // see docs/large-fleets.md
	setting := "session: {ttl: " + session.String() + "}"
	for name, fault := range map[string]struct {
		harm  func(*sidecar, *etcdtest.Proxy)
		bound time.Duration
	}{
		"its agent is suspended":    {func(s *sidecar, _ *etcdtest.Proxy) { s.suspend(nil, nil) }, 2*session + 2*time.Second},
		"its agent is killed":       {func(s *sidecar, _ *etcdtest.Proxy) { s.crash(nil, nil) }, session + 2*time.Second},
		"the proxy is suspended":    {func(_ *sidecar, p *etcdtest.Proxy) { p.Pause() }, session + 2*time.Second},
		"the proxy is killed":       {func(_ *sidecar, p *etcdtest.Proxy) { p.Kill() }, session + 2*time.Second},
		"the proxy is late":         {func(_ *sidecar, p *etcdtest.Proxy) { p.Pause(); time.AfterFunc(session+time.Second, p.Continue) }, session + 2*time.Second},
		"a session behind it hangs": {func(s *sidecar, p *etcdtest.Proxy) { s.suspend(nil, nil); p.Kill() }, session + 2*time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			etcd := startMember(t)
			setQuarantine(t, etcdtest.Client(t, etcd.endpoint), ttl)
			of, other := etcdtest.StartProxy(t, etcdtest.Bundled, etcd.endpoint), etcdtest.StartProxy(t, etcdtest.Bundled, etcd.endpoint)
			one, two := startSidecar(t, "one", of.Endpoint(), setting), startSidecar(t, "two", other.Endpoint(), setting)
			g := newGuardedFile(t, "job")
			_, waiter := holdAndQueue(t, etcd, g, one, two, writeFence)
			harmed := time.Now()
			fault.harm(one, of)
			within(t, harmed, fault.bound, "the next begins", func() error { return g.writers(t, 2) })
			one.resume(t, nil)
			pause(ttl) // the first command, if it were still there, would write
			waiter.signal(syscall.SIGTERM)
			if err := g.writers(t, 2); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestScriptsBehindProxy runs the core's scripts with the agents and commands behind a proxy.
func TestScriptsBehindProxy(t *testing.T) {
	etcdtest.SkipUnlessLong(t, "runs scripts a second time")
	t.Parallel()
	etcdtest.ForEachProxy(t, func(t *testing.T, program string) {
		t.Parallel()
		if program != etcdtest.Bundled {
			etcdtest.StartProxy(t, program, etcdtest.Start(t).Endpoint()) // it skips the test where there is none
		}
		p := scripts()
		p.Dir, p.Files = "", nil
		for _, name := range []string{"register", "set", "death", "outage", "restart", "stop", "run", "wait", "follow", "blocking", "lazy", "kv-http", "lock", "claim", "limit"} {
			p.Files = append(p.Files, filepath.Join("testdata", "script", name+".txtar"))
		}
		p.Setup = func(env *testscript.Env) error {
			if err := setUp(env); err != nil {
				return err
			}
			env.Setenv("DISC_SESSION_TTL", "15s") // with less, a slow proxy lets locks end early
			env.Values[stageKey{}].(*stage).proxy = program
			return nil
		}
		testscript.Run(t, p)
	})
}
