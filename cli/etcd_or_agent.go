package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/connectivity"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/catalog"
	"disc/discovery/view"
)

// Commands that read entries ask etcd, the source of truth. They fall back to this host's
// agent when etcd cannot be reached or refuses the request.

// agentTimeout bounds a request to an agent, which answers from memory.
const agentTimeout = 10 * time.Second

// withEtcd makes a call to etcd within the dial timeout. It gives up earlier when it can
// connect to no endpoint.
func withEtcd[T any](ctx context.Context, a *app, call func(context.Context, *clientv3.Client) (T, error)) (T, error) {
	var none T
	client, err := a.etcd(ctx)
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
	agent, agentErr := a.anyAgent(ctx)
	if agentErr == nil {
		agentErr = a.sameNamespace(ctx, agent)
	}
	if agentErr != nil {
		return nil, errors.Join(err, agentErr)
	}
	a.infof("%v", err)
	a.infof("asking this host's agent instead")
	return agent, nil
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
	ctx, cancel := context.WithTimeout(ctx, agentTimeout)
	defer cancel()
	its, err := agent.Agent(ctx)
	if err == nil && discovery.FoldName(its.Namespace) != discovery.FoldName(a.config.Namespace) {
		err = discovery.Errorf(discovery.ErrForbidden, "this host's agent serves namespace %q, not %q; give an agent of that namespace with --agent", its.Namespace, a.config.Namespace)
	}
	return err
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

// services returns all services that have instances, sorted by name.
func (a *app) services(ctx context.Context) ([]api.Service, error) {
	snapshot, err := a.readSnapshot(ctx, "")
	if err != nil {
		return orAgent(ctx, a, err, func(ctx context.Context, agent *api.Client) ([]api.Service, api.Freshness, error) {
			return agent.Services(ctx, api.Wait{})
		})
	}
	var all []api.Service
	for s := range snapshot.Services() {
		if !s.Empty() {
			all = append(all, api.ServiceOf(s))
		}
	}
	return all, nil
}

// instances returns the instances of a service, sorted by id. It returns an ErrNotFound if
// there is no such service.
func (a *app) instances(ctx context.Context, service string) ([]view.Entry, error) {
	snapshot, err := a.readSnapshot(ctx, service)
	if err != nil {
		return orAgent(ctx, a, err, func(ctx context.Context, agent *api.Client) ([]view.Entry, api.Freshness, error) {
			return agent.Instances(ctx, service, api.ListOptions{})
		})
	}
	s, ok := snapshot.Service(service)
	if !ok {
		return nil, discovery.Errorf(discovery.ErrNotFound, "service %q is not known in namespace %q; see 'disc list'", service, a.config.Namespace)
	}
	all := []view.Entry{}
	for _, e := range s.Entries() {
		all = append(all, *e)
	}
	return all, nil
}

func (a *app) warnStale(view api.Freshness) {
	if view.Stale {
		a.infof("the agent's view is %v old", view.Age.Round(time.Second))
	}
}

// instanceName returns SERVICE/ID.
func instanceName(e view.Entry) string { return fmt.Sprintf("%s/%s", e.Service, e.ID) }
