package cli

import (
	"context"
	"errors"
	"iter"
	"time"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/catalog"
	"disc/discovery/view"
)

// changeStream yields the changes of a service, or with "" of all, from etcd or, if that
// cannot be reached, from this host's agent. The first event is a reset with what is
// there. It ends with ctx, or with an error.
func (a *app) changeStream(ctx context.Context, service string) iter.Seq2[api.Event, error] {
	return func(yield func(api.Event, error) bool) {
		err := a.etcdChanges(ctx, service, yield)
		if err == nil || ctx.Err() != nil {
			return
		}
		agent, err := a.fallBackToAgent(ctx, err)
		if err != nil {
			yield(api.Event{}, err)
			return
		}
		a.agentChanges(ctx, agent, service, yield)
	}
}

func (a *app) agentChanges(ctx context.Context, agent *api.Client, service string, yield func(api.Event, error) bool) {
	for e, err := range agent.Watch(ctx, service, "") {
		if err != nil && errors.Is(err, discovery.ErrUnavailable) {
			a.infof("%v; trying again", err)
			continue
		}
		if !yield(e, err) {
			return
		}
	}
}

// etcdChanges follows a catalog of its own. It returns an error only when etcd cannot be
// reached from the start.
func (a *app) etcdChanges(ctx context.Context, service string, yield func(api.Event, error) bool) error {
	client, err := a.etcd()
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithCancel(ctx)
	c, err := catalog.New(client, a.keys(), catalog.Options{Logger: a.warnings()})
	if err != nil {
		cancel()
		return err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.Run(ctx)
	}()
	defer func() { cancel(); <-ended }()
	if err := a.awaitFirstView(ctx, c); err != nil {
		return err
	}
	a.yieldChanges(ctx, c, service, yield)
	return nil
}

// awaitFirstView waits until the catalog has a view, at most for the dial timeout.
func (a *app) awaitFirstView(ctx context.Context, c *catalog.Catalog) error {
	if _, err := a.readSnapshot(ctx, ""); err != nil {
		return err // a catalog would try for ever
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

// yieldChanges yields a reset, and then what the catalog's log brings; another reset
// where that does not reach back far enough.
func (a *app) yieldChanges(ctx context.Context, c *catalog.Catalog, service string, yield func(api.Event, error) bool) {
	known, at := false, discovery.Cursor{}
	for {
		changed := c.Changed(service)
		current, err := c.View()
		if err != nil {
			yield(api.Event{}, err)
			return
		}
		var events []view.Event
		if known = known && at.Epoch == current.Snapshot.Epoch(); known {
			events, known = c.Events(service, at)
		}
		if !known {
			known, at = true, current.Snapshot.Cursor()
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

// matchesService reports whether a service is the one that is followed; "" is all.
func matchesService(followed, service string) bool {
	return followed == "" || discovery.FoldName(followed) == discovery.FoldName(service)
}

func apiEvent(e view.Event) api.Event {
	return api.Event{Type: e.Type, Revision: e.Revision, Service: e.Service, ID: e.ID, Instance: e.Entry, Reason: e.Reason}
}

func resetEvent(s *view.Snapshot, service string) api.Event {
	e := api.Event{Type: api.EventReset, Revision: s.Revision(), Service: service, Instances: []*view.Entry{}}
	for of := range s.Services() {
		if matchesService(service, of.Name) {
			e.Instances = append(e.Instances, of.Entries()...)
		}
	}
	return e
}
