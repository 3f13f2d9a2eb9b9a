package agent_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/retry/retrytest"
)

// why waits until the agent explains an instance with a reason, has asked etcd in time and has a view
// that is current, and returns the explanation.
func (r *running) why(t *testing.T, id string, state api.WhyState, reason string) api.Why {
	t.Helper()
	return r.whyWith(t, id, state, reason, current)
}

// current reports whether etcd was asked in time, and the view is current.
func current(w api.Why) bool { return w.Etcd != nil && w.Etcd.Error == "" && !w.Stale }

// whyWith waits until the agent explains an instance with a reason, and in another way as it should.
func (r *running) whyWith(t *testing.T, id string, state api.WhyState, reason string, also func(api.Why) bool) api.Why {
	t.Helper()
	var w api.Why
	retrytest.Succeeds(t, func() (err error) {
		if w, err = r.api.Why(t.Context(), "web", id); err != nil {
			return err
		}
		if w.State != state || !strings.Contains(w.Reason, reason) || !also(w) {
			return fmt.Errorf("%s: %s; etcd %+v, stale %v", w.State, w.Reason, w.Etcd, w.Stale)
		}
		return nil
	})
	return w
}

// next reports whether an explanation has a step with some words.
func next(w api.Why, words string) bool { return strings.Contains(strings.Join(w.Next, "\n"), words) }

func TestWhy(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	a := start(t, settings(t, etcd.Endpoint(), ""))
	a.checked(t)
	a.ready(t)
	client, keys, ctx := etcdtest.Client(t, etcd.Endpoint()), discovery.NewKeys("default"), t.Context()
	put := func(key, value string, o ...clientv3.OpOption) {
		t.Helper()
		etcdtest.Must(client.Put(ctx, key, value, o...))
	}

	a.register(t, "mine")
	w := a.whyWith(t, "mine", api.WhyAnswered, "its status is passing", func(w api.Why) bool {
		return current(w) && len(w.Next) == 0 // a session that is not renewed in time is told
	})
	if w.Owner == nil || !w.Owner.Here || w.Owner.Session != api.WhySessionAlive || w.Registration == nil || w.Etcd.Heard == nil {
		t.Errorf("%+v", w)
	}

	// An instance of an agent without a record of its own.
	orphan := discovery.Instance{Service: "web", ID: "orphan", Node: "host-2", Address: "10.0.0.2", Port: 80, Weight: 1, Slots: 1, Status: discovery.Passing, Owner: "gone"}
	put(keys.Instance("web", "orphan"), string(orphan.Encode()))
	if w = a.why(t, "orphan", api.WhyAnswered, "passing"); w.Owner == nil || w.Owner.Session != api.WhySessionEnded || !next(w, "Its agent on host-2 is not heard of") {
		t.Errorf("%+v", w)
	}

	// A weight of 0, of the record and by an override.
	put(keys.Override("web", "orphan"), `{"weight":0}`)
	if w = a.why(t, "orphan", api.WhyLeftOut, "its weight is 0"); !next(w, "disc unset web/orphan --override") || w.Etcd.Override == 0 {
		t.Errorf("%+v", w)
	}

	// A record that cannot be read: it was there, and it never was.
	put(keys.Instance("web", "orphan"), "junk")
	if w = a.why(t, "orphan", api.WhyLeftOut, "cannot be read"); w.Instance != nil || !next(w, "'etcdctl del "+keys.Instance("web", "orphan")+"'") || len(w.Changes) < 3 {
		t.Errorf("%+v", w)
	}
	put(keys.Instance("web", "junk"), "junk")
	a.why(t, "junk", api.WhyLeftOut, "cannot be read")

	// One that is removed, and one that nobody knows.
	etcdtest.Must(client.Delete(ctx, keys.Instance("web", "orphan")))
	if w = a.why(t, "orphan", api.WhyGone, "its record cannot be read any more"); !next(w, "disc unset web/orphan --override") {
		t.Errorf("%+v", w)
	}
	_, err := a.api.Why(ctx, "web", "mind")
	if !errors.Is(err, discovery.ErrNotFound) || !strings.Contains(err.Error(), `did you mean "mine"`) {
		t.Errorf("%v", err)
	}
	if _, err = a.api.Why(ctx, "wed", "mine"); !errors.Is(err, discovery.ErrNotFound) || !strings.Contains(err.Error(), `did you mean "web"`) {
		t.Errorf("%v", err)
	}
	if _, err = a.api.Why(ctx, "web", "a b"); !errors.Is(err, discovery.ErrInvalid) {
		t.Errorf("%v", err)
	}
}

// What is wrong at the same time is said at the same time, each with its own command.
func TestWhyForSeveralReasons(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	client, keys, ctx := etcdtest.Client(t, etcd.Endpoint()), discovery.NewKeys("default"), t.Context()
	put := func(key, value string) {
		t.Helper()
		etcdtest.Must(client.Put(ctx, key, value))
	}
	other := discovery.Instance{Service: "web", ID: "web-1", Node: "host-2", Address: "10.0.0.2", Port: 80, Weight: 1, Slots: 1, Status: discovery.Critical, Owner: "other",
		Checks: []discovery.CheckStatus{{ID: "up", Type: discovery.CheckTTL, Status: discovery.Critical}}}
	put(keys.Instance("web", "web-1"), string(other.Encode()))
	a := start(t, settings(t, etcd.Endpoint(), "services: [{service: web, id: web-1, port: 80}]\n"))
	a.checked(t)

	// The id is another agent's, whose instance is answered: that one is not of this host.
	var w api.Why
	retrytest.Eventually(t, "conflict", func() bool {
		w = a.why(t, "web-1", api.WhyLeftOut, "its status is critical")
		return w.Registration != nil && w.Registration.State == api.RegistrationConflict
	})
	if w.Owner == nil || w.Owner.Here || !next(w, "on host-2 has all of its output") || !next(w, "with another id, or stop the one on host-2") {
		t.Errorf("%+v, %+v", w, w.Owner)
	}

	// An operator's order, beside the failing check.
	put(keys.Override("web", "web-1"), `{"state":"drain","weight":0}`)
	if w = a.why(t, "web-1", api.WhyLeftOut, "drain"); !next(w, "disc undrain web/web-1") || !next(w, "has all of its output") || !next(w, "disc set web/web-1 --weight 1") {
		t.Errorf("%+v", w)
	}

	// A static entry under a record that cannot be read is answered.
	static := discovery.Instance{Service: "web", ID: "web-2", Address: "10.0.0.3", Port: 80, Weight: 1, Slots: 1, Status: discovery.Passing}
	put(keys.Static("web", "web-2"), string(static.Encode()))
	put(keys.Instance("web", "web-2"), "junk")
	if w = a.why(t, "web-2", api.WhyAnswered, "passing"); !next(w, "'etcdctl del "+keys.Instance("web", "web-2")+"'") {
		t.Errorf("%+v", w)
	}
	static.ID, static.Status = "web-3", discovery.Critical
	put(keys.Static("web", "web-3"), string(static.Encode()))
	if w = a.why(t, "web-3", api.WhyLeftOut, "critical"); !next(w, "disc unset web/web-3 --static && disc set web/web-3 10.0.0.3:80") {
		t.Errorf("%+v", w)
	}

	// A static entry and an override that cannot be read.
	put(keys.Static("web", "web-5"), "{}")
	if w = a.why(t, "web-5", api.WhyLeftOut, "cannot be read from etcd: static entry: "); strings.Contains(w.Reason, "\n") || !next(w, "'etcdctl del "+keys.Static("web", "web-5")+"'") {
		t.Errorf("%+v", w)
	}
	put(keys.Override("web", "web-5"), "junk")
	static.ID = "web-5"
	put(keys.Static("web", "web-5"), string(static.Encode()))
	if w = a.why(t, "web-5", api.WhyLeftOut, "critical"); !next(w, "'etcdctl del "+keys.Override("web", "web-5")+"'") {
		t.Errorf("%+v", w)
	}

	// An override alone.
	put(keys.Override("web", "web-4"), `{"state":"drain"}`)
	if w = a.why(t, "web-4", api.WhyLeftOut, "etcd has an override of it alone"); !next(w, "disc unset web/web-4 --override") {
		t.Errorf("%+v", w)
	}
}

// An agent writes an instance before its own record, or somebody deletes that: its session lives as
// long as the lease of the instance's record.
func TestWhyBeforeTheOwnRecord(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	a := start(t, settings(t, etcd.Endpoint(), ""))
	a.ready(t)
	client, keys, ctx := etcdtest.Client(t, etcd.Endpoint()), discovery.NewKeys("default"), t.Context()
	lease := etcdtest.Must(client.Grant(ctx, 600)).ID
	other := discovery.Instance{Service: "web", ID: "web-1", Node: "host-2", Address: "10.0.0.2", Port: 80, Weight: 1, Slots: 1, Status: discovery.Passing, Owner: "other"}
	etcdtest.Must(client.Put(ctx, keys.Instance("web", "web-1"), string(other.Encode()), clientv3.WithLease(lease)))
	if w := a.why(t, "web-1", api.WhyAnswered, "passing"); w.Owner == nil || w.Owner.Session != api.WhySessionAlive || len(w.Next) > 0 {
		t.Errorf("%+v, %+v", w, w.Owner)
	}
}

func TestWhyOfASuspect(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	a := start(t, settings(t, etcd.Endpoint(), ""))
	a.checked(t)
	a.ready(t)
	(&exampleSender{t: t, agent: a}).loseTogether(etcd.Endpoint())
	w := a.why(t, "web-1", api.WhyAnswered, "vanished with many others")
	changes := withoutGaps(w.Changes)
	if !w.Missing || !next(w, "disc suspects drop web/web-1") || changes[len(changes)-1].Change != discovery.ChangeSuspect || w.Etcd.Record != 0 {
		t.Errorf("%+v", w)
	}
}

// Without etcd, the view explains, and what etcd has is left out.
func TestWhyWithoutEtcd(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	link := etcdtest.StartLink(t, etcd.Endpoint())
	a := start(t, settings(t, link.Endpoint(), "catalog: {stale_after: 1ms}\n"))
	a.checked(t)
	a.ready(t)
	a.register(t, "web-1")
	a.answers(t, "web", 1)
	link.Freeze()
	link.Cut()
	t.Cleanup(link.Mend)
	w := a.whyWith(t, "web-1", api.WhyAnswered, "passing", func(w api.Why) bool { return w.Stale }) // a view is not at once
	if w.Etcd == nil || w.Etcd.Error == "" || !next(w, "disc status") {
		t.Errorf("%+v", w)
	}
	if _, err := a.api.Why(t.Context(), "web", "web-2"); !errors.Is(err, discovery.ErrNotFound) || !strings.Contains(err.Error(), "etcd, which may have it, could not be asked") {
		t.Errorf("%v", err)
	}
}
