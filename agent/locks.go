package agent

import (
	"context"
	"time"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/lock"
)

// releaseTimeout is how long a stopping agent waits until its locks and claims are released.
const releaseTimeout = 5 * time.Second

// locks takes locks for the HTTP API.
type locks struct{ manager *lock.Manager }

// Lock implements httpapi.Locks.
func (l locks) Lock(ctx context.Context, name string, o api.LockOptions) (api.Lock, <-chan struct{}, error) {
	g, err := l.manager.Lock(ctx, name, lock.Request{Wait: o.Wait, TTL: o.TTL, Shared: o.Shared})
	if err != nil {
		return api.Lock{}, nil, err
	}
	return lockOf(g), g.Lost(), nil
}

// Renew implements httpapi.Locks.
func (l locks) Renew(name, id string) (api.Lock, error) {
	g, err := l.manager.Renew(name, id)
	if err != nil {
		return api.Lock{}, err
	}
	return lockOf(g), nil
}

// Unlock implements httpapi.Locks.
func (l locks) Unlock(ctx context.Context, name, id string) (done bool, err error) {
	return l.manager.Release(ctx, name, id)
}

// Queues implements httpapi.Locks.
func (l locks) Queues(ctx context.Context) (api.LockList, error) {
	queues, truncated, err := l.manager.List(ctx)
	list := api.LockList{Locks: make([]api.LockQueue, len(queues)), Truncated: truncated}
	for n, q := range queues {
		list.Locks[n] = queueOf(q)
	}
	return list, err
}

// Queue implements httpapi.Locks.
func (l locks) Queue(ctx context.Context, name string) (api.LockQueue, error) {
	q, err := l.manager.Queue(ctx, name)
	return queueOf(q), err
}

// Break implements httpapi.Locks.
func (l locks) Break(ctx context.Context, name string, o api.BreakOptions, ownOnly bool) (api.BrokenLock, error) {
	b, err := l.manager.Break(ctx, name, lock.BreakRequest{Holder: o.Holder, Now: o.Now, OwnOnly: ownOnly})
	if err != nil {
		return api.BrokenLock{}, err
	}
	return api.BrokenLock{Name: name, Holder: callerOf(b.Holder), Within: discovery.Duration(b.Within)}, nil
}

// queueOf returns the state of a lock as the API shows it.
func queueOf(q lock.Queue) api.LockQueue {
	return api.LockQueue{
		Name: q.Name, Shared: q.Shared, Holders: callersOf(q.Holders), Waiters: callersOf(q.Waiters), Truncated: q.Truncated,
	}
}

func callersOf(callers []lock.Caller) []api.LockCaller {
	all := make([]api.LockCaller, len(callers))
	for n, c := range callers {
		all[n] = callerOf(c)
	}
	return all
}

func callerOf(c lock.Caller) api.LockCaller {
	return api.LockCaller{Holder: c.Holder, Node: c.Node, Asked: c.Asked, Fence: c.Fence, Broken: (*api.LockBroken)(c.Broken)}
}

// lockOf returns a grant as the API shows a lock. ValidFor is rounded down.
func lockOf(g *lock.Grant) api.Lock {
	l := api.Lock{
		ID: g.ID(), Name: g.Name(), Fence: g.Fence(), TTL: discovery.Duration(g.TTL()),
		ValidFor: discovery.Duration(g.ValidFor().Truncate(time.Millisecond)),
	}
	if g.Shared() > 1 {
		l.Shared = g.Shared()
	}
	return l
}
