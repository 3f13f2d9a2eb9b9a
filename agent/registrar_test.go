package agent

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"disc/agent/api"
	"disc/agent/check"
	"disc/agent/httpapi"
	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/lease"
	"disc/discovery/registry"
	"disc/discovery/view"
)

// nothing is a view that has no snapshot yet.
type nothing struct{}

func (nothing) View() (view.View, error)         { return view.View{}, discovery.ErrUnavailable }
func (nothing) Changed(string) <-chan struct{}   { return nil }
func (nothing) Has(...discovery.Scope) bool      { return false }
func (nothing) Retain(...discovery.Scope) func() { return func() {} }

// noInstances is a view that has all, of a fleet without instances.
type noInstances struct{ nothing }

func (noInstances) View() (view.View, error)    { return view.View{Snapshot: view.EmptySnapshot()}, nil }
func (noInstances) Has(...discovery.Scope) bool { return true }

// alone returns a registrar whose registry does not run, as if etcd were away.
func alone(t testing.TB, path string) *registrar {
	t.Helper()
	return aloneWith(t, path, nothing{})
}

func aloneWith(t testing.TB, path string, seen registry.View) *registrar {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	dir, err := openDataDir(path, false, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(dir.close)
	session := etcdtest.Must(lease.New(nil, lease.DefaultTTL, lease.Options{}))
	r := etcdtest.Must(registry.New(nil, discovery.NewKeys("default"), session, seen, registry.Identity{Owner: "o", RunID: "r"}, registry.Options{}))
	return newRegistrar(r, etcdtest.Must(check.NewScheduler(check.Options{Logger: log})), dir, "127.0.0.1", "", nil, log)
}

// start runs the registrar until the test ends, inside a bubble.
func (g *registrar) start(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var run sync.WaitGroup
	run.Go(func() {
		if err := g.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(run.Wait)
	t.Cleanup(cancel)
}

// wantRegistered fails the test unless web/web-1 is registered, or if want is false, is
// not.
func (g *registrar) wantRegistered(t *testing.T, want bool, when string) {
	t.Helper()
	synctest.Wait()
	if got := g.Owns("web", "web-1"); got != want {
		t.Fatalf("%s: registered is %v, want %v", when, got, want)
	}
}

func web() discovery.Registration {
	return discovery.Registration{Service: "web", ID: "web-1", Port: 80}
}

func TestHoldReleaseRegain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := alone(t, t.TempDir())
		g.start(t)
		_, first, err := g.Hold(t.Context(), web(), httpapi.Holder{ID: "one"})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := g.Hold(t.Context(), web(), httpapi.Holder{ID: "one"}); !errors.Is(err, discovery.ErrConflict) {
			t.Errorf("held twice: %v, want a conflict", err)
		}
		if _, err := g.Register(t.Context(), web()); !errors.Is(err, discovery.ErrConflict) {
			t.Errorf("registered while it is held: %v, want a conflict", err)
		}
		time.Sleep(time.Hour)
		g.wantRegistered(t, true, "held for long")
		first.Release()
		time.Sleep(HoldGrace - 3*time.Second)
		g.wantRegistered(t, true, "within the grace")
		_, second, err := g.Hold(t.Context(), web(), httpapi.Holder{ID: "one"})
		if err != nil {
			t.Fatal(err)
		}
		first.Release() // does not release the second
		time.Sleep(2 * HoldGrace)
		g.wantRegistered(t, true, "held again")
		second.Release()
		time.Sleep(HoldGrace - time.Second)
		g.wantRegistered(t, true, "within the grace again")
		time.Sleep(2 * time.Second)
		g.wantRegistered(t, false, "after the grace")
	})
}

// A holder learns that its instance is deregistered, and can hold it again at once.
func TestDeregisterEndsTheHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := alone(t, t.TempDir())
		g.start(t)
		_, first, err := g.Hold(t.Context(), web(), httpapi.Holder{ID: "one"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := g.Deregister(t.Context(), "web", "web-1", httpapi.Holder{ID: "one"}, false); err != nil {
			t.Fatal(err)
		}
		wantLost(t, first, true)
		if who := first.ForcedBy(); who != "" {
			t.Errorf("forced by %q, want that the holder did it", who)
		}
		_, second, err := g.Hold(t.Context(), web(), httpapi.Holder{ID: "one"})
		if err != nil {
			t.Fatal(err)
		}
		first.Release() // does not release the second
		wantLost(t, second, false)
		time.Sleep(2 * HoldGrace)
		g.wantRegistered(t, true, "held by the second")
		g.reload([]discovery.Registration{web()})
		wantLost(t, second, true)
	})
}

func wantLost(t *testing.T, h httpapi.Hold, want bool) {
	t.Helper()
	select {
	case <-h.Lost:
		if !want {
			t.Error("the hold is lost")
		}
	default:
		if want {
			t.Error("the hold is not lost")
		}
	}
}

func TestConfigFileTakesOverHeldInstance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := alone(t, t.TempDir())
		g.start(t)
		_, hold, err := g.Hold(t.Context(), web(), httpapi.Holder{ID: "one"})
		if err != nil {
			t.Fatal(err)
		}
		hold.Release()
		g.reload([]discovery.Registration{web()})
		time.Sleep(2 * HoldGrace)
		g.wantRegistered(t, true, "from the config file")
		if _, err := g.Deregister(t.Context(), "web", "web-1", httpapi.Holder{}, false); !errors.Is(err, discovery.ErrForbidden) {
			t.Errorf("deregister: %v, want it forbidden", err)
		}
	})
}

func TestConfigFileTakesOverInstanceOfTheAPI(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := t.TempDir()
		g := alone(t, path)
		if _, err := g.Register(t.Context(), web()); err != nil {
			t.Fatal(err)
		}
		if kept := g.kept(t); len(kept) != 1 {
			t.Fatalf("kept %v, want web-1", kept)
		}
		g.reload([]discovery.Registration{web()})
		g.reload(nil)
		g.wantRegistered(t, false, "after the config file has it no longer")
		if kept := g.kept(t); len(kept) != 0 {
			t.Errorf("kept %v: it would be back after a restart", kept)
		}
	})
}

func TestWhatTheConfigFileHasAtTheStartIsForgotten(t *testing.T) {
	g := alone(t, t.TempDir())
	save(t, g, web())
	g.load([]discovery.Registration{web()})
	if kept := g.kept(t); len(kept) != 0 {
		t.Errorf("kept %v: it would be back once the config file has it no longer", kept)
	}
}

func TestDeregisterAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := alone(t, t.TempDir())
		g.start(t)
		spec, after := web(), discovery.Duration(time.Minute)
		spec.DeregisterAfter = &after
		spec.Checks = []discovery.CheckSpec{{Type: discovery.CheckTTL, TTL: discovery.Duration(10 * time.Second)}}
		done, err := g.Register(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		if done.Written || done.Entry.Status != discovery.Critical {
			t.Errorf("written is %v, status %q; want it to be written, and critical", done.Written, done.Entry.Status)
		}
		time.Sleep(time.Minute)
		g.wantRegistered(t, true, "critical for less than a minute")
		if err := g.Report(t.Context(), "web", "web-1", "ttl", api.CheckReport{Status: discovery.Passing}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		g.wantRegistered(t, true, "critical anew, since 50 s")
		time.Sleep(15 * time.Second)
		g.wantRegistered(t, false, "critical for more than a minute")
		if kept := g.kept(t); len(kept) != 0 {
			t.Errorf("kept %v", kept)
		}
	})
}

func TestReloadKeepsWhatChecksKnow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := alone(t, t.TempDir())
		g.start(t)
		spec := web()
		spec.Checks = []discovery.CheckSpec{{Type: discovery.CheckTTL, TTL: discovery.Duration(time.Minute)}}
		g.reload([]discovery.Registration{spec})
		synctest.Wait()
		if err := g.Report(t.Context(), "web", "web-1", "ttl", api.CheckReport{Status: discovery.Passing}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		spec.Tags = discovery.Tags{"v2"}
		g.reload([]discovery.Registration{spec})
		if s, err := g.registry.State("web", "web-1"); err != nil || s.Instance.Status != discovery.Passing || len(s.Instance.Tags) != 1 {
			t.Errorf("%+v, %v; want it passing, with its new tag", s.Instance, err)
		}
	})
}

func TestNothingIsPutAfterTheTombstone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := alone(t, t.TempDir())
		spec := web()
		spec.Checks = []discovery.CheckSpec{{Type: discovery.CheckTTL, TTL: discovery.Duration(time.Minute)}}
		if _, err := g.Register(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
		g.start(t)
		synctest.Wait()
		g.close()
		g.registry.Remove("web", "web-1")
		if err := g.Report(t.Context(), "web", "web-1", "ttl", api.CheckReport{Status: discovery.Passing}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if s, err := g.registry.State("web", "web-1"); err != nil || s.Phase != registry.PhaseLeaving {
			t.Errorf("%+v, %v: a check put the instance back", s, err)
		}
		if _, err := g.Register(t.Context(), web()); !errors.Is(err, discovery.ErrUnavailable) {
			t.Errorf("register: %v, want unavailable", err)
		}
		if kept := g.kept(t); len(kept) != 1 {
			t.Errorf("kept %v: what was registered before is for the next start", kept)
		}
	})
}

func TestOneInstanceDoesNotWaitForAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := alone(t, t.TempDir())
		began := time.Now()
		var all sync.WaitGroup
		for _, id := range []string{"a", "b", "c", "d", "e"} {
			all.Go(func() {
				if _, err := g.Register(t.Context(), discovery.Registration{Service: "web", ID: id, Port: 80}); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if took := time.Since(began); took > settleTimeout {
			t.Errorf("took %v while etcd is away, want %v for all together", took, settleTimeout)
		}
		if kept := g.kept(t); len(kept) != 5 {
			t.Errorf("kept %v, want all five", kept)
		}
	})
}

// A caller that hangs up while etcd is away would not know of its registration.
func TestACallerWhoIsGoneHasRegisteredNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := alone(t, t.TempDir())
		asking, hangUp := context.WithCancel(t.Context())
		gone := make(chan error, 1)
		go func() {
			_, err := g.Register(asking, web())
			gone <- err
		}()
		g.wantRegistered(t, true, "while the caller waits")
		hangUp()
		if err := <-gone; !errors.Is(err, context.Canceled) {
			t.Errorf("register: %v, want it canceled", err)
		}
		g.wantRegistered(t, false, "after the caller has gone")
		if kept := g.kept(t); len(kept) != 0 {
			t.Errorf("kept %v", kept)
		}
	})
}

// The disk works while etcd does. What was saved is taken back for a caller who is gone.
func TestSavedWhileEtcdIsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := aloneWith(t, t.TempDir(), noInstances{})
		ports := func() (all []int) {
			_, saved := storeIn(t, copyFiles(t, g.saved.dir.dir.Path()))
			for _, r := range saved {
				all = append(all, r.spec.Port)
			}
			return all
		}
		first := web()
		if _, err := g.Register(t.Context(), first); err != nil {
			t.Fatal(err)
		}
		asking, hangUp := context.WithCancel(t.Context())
		gone := make(chan error, 1)
		second := first
		second.Port++
		go func() {
			_, err := g.Register(asking, second)
			gone <- err
		}()
		<-time.After(settleTimeout / 2)
		if got := ports(); !slices.Equal(got, []int{second.Port}) {
			t.Errorf("saved are ports %v while etcd is asked, want %d", got, second.Port)
		}
		hangUp()
		if err := <-gone; !errors.Is(err, context.Canceled) {
			t.Errorf("register: %v, want it canceled", err)
		}
		if got := ports(); !slices.Equal(got, []int{first.Port}) {
			t.Errorf("saved are ports %v after the caller has gone, want %d as before", got, first.Port)
		}
	})
}

// TestCriticalForEver has an instance without deregister_after.
func TestCriticalForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := alone(t, t.TempDir())
		g.start(t)
		spec := web()
		spec.Checks = []discovery.CheckSpec{{Type: discovery.CheckTTL, TTL: discovery.Duration(10 * time.Second)}}
		if _, err := g.Register(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * 24 * time.Hour)
		g.wantRegistered(t, true, "critical for a month")
	})
}

// TestHostHasAnotherAddress restarts an agent under another address and zone. What a registration does
// not say goes by the host as it is now.
func TestHostHasAnotherAddress(t *testing.T) {
	dir := t.TempDir()
	before := alone(t, dir)
	own := web()
	own.ID, own.Address, own.Zone = "web-2", "192.0.2.1", "b"
	for _, spec := range []discovery.Registration{web(), own} {
		before.settle = 0
		if _, err := before.Register(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
	}
	before.saved.dir.close()
	after := alone(t, dir)
	after.address, after.zone = "10.9.9.9", "c"
	after.load(nil)
	for id, want := range map[string]string{"web-1": "10.9.9.9 c", "web-2": "192.0.2.1 b"} {
		r, ok := after.get("web", id)
		if !ok {
			t.Fatalf("%s is not registered", id)
		}
		if got := r.spec.Address + " " + r.spec.Zone; got != want {
			t.Errorf("%s is at %s, want %s", id, got, want)
		}
	}
}

// What an earlier version accepted and this one does not is kept over a restart: the checks that
// may not run any more are critical, with the reason, and the instance is not deregistered for
// it.
func TestStoredRegistrationsAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := alone(t, t.TempDir())
		stored, after := web(), discovery.Duration(time.Hour)
		stored.DeregisterAfter = &after
		stored.Address, stored.Meta = "192.0.2.1", discovery.Meta{"note": "a\nb"}
		stored.Checks = []discovery.CheckSpec{
			{ID: "own", Type: discovery.CheckTCP},
			{ID: "put", Type: discovery.CheckHTTP, URL: "http://127.0.0.1/", Method: "PUT"},
			{ID: "metadata", Type: discovery.CheckHTTP, URL: "http://169.254.169.254/", Headers: map[string]string{"Metadata-Flavor": "Google"}},
		}
		odd := discovery.Registration{Service: "odd", ID: "odd-1", Address: "0x7f000001", Port: 80}
		bridge := discovery.Registration{Service: "bridge", ID: "bridge-1", Address: "192.0.2.1", Port: 80, Checks: []discovery.CheckSpec{{Type: discovery.CheckTCP}}}
		save(t, g, stored, odd, bridge)
		g.load(nil)
		g.start(t)
		time.Sleep(2 * time.Hour)
		g.wantRegistered(t, true, "two hours after the start")
		r, _ := g.get("web", "web-1")
		reasons := map[string]string{"own": "checks.networks", "put": "method PUT", "metadata": "Metadata-Flavor"}
		for _, c := range r.checks.Checks() {
			if c.Status != discovery.Critical || !strings.Contains(c.Output, reasons[c.ID]) {
				t.Errorf("check %s is %s: %s; want it critical for %s", c.ID, c.Status, c.Output, reasons[c.ID])
			}
		}
		if !g.Owns("odd", "odd-1") {
			t.Error("the instance with an address of an earlier version is gone")
		}
		if !g.Owns("bridge", "bridge-1") {
			t.Error("the instance whose bridge is not up is gone")
		}
		for _, refused := range []discovery.Registration{stored, odd, bridge} {
			if _, err := g.Register(t.Context(), refused); err == nil {
				t.Errorf("%s/%s can be registered anew", refused.Service, refused.ID)
			}
		}
		g.wantRegistered(t, true, "after an attempt to register it anew")
		if kept := g.kept(t); len(kept) != 3 {
			t.Errorf("kept %v, want all three", kept)
		}
		now := web()
		now.DeregisterAfter = &after
		now.Checks = []discovery.CheckSpec{{Type: discovery.CheckTTL, TTL: discovery.Duration(time.Minute)}}
		if _, err := g.Register(t.Context(), now); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Hour)
		g.wantRegistered(t, false, "critical for two hours, with a check that may run")
	})
}
