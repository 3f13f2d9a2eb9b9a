package registry

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/heartbeat"
	"disc/discovery/lease"
	"disc/discovery/retry"
	"disc/discovery/view"
)

// View is the catalog, as far as the registry looks at it: to see what others did to
// its records. A view that has nothing yet, or covers less, only makes the registry
// slower to notice.
type View interface {
	// View returns the newest snapshot.
	View() (view.View, error)
	// Changed returns a channel that is closed at the next change; "" is of anything.
	Changed(service string) <-chan struct{}
	// Retain brings parts into the view, and keeps them there until release is called.
	Retain(parts ...discovery.Scope) (release func())
}

// Identity is who the registry writes as.
type Identity struct {
	Owner string         // the agent, across restarts
	Run   string         // this start of it
	Node  discovery.Node // the agent's own record, kept beside the instances
}

// Options are a registry's optional settings.
type Options struct {
	ResyncInterval time.Duration         // how often all records are read back, ±50 %; default 20 min
	Logger         *slog.Logger          // default: discard
	Registerer     prometheus.Registerer // collects the metrics; nil: nobody does
}

// Registry keeps instances true in etcd. See the package's documentation.
type Registry struct {
	client         *clientv3.Client
	keys           discovery.Keys
	session        *lease.Session
	view           View
	identity       Identity
	resyncInterval time.Duration
	log            *slog.Logger
	metrics        *metrics
	wake           chan struct{} // size one: the wanted set changed
	resync         chan struct{} // size one: read everything back
	heartbeat      heartbeat.Heartbeat
	backoff        retry.Backoff // of Run

	mu              sync.Mutex
	desired         map[string]*desired // by key
	currentLease    lease.Lease         // of the present pass
	epoch           string              // of the view, as of the last pass
	viewRevision    int64               // its revision
	nodeLease       clientv3.LeaseID    // under which the agent's own record was written
	nodeRevision    int64               // of that write
	removedRevision int64               // etcd's revision by which the last that was removed was gone
	stateChanged    chan struct{}       // closed whenever an item settles
}

// New returns a registry. It does nothing until Run. The error is that of metrics that
// cannot be registered.
func New(client *clientv3.Client, keys discovery.Keys, session *lease.Session, view View, who Identity, o Options) (*Registry, error) {
	if o.ResyncInterval <= 0 {
		o.ResyncInterval = 20 * time.Minute
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, err
	}
	return &Registry{
		client: client, keys: keys, session: session, view: view, identity: who,
		resyncInterval: o.ResyncInterval, log: o.Logger, metrics: m,
		wake: make(chan struct{}, 1), resync: make(chan struct{}, 1),
		desired: map[string]*desired{}, stateChanged: make(chan struct{}),
	}, nil
}

// Put wants an instance, in place of what was wanted under its service and id. An
// empty status is not known yet: the record's own is taken over, or is critical where
// there is none. The instance must be valid.
func (r *Registry) Put(i discovery.Instance) {
	i.Owner, i.Run, i.Node = r.identity.Owner, r.identity.Run, r.identity.Node.Node
	key := r.keys.Instance(i.Service, i.ID)
	r.mu.Lock()
	defer r.mu.Unlock()
	it, ok := r.desired[key]
	if !ok {
		it = &desired{key: key, release: r.view.Retain(discovery.Scope{Service: discovery.FoldName(i.Service)})}
		r.desired[key] = it
	}
	it.set(i)
	signal(r.wake)
}

// Remove wants an instance no longer. A record that is in etcd says goodbye: it is
// marked as leaving and lapses a minute later.
func (r *Registry) Remove(service, id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := r.keys.Instance(service, id)
	it, ok := r.desired[key]
	if !ok {
		return
	}
	r.startLeaving(it)
	signal(r.wake)
}

// startLeaving has an item say goodbye, if it may stand in etcd; r.mu is held.
func (r *Registry) startLeaving(it *desired) {
	it.generation++
	it.leaving = true
	if !it.mayExistInEtcd() {
		r.forget(it, r.removedRevision)
	}
}

// Resync reads all records back soon, as the sweep does.
func (r *Registry) Resync() { signal(r.resync) }

// State returns how an instance stands. It is an [discovery.ErrNotFound] for one that
// is not wanted.
func (r *Registry) State(service, id string) (State, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	it, ok := r.desired[r.keys.Instance(service, id)]
	if !ok {
		return State{}, discovery.Errorf(discovery.ErrNotFound, "instance %s/%s is not registered here", service, id)
	}
	return it.state(r.currentLease.ID), nil
}

// AwaitSettled waits until an instance is in etcd as it was last put, or in conflict, or,
// removed, gone. It returns its state; that of one which is gone has nothing but a
// revision of etcd's by which it was.
// When ctx ends first, it returns the state so far and the context's error.
func (r *Registry) AwaitSettled(ctx context.Context, service, id string) (State, error) {
	for {
		r.mu.Lock()
		it, ok := r.desired[r.keys.Instance(service, id)]
		var state State
		if ok {
			state = it.state(r.currentLease.ID)
		}
		settled, gone := r.stateChanged, r.removedRevision
		r.mu.Unlock()
		if !ok {
			return State{Revision: gone}, nil
		}
		if state.Phase == Written || state.Phase == InConflict {
			return state, nil
		}
		select {
		case <-settled:
		case <-ctx.Done():
			return state, ctx.Err()
		}
	}
}

// Leave removes all instances and waits until they have said goodbye, or ctx ends.
// Run must be running.
func (r *Registry) Leave(ctx context.Context) error {
	r.mu.Lock()
	for _, it := range r.desired {
		r.startLeaving(it)
	}
	r.mu.Unlock()
	signal(r.wake)
	for {
		r.mu.Lock()
		left, settled := len(r.desired), r.stateChanged
		r.mu.Unlock()
		if left == 0 {
			return nil
		}
		select {
		case <-settled:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// forget forgets an item that is gone by a revision of etcd; r.mu is held.
func (r *Registry) forget(it *desired, at int64) {
	delete(r.desired, it.key)
	it.release()
	r.removedRevision = at
	r.notifyWaiters()
}

// notifyWaiters wakes those who wait for an item to settle; r.mu is held.
func (r *Registry) notifyWaiters() {
	close(r.stateChanged)
	r.stateChanged = make(chan struct{})
}

// updateMetrics publishes how the wanted set stands.
func (r *Registry) updateMetrics() {
	r.mu.Lock()
	defer r.mu.Unlock()
	phases := map[Phase]float64{}
	for _, it := range r.desired {
		phases[it.state(r.currentLease.ID).Phase]++
	}
	for _, p := range []Phase{Pending, Written, InConflict, Leaving} {
		r.metrics.instances.WithLabelValues(string(p)).Set(phases[p])
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
