package cli

import (
	"context"
	"errors"
	"iter"
	"time"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/catalog"
	"disc/discovery/retry"
	"disc/discovery/view"
)

// etcdOrAgentStream yields the events from etcd or, if etcd cannot be reached, from this
// host's agent. It ends when ctx does, or with an error. fromEtcd returns an error only
// if it has yielded nothing.
func etcdOrAgentStream[T any](ctx context.Context, a *app, fromEtcd func(yield func(T, error) bool) error, fromAgent func(*api.Client) iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		err := fromEtcd(yield)
		if err == nil || ctx.Err() != nil {
			return
		}
		agent, err := a.fallBackToAgent(ctx, err)
		if err != nil {
			var none T
			yield(none, err)
			return
		}
		passOn(a, fromAgent(agent), yield)
	}
}

// passOn yields what a stream of an agent yields. Of an agent that is away it says so, less and
// less often.
func passOn[T any](a *app, stream iter.Seq2[T, error], yield func(T, error) bool) {
	var away retry.Backoff
	for e, err := range stream {
		if worthRetrying(err) {
			if away.Failed() {
				a.infof("%v; trying again (failure %d)", err, away.Failures())
			}
			continue
		}
		away.Reset()
		if !yield(e, err) {
			return
		}
	}
}

// worthRetrying reports whether the agent that a request failed at may answer it later: it is
// unavailable. What is no agent at all does not become one.
func worthRetrying(err error) bool {
	return errors.Is(err, discovery.ErrUnavailable) && !api.NoAgent(err)
}

// runInBackground calls run in a goroutine. stop ends its context and waits for it.
func runInBackground(ctx context.Context, run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = run(ctx) // ends only with ctx
	}()
	return func() { cancel(); <-ended }
}

// changeStream yields the changes of a service, or of all services if it is "". The first
// event is a reset with the present instances.
func (a *app) changeStream(ctx context.Context, service string) iter.Seq2[api.Event, error] {
	return etcdOrAgentStream(ctx, a,
		func(yield func(api.Event, error) bool) error { return a.etcdChanges(ctx, service, yield) },
		func(agent *api.Client) iter.Seq2[api.Event, error] {
			a.warnStaleAgent(ctx, agent)
			return agent.Watch(ctx, service, "")
		})
}

// warnStaleAgent says how old an agent's view is, which a stream does not tell.
func (a *app) warnStaleAgent(ctx context.Context, agent *api.Client) {
	ctx, cancel := context.WithTimeout(ctx, agentTimeout)
	defer cancel()
	if its, err := agent.Agent(ctx); err == nil {
		a.warnStale(api.Freshness{Stale: its.Catalog.Stale, Age: time.Duration(its.Catalog.Age)})
	}
}

// etcdChanges yields the changes of a catalog that it runs. It returns an error only if
// etcd cannot be reached at the start.
func (a *app) etcdChanges(ctx context.Context, service string, yield func(api.Event, error) bool) error {
	client, err := a.etcd(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	c, err := catalog.New(client, a.keys(), catalog.Options{Logger: a.warnings()})
	if err != nil {
		return err
	}
	stop := runInBackground(ctx, c.Run)
	defer stop()
	if err := a.awaitFirstView(ctx, c); err != nil {
		return err
	}
	a.yieldChanges(ctx, c, service, yield)
	return nil
}

// awaitFirstView waits until the catalog has a view, at most for the dial timeout.
func (a *app) awaitFirstView(ctx context.Context, c *catalog.Catalog) error {
	if _, err := a.readSnapshot(ctx, ""); err != nil {
		return err // a catalog would retry forever
	}
	ctx, cancel := context.WithTimeout(ctx, a.config.Etcd.DialTimeout)
	defer cancel()
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
			timeout.Stop()
			return a.explain(errors.Join(ctx.Err(), c.Health().Err))
		}
		timeout.Stop()
	}
}

// yieldChanges yields a reset and then the events of the catalog's history. It yields
// another reset when the history does not reach back far enough.
func (a *app) yieldChanges(ctx context.Context, c *catalog.Catalog, service string, yield func(api.Event, error) bool) {
	listed, at := false, discovery.Cursor{}
	for {
		changed := c.Changed(service)
		current, err := c.View()
		if err != nil {
			yield(api.Event{}, err)
			return
		}
		var events []view.Event
		if listed = listed && at.Epoch == current.Snapshot.Epoch(); listed {
			events, listed = c.Events(service, at)
		}
		if !listed {
			listed, at = true, current.Snapshot.Cursor()
			if !yield(resetEvent(current.Snapshot, service), nil) {
				return
			}
		}
		if at.Compare(current.Snapshot.Cursor()) < 0 {
			at = current.Snapshot.Cursor()
		}
		for _, e := range events {
			if read := e.Cursor(at.Epoch); at.Compare(read) < 0 {
				at = read
			}
			if matchesService(service, e.Service) && !yield(apiEvent(e), nil) {
				return
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// matchesService reports whether service is the watched one; "" watches all.
func matchesService(watched, service string) bool {
	return watched == "" || discovery.FoldName(watched) == discovery.FoldName(service)
}

func apiEvent(e view.Event) api.Event {
	return api.Event{Type: e.Type, Revision: e.Revision, Service: e.Service, ID: e.ID, Instance: e.Entry, Reason: e.Reason}
}

func resetEvent(s *view.Snapshot, service string) api.Event {
	e := api.Event{Type: api.EventReset, Revision: s.Revision(), Service: service, Instances: []*view.Entry{}}
	for one := range s.Services() {
		if matchesService(service, one.Name) {
			e.Instances = append(e.Instances, one.Entries()...)
		}
	}
	return e
}
