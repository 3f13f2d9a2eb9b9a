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

// Commands that read entries ask etcd, which has the truth, and fall back to this
// host's agent when etcd cannot be reached or asked.

// agentTimeout bounds what is asked of an agent, which answers from memory.
const agentTimeout = 10 * time.Second

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

// fallBackToAgent returns this host's agent, to be asked because etcd failed with err, and says
// so; or the error that is left when the agent is of no help either.
func (a *app) fallBackToAgent(ctx context.Context, err error) (*api.Client, error) {
	if ctx.Err() != nil || !errors.Is(err, discovery.ErrUnavailable) && !errors.Is(err, discovery.ErrForbidden) {
		return nil, err
	}
	agent, agentErr := a.anyAgent()
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

// sameNamespace returns an ErrForbidden unless the agent serves the namespace that is
// asked for, or why it does not say.
func (a *app) sameNamespace(ctx context.Context, agent *api.Client) error {
	ctx, cancel := context.WithTimeout(ctx, agentTimeout)
	defer cancel()
	its, err := agent.Agent(ctx)
	if err == nil && discovery.FoldName(its.Namespace) != discovery.FoldName(a.config.Namespace) {
		err = discovery.Errorf(discovery.ErrForbidden, "this host's agent serves namespace %q, not %q; name an agent of that one with --agent", its.Namespace, a.config.Namespace)
	}
	return err
}

// readSnapshot reads a snapshot from etcd: of one service, or with "" of all.
func (a *app) readSnapshot(ctx context.Context, service string) (*view.Snapshot, error) {
	return withEtcd(ctx, a, func(ctx context.Context, client *clientv3.Client) (*view.Snapshot, error) {
		snapshot, broken, err := catalog.ReadOnce(ctx, client, a.keys(), service)
		for _, b := range broken {
			a.infof("a record cannot be read and is left out: %v", b)
		}
		return snapshot, err
	})
}

// services returns the lines of all services, sorted by name.
func (a *app) services(ctx context.Context) ([]api.Service, error) {
	snapshot, err := a.readSnapshot(ctx, "")
	if err != nil {
		agent, err := a.fallBackToAgent(ctx, err)
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(ctx, agentTimeout)
		defer cancel()
		services, view, err := agent.Services(ctx, api.Wait{})
		a.warnStale(view)
		return services, err
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
func (a *app) instances(ctx context.Context, service string) ([]view.Entry, error) {
	snapshot, err := a.readSnapshot(ctx, service)
	if err != nil {
		agent, err := a.fallBackToAgent(ctx, err)
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(ctx, agentTimeout)
		defer cancel()
		entries, view, err := agent.Instances(ctx, service, api.ListOptions{})
		a.warnStale(view)
		return entries, err
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

// instanceName shows where an instance is.
func instanceName(e view.Entry) string { return fmt.Sprintf("%s/%s", e.Service, e.ID) }
