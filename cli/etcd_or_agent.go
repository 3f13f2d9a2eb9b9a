package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/connectivity"

	"disc/agent/api"
	"disc/config"
	"disc/discovery"
	"disc/discovery/catalog"
	"disc/discovery/etcd"
	"disc/discovery/view"
)

// Commands that read entries ask etcd, the source of truth. They fall back to this host's
// agent when etcd cannot be reached or refuses the request.

// agentTimeout bounds a request to an agent, which answers from memory.
const agentTimeout = 10 * time.Second

// withEtcd makes a call to etcd within the dial timeout. It gives up earlier when it can
// connect to no endpoint.
func withEtcd[T any](ctx context.Context, a *app, call func(context.Context, *clientv3.Client) (T, error)) (T, error) {
	return withEtcdUnbounded(ctx, a, func(ctx context.Context, client *clientv3.Client) (T, error) {
		ctx, cancel := context.WithTimeout(ctx, a.config.Etcd.DialTimeout)
		defer cancel()
		return call(ctx, client)
	})
}

// withEtcdUnbounded is withEtcd without a time limit for the whole: call has limits for its parts.
func withEtcdUnbounded[T any](ctx context.Context, a *app, call func(context.Context, *clientv3.Client) (T, error)) (T, error) {
	var none T
	client, err := a.etcd(ctx)
	if err != nil {
		return none, err
	}
	defer client.Close()
	ctx, abort := context.WithCancelCause(ctx)
	defer abort(nil)
	stop := watchConnection(ctx, client, abort)
	defer stop()
	result, err := call(ctx, client)
	if err != nil && errors.Is(context.Cause(ctx), errNoConnection) {
		return result, etcd.NoConnection(client)
	}
	return result, a.explain(err)
}

// errNoConnection reports that no endpoint of etcd accepts connections.
var errNoConnection = errors.New("no connection")

// watchConnection calls abort when the client cannot connect to any endpoint, so that
// nobody has to wait for the timeout. stop ends the watching.
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

// fallBackToAgent returns this host's agent, to be asked in place of etcd, which failed
// with err, and tells the user. It returns an error if the agent cannot answer either.
func (a *app) fallBackToAgent(ctx context.Context, err error) (*api.Client, error) {
	if ctx.Err() != nil || !errors.Is(err, discovery.ErrUnavailable) && !errors.Is(err, discovery.ErrForbidden) {
		return nil, err
	}
	var its api.Agent
	agent, agentErr := a.anyAgent(ctx)
	if agentErr == nil {
		its, agentErr = a.agentOfNamespace(ctx, agent)
	}
	if agentErr != nil {
		return nil, errors.Join(err, agentErr)
	}
	a.infof("%v", err)
	if listed := listedServices(its); listed != "" {
		a.infof("asking this host's agent instead, which watches only %s", listed)
	} else {
		a.infof("asking this host's agent instead")
	}
	return agent, nil
}

// listedServices returns the services that an agent watches if its settings list them; "" if they
// do not, or the agent does not show them.
func listedServices(its api.Agent) string {
	for _, s := range its.Settings {
		if watch, _ := s.Value.(string); s.Name == "catalog.watch" && !slices.Contains([]string{config.WatchAuto, config.WatchAll, config.WatchLazy}, watch) {
			return watch
		}
	}
	return ""
}

// orAgent returns the answer of this host's agent in place of etcd, which failed with err.
func orAgent[T any](ctx context.Context, a *app, err error, ask func(context.Context, *api.Client) (T, api.Freshness, error)) (T, error) {
	agent, err := a.fallBackToAgent(ctx, err)
	if err != nil {
		var none T
		return none, err
	}
	ctx, cancel := context.WithTimeout(ctx, agentTimeout)
	defer cancel()
	answer, view, err := ask(ctx, agent)
	a.warnStale(view)
	return answer, err
}

// sameNamespace returns an error unless the agent serves the requested namespace: an
// ErrForbidden, or the failure of the request.
func (a *app) sameNamespace(ctx context.Context, agent *api.Client) error {
	_, err := a.agentOfNamespace(ctx, agent)
	return err
}

// agentOfNamespace returns the status of an agent. It fails as sameNamespace does.
func (a *app) agentOfNamespace(ctx context.Context, agent *api.Client) (api.Agent, error) {
	ctx, cancel := context.WithTimeout(ctx, agentTimeout)
	defer cancel()
	its, err := agent.Agent(ctx)
	if err == nil && discovery.FoldName(its.Namespace) != discovery.FoldName(a.config.Namespace) {
		err = discovery.Errorf(discovery.ErrForbidden, "this host's agent serves namespace %q, not %q; give an agent of that namespace with --agent", its.Namespace, a.config.Namespace)
	}
	return its, err
}

// readSnapshot reads a service from etcd, or all services if it is "".
func (a *app) readSnapshot(ctx context.Context, service string) (*view.Snapshot, error) {
	return withEtcd(ctx, a, func(ctx context.Context, client *clientv3.Client) (*view.Snapshot, error) {
		snapshot, broken, err := catalog.ReadOnce(ctx, client, a.keys(), service)
		for _, b := range broken {
			a.infof("a record is unreadable and left out: %v", b)
		}
		return snapshot, err
	})
}

// listedService is a service in a list. Its own revision is that of its last change: from etcd, that
// of its newest key, since a deletion leaves nothing there.
type listedService struct {
	api.Service
	// complete is etcd's revision up to which the list is complete; 0: it is not known.
	complete int64
}

// services returns all services that have instances, sorted by name.
func (a *app) services(ctx context.Context) ([]listedService, error) {
	snapshot, err := a.readSnapshot(ctx, "")
	if err != nil {
		return orAgent(ctx, a, err, func(ctx context.Context, agent *api.Client) ([]listedService, api.Freshness, error) {
			all, view, err := agent.Services(ctx, api.Wait{})
			a.warnUnwatched(all)
			return listed(all, view.Revision), view, err
		})
	}
	var all []api.Service
	for s := range snapshot.Services() {
		all = append(all, api.ServiceOf(s))
	}
	return listed(all, snapshot.Revision()), nil
}

// listed returns the services that have instances or are not watched, from a list that is complete up
// to a revision. What is not watched is not complete up to any.
func listed(services []api.Service, complete int64) []listedService {
	var all []listedService
	for _, s := range services {
		switch {
		case s.Unwatched:
			all = append(all, listedService{s, 0})
		case s.Total > 0:
			all = append(all, listedService{s, complete})
		}
	}
	return all
}

// allInstances returns the instances of all services, sorted by service and id.
func (a *app) allInstances(ctx context.Context) ([]view.Entry, error) {
	snapshot, err := a.readSnapshot(ctx, "")
	if err != nil {
		return orAgent(ctx, a, err, func(ctx context.Context, agent *api.Client) ([]view.Entry, api.Freshness, error) {
			services, view, err := agent.Services(ctx, api.Wait{})
			if err != nil {
				return nil, view, err
			}
			a.warnUnwatched(services)
			all, err := watchedInstances(ctx, agent, services)
			return all, view, err
		})
	}
	var all []view.Entry
	for s := range snapshot.Services() {
		all = append(all, copied(s.Entries())...)
	}
	return all, nil
}

// watchedInstances returns the instances of those services that an agent watches. The agent is made
// to watch no others: its whole namespace is read only if it watches all of it.
func watchedInstances(ctx context.Context, agent *api.Client, services []api.Service) (all []view.Entry, err error) {
	if len(unwatchedServices(services)) == 0 {
		for e, err := range agent.Watch(ctx, "", "") { // its first event has them
			return copied(e.Instances), err
		}
		return nil, context.Cause(ctx)
	}
	for _, s := range services {
		if s.Unwatched {
			continue
		}
		entries, _, err := agent.Instances(ctx, s.Service, api.ListOptions{})
		if err != nil && !errors.Is(err, discovery.ErrNotFound) { // it may have left meanwhile
			return nil, err
		}
		all = append(all, entries...)
	}
	return all, nil
}

// unwatchedServices returns the names of the services that an agent knows by name only.
func unwatchedServices(services []api.Service) (names []string) {
	for _, s := range services {
		if s.Unwatched {
			names = append(names, s.Service)
		}
	}
	return names
}

// warnUnwatched says which services an agent knows by name only.
func (a *app) warnUnwatched(services []api.Service) {
	if unwatched := unwatchedServices(services); len(unwatched) > 0 {
		a.infof("the agent does not watch %s: the answer is without their instances", abbreviated(unwatched))
	}
}

// abbreviated returns a list of names, of which it leaves out those after the fifth.
func abbreviated(names []string) string {
	const shown = 5
	if len(names) <= shown {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:shown], ", "), len(names)-shown)
}

func copied(entries []*view.Entry) []view.Entry {
	all := make([]view.Entry, len(entries))
	for n, e := range entries {
		all[n] = *e
	}
	return all
}

// instances returns the instances of a service, sorted by id. It returns an ErrNotFound if
// there is no such service.
func (a *app) instances(ctx context.Context, service string) ([]view.Entry, error) {
	snapshot, err := a.readSnapshot(ctx, service)
	if err != nil {
		all, err := orAgent(ctx, a, err, func(ctx context.Context, agent *api.Client) ([]view.Entry, api.Freshness, error) {
			return agent.Instances(ctx, service, api.ListOptions{})
		})
		if problem, ok := errors.AsType[*api.Problem](err); ok && errors.Is(problem, discovery.ErrNotFound) {
			err = a.unknownService(service, a.namesAtAgent(ctx))
		}
		return all, err
	}
	s, ok := snapshot.Service(service)
	if !ok {
		return nil, a.unknownService(service, a.namesInEtcd(ctx))
	}
	return copied(s.Entries()), nil
}

func (a *app) warnStale(view api.Freshness) {
	if view.Stale {
		a.infof("the agent's view is %v old", view.Age.Round(time.Second))
	}
}

// instanceName returns SERVICE/ID.
func instanceName(e view.Entry) string { return fmt.Sprintf("%s/%s", e.Service, e.ID) }
