package cli

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/catalog"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/connectivity"
)

// Commands that read entries ask etcd, which has the truth, and fall back to this
// host's agent when etcd cannot be reached or asked.

// withEtcd runs a call to etcd under the dial timeout. It gives up earlier when no
// endpoint can be connected to.
func withEtcd[T any](ctx context.Context, a *app, call func(context.Context, *clientv3.Client) (T, error)) (T, error) {
	var none T
	client, err := a.etcd()
	if err != nil {
		return none, err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, a.config.Etcd.DialTimeout)
	defer cancel()
	ctx, abort := context.WithCancelCause(ctx)
	defer abort(nil)
	stop := watchConnection(ctx, client, abort)
	defer stop()
	result, err := call(ctx, client)
	if err != nil && errors.Is(context.Cause(ctx), errNoConnection) {
		return result, discovery.Errorf(discovery.ErrUnavailable, "etcd at %s cannot be reached; is it running, and is --endpoints right?",
			strings.Join(a.config.Etcd.Endpoints, ","))
	}
	return result, a.explain(err)
}

// errNoConnection: no endpoint of etcd takes connections.
var errNoConnection = errors.New("no connection")

// watchConnection aborts when the client fails to connect to any endpoint, so that
// nobody has to wait for the time-out. It returns what ends the watching.
func watchConnection(ctx context.Context, client *clientv3.Client, abort context.CancelCauseFunc) (stop func()) {
	ctx, end := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn := client.ActiveConnection()
		for state := conn.GetState(); ; state = conn.GetState() {
			if state == connectivity.TransientFailure {
				abort(errNoConnection)
				return
			}
			if !conn.WaitForStateChange(ctx, state) {
				return
			}
		}
	}()
	return func() { end(); <-done }
}

// fallBack reports whether the agent is to be asked instead, and says so.
func (a *app) fallBack(ctx context.Context, err error) bool {
	if err == nil || ctx.Err() != nil || !errors.Is(err, discovery.ErrUnavailable) && !errors.Is(err, discovery.ErrForbidden) {
		return false
	}
	a.note("%v; asking this host's agent instead", err)
	return true
}

// load reads a snapshot from etcd: of one service, or with "" of all.
func (a *app) load(ctx context.Context, service string) (*discovery.Snapshot, error) {
	return withEtcd(ctx, a, func(ctx context.Context, client *clientv3.Client) (*discovery.Snapshot, error) {
		snapshot, broken, err := catalog.Load(ctx, client, a.keys(), service)
		for _, b := range broken {
			a.note("a record cannot be read and is left out: %v", b)
		}
		return snapshot, err
	})
}

// services returns the lines of all services, sorted by name.
func (a *app) services(ctx context.Context) ([]api.Service, error) {
	snapshot, err := a.load(ctx, "")
	if a.fallBack(ctx, err) {
		agent, err := a.agent()
		if err != nil {
			return nil, err
		}
		services, view, err := agent.Services(ctx, api.Wait{})
		a.noteStale(view)
		return services, err
	}
	if err != nil {
		return nil, err
	}
	var all []api.Service
	for s := range snapshot.Services() {
		if !s.Empty() {
			all = append(all, api.ServiceOf(s))
		}
	}
	return all, nil
}

// instances returns the instances of a service, sorted by id; an ErrNotFound when
// there is no such service.
func (a *app) instances(ctx context.Context, service string) ([]discovery.Entry, error) {
	snapshot, err := a.load(ctx, service)
	if a.fallBack(ctx, err) {
		agent, err := a.agent()
		if err != nil {
			return nil, err
		}
		entries, view, err := agent.Instances(ctx, service, api.ListOptions{})
		a.noteStale(view)
		return entries, err
	}
	if err != nil {
		return nil, err
	}
	s, ok := snapshot.Service(service)
	if !ok {
		return nil, discovery.Errorf(discovery.ErrNotFound, "service %q is not known in namespace %q; see 'disc list'", service, a.config.Namespace)
	}
	all := []discovery.Entry{}
	for _, e := range s.Entries() {
		all = append(all, *e)
	}
	return all, nil
}

func (a *app) noteStale(view api.View) {
	if view.Stale {
		a.note("the agent's view is %v old", view.Age.Round(time.Second))
	}
}

// follow yields the changes of a service, or with "" of all, from etcd or, if that
// cannot be reached, from this host's agent. The first event is a reset with what is
// there. It ends with ctx, or with an error.
func (a *app) follow(ctx context.Context, service string) iter.Seq2[api.Event, error] {
	return func(yield func(api.Event, error) bool) {
		err := a.followEtcd(ctx, service, yield)
		if a.fallBack(ctx, err) {
			a.followAgent(ctx, service, yield)
			return
		}
		if err != nil && ctx.Err() == nil {
			yield(api.Event{}, err)
		}
	}
}

func (a *app) followAgent(ctx context.Context, service string, yield func(api.Event, error) bool) {
	agent, err := a.agent()
	if err != nil {
		yield(api.Event{}, err)
		return
	}
	for e, err := range agent.Watch(ctx, service, "") {
		if err != nil && errors.Is(err, discovery.ErrUnavailable) {
			a.note("%v; trying again", err)
			continue
		}
		if !yield(e, err) {
			return
		}
	}
}

// followEtcd follows a catalog of its own. It returns an error only when etcd cannot be
// reached from the start.
func (a *app) followEtcd(ctx context.Context, service string, yield func(api.Event, error) bool) error {
	client, err := a.etcd()
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithCancel(ctx)
	c := catalog.New(client, a.keys(), catalog.Options{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.Run(ctx)
	}()
	defer func() { cancel(); <-ended }()
	if err := a.firstView(ctx, c); err != nil {
		return err
	}
	a.yieldChanges(ctx, c, service, yield)
	return nil
}

// firstView waits until the catalog has a view, at most for the dial timeout.
func (a *app) firstView(ctx context.Context, c *catalog.Catalog) error {
	_, err := withEtcd(ctx, a, func(ctx context.Context, client *clientv3.Client) (*clientv3.GetResponse, error) {
		return client.Get(ctx, a.keys().Epoch())
	})
	if err != nil {
		return err
	}
	for {
		changed := c.Changed("")
		if _, err := c.View(); err == nil {
			return nil
		}
		timeout := time.NewTimer(20 * time.Millisecond) // an empty namespace has no first change
		select {
		case <-changed:
		case <-timeout.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		timeout.Stop()
	}
}

// yieldChanges yields a reset and then what the catalog's log brings.
func (a *app) yieldChanges(ctx context.Context, c *catalog.Catalog, service string, yield func(api.Event, error) bool) {
	view, _ := c.View()
	at := view.Snapshot.Revision()
	if !yield(resetOf(view.Snapshot, service), nil) {
		return
	}
	for {
		changed := c.Changed(service)
		view, _ = c.View()
		events, ok := c.Events(view.Snapshot.Epoch(), at)
		if !ok {
			if !yield(resetOf(view.Snapshot, service), nil) {
				return
			}
		}
		for _, e := range events {
			if service != "" && discovery.FoldName(e.Service) != discovery.FoldName(service) {
				continue
			}
			if !yield(eventOf(e), nil) {
				return
			}
		}
		at = max(at, view.Snapshot.Revision())
		if len(events) > 0 {
			at = max(at, events[len(events)-1].Revision)
		}
		if !ok {
			at = view.Snapshot.Revision()
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

func eventOf(e discovery.Event) api.Event {
	return api.Event{Type: e.Type, Revision: e.Revision, Service: e.Service, ID: e.ID, Instance: e.Entry, Reason: e.Reason}
}

func resetOf(s *discovery.Snapshot, service string) api.Event {
	e := api.Event{Type: api.EventReset, Revision: s.Revision(), Service: service, Instances: []*discovery.Entry{}}
	for of := range s.Services() {
		if service == "" || discovery.FoldName(of.Name) == discovery.FoldName(service) {
			e.Instances = append(e.Instances, of.Entries()...)
		}
	}
	return e
}

// target shows where an instance is.
func target(e discovery.Entry) string { return fmt.Sprintf("%s/%s", e.Service, e.ID) }
