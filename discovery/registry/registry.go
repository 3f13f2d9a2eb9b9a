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
	"disc/discovery/life"
	"disc/discovery/retry"
	"disc/discovery/view"
)

// View is the part of the catalog that the registry uses, to see what others did to its
// records. With a view that is empty or partial the registry only notices later.
type View interface {
	// View returns the newest snapshot.
	View() (view.View, error)
	// Changed returns a channel that is closed at the next change of a service; "": of
	// anything.
	Changed(service string) <-chan struct{}
	// Has reports whether the view has the scopes, as far as they exist; false where etcd forbids
	// to read one.
	Has(scopes ...discovery.Scope) bool
	// Retain adds scopes to the view and keeps them there until release is called.
	Retain(scopes ...discovery.Scope) (release func())
}

// Identity identifies the agent in the records that the registry writes.
type Identity struct {
	Owner string         // id of the agent, across restarts
	RunID string         // id of this start of the agent
	Node  discovery.Node // the agent's own record, which is written beside the instances
}

// Options are a registry's optional settings. The zero value is useful.
type Options struct {
	ResyncInterval time.Duration         // between two reads of all records, ±50 %; default 20 min
	HideOutput     bool                  // write records without the outputs of checks
	Life           *life.Life            // learns of the agent's own record; nil: none
	Logger         *slog.Logger          // default: discard
	Registerer     prometheus.Registerer // of the metrics; default: none
}

// Registry keeps instances registered in etcd. See the package's documentation.
type Registry struct {
	client         *clientv3.Client
	keys           discovery.Keys
	session        *lease.Session
	view           View
	identity       Identity
	resyncInterval time.Duration
	hideOutput     bool
	life           *life.Life // nil: none
	log            *slog.Logger
	metrics        *metrics
	wake           retry.Signal // the desired set changed
	resync         retry.Signal // read all records
	heartbeat      heartbeat.Heartbeat
	backoff        retry.Backoff // of Run, when etcd as a whole fails
	retries        retryGrid     // of what etcd refuses in particular
	maxOps         int           // of one transaction, as far as is known

	mu      sync.Mutex
	desired map[string]*desired // by key
	queue   workQueue           // those that need work
	refused map[*desired]bool   // those that etcd has refused since their last success
	// Those to compare with the view. After each change of its state an instance is among them, also
	// when only its load was reported: to look at it once costs no more than to tell the changes apart.
	unconfirmed map[*desired]bool
	hidden      map[discovery.Scope]map[*desired]bool // those to compare with the view once it has their service

	currentLease lease.Lease // as of the last reconciliation
	// Of the view, as of the last reconciliation. Load reports alone begin none, so this may keep one
	// older version of the services in which only they change.
	compared        *view.Snapshot
	nodeLease       clientv3.LeaseID // under which the agent's own record was written; 0: write it
	nodeRevision    int64            // of that write
	nodeAttempt     attempt          // the next
	removedRevision int64            // etcd's revision by which the last removed instance had left
	stateChanged    chan struct{}    // closed and replaced when an instance's state may have changed
}

// New returns a registry, which does nothing until Run. It fails if the metrics cannot be
// registered.
func New(client *clientv3.Client, keys discovery.Keys, session *lease.Session, catalog View, identity Identity, o Options) (*Registry, error) {
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
		client: client, keys: keys, session: session, view: catalog, identity: identity,
		resyncInterval: o.ResyncInterval, hideOutput: o.HideOutput, life: o.Life, log: o.Logger, metrics: m,
		wake: retry.NewSignal(), resync: retry.NewSignal(),
		retries: newRetryGrid(), maxOps: batchOps,
		desired: map[string]*desired{}, refused: map[*desired]bool{},
		unconfirmed: map[*desired]bool{}, hidden: map[discovery.Scope]map[*desired]bool{},
		compared: view.EmptySnapshot(), stateChanged: make(chan struct{}),
	}, nil
}

// Put sets the desired state of an instance, replacing any earlier one. An empty status is
// not known yet: the registry takes over the status of an existing record, or writes
// critical. The instance must be valid. A record that etcd refused, or that is in conflict, is
// attempted again at once.
func (r *Registry) Put(i discovery.Instance) { r.set(i, true) }

// PutStatus is Put for new results of checks, of which there may be many: a record that etcd
// refused waits on, and one that is in conflict stays so.
func (r *Registry) PutStatus(i discovery.Instance) { r.set(i, false) }

func (r *Registry) set(i discovery.Instance, asked bool) {
	i.Owner, i.Run, i.Node = r.identity.Owner, r.identity.RunID, r.identity.Node.Node
	key := r.keys.Instance(i.Service, i.ID)
	r.mu.Lock()
	defer r.mu.Unlock()
	d, ok := r.desired[key]
	if !ok {
		d = &desired{key: key, hideOutput: r.hideOutput, release: r.view.Retain(serviceScope(i.Service))}
		r.desired[key] = d
	}
	d.set(i, asked)
	r.update(d)
	r.wake.Notify()
}

// Remove removes an instance from the desired set. Its record in etcd becomes a tombstone:
// it is marked as leaving and expires a minute later.
func (r *Registry) Remove(service, id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := r.keys.Instance(service, id)
	d, ok := r.desired[key]
	if !ok {
		return
	}
	r.startLeaving(d)
	r.wake.Notify()
}

// startLeaving marks an instance as leaving, or forgets it at once if it cannot have a
// record in etcd. r.mu is held.
func (r *Registry) startLeaving(d *desired) {
	d.generation++
	d.leaving = true
	d.attempt.restart()
	if !d.mayExistInEtcd() {
		r.forget(d, r.removedRevision)
	}
	r.update(d)
}

// update derives from an instance's state what it needs next and when, and its phase. It is called
// after each change of the state; after those that an answer of etcd makes, at the latest when its
// batch is done, refused or failed. A load report's expiry is the one change that time makes, see
// dropExpired. r.mu is held.
func (r *Registry) update(d *desired) {
	if !r.has(d) {
		return
	}
	r.queue.set(d, d.nextAttempt(r.currentLease.ID, time.Now()))
	r.unconfirmed[d] = true
	if d.attempt.refused > 0 || d.load.attempt.refused > 0 {
		r.refused[d] = true
	} else {
		delete(r.refused, d)
	}
	r.metrics.count(d, d.phase(r.currentLease.ID))
}

// has reports whether an instance is in the desired set. One that has left is not, also where another
// was put under its key since. r.mu is held.
func (r *Registry) has(d *desired) bool { return r.desired[d.key] == d }

// updateAll updates all instances, after a change of what concerns them all. r.mu is held.
func (r *Registry) updateAll() {
	for _, d := range r.desired {
		r.update(d)
	}
}

// Resync makes Run read all records soon, as the periodic resync does.
func (r *Registry) Resync() { r.resync.Notify() }

// State returns an instance's state. The error is a [discovery.ErrNotFound] for an instance
// that is not in the desired set.
func (r *Registry) State(service, id string) (State, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	d, ok := r.desired[r.keys.Instance(service, id)]
	if !ok {
		return State{}, discovery.Errorf(discovery.ErrNotFound, "instance %s/%s is not registered here", service, id)
	}
	return d.state(r.currentLease.ID), nil
}

// MayConflict reports whether another agent may have registered an instance, as far as the view knows: a
// conflict is found only when the record is written.
func (r *Registry) MayConflict(service, id string) bool {
	current, err := r.view.View()
	if err != nil || !r.view.Has(serviceScope(service)) {
		return true
	}
	record := recordOf(current.Snapshot, service, id)
	return record != nil && record.Owner != r.identity.Owner && !record.Leaving
}

// AwaitSettled waits until an instance is in etcd as it was last put, is in conflict or,
// after Remove, has left. It returns the instance's state. For an instance that has left
// the state has only a revision, one of etcd's by which the instance had left. If ctx ends
// first, it returns the state so far and the error of ctx.
func (r *Registry) AwaitSettled(ctx context.Context, service, id string) (State, error) {
	for {
		r.mu.Lock()
		d, ok := r.desired[r.keys.Instance(service, id)]
		var state State
		if ok {
			state = d.state(r.currentLease.ID)
		}
		changed, removed := r.stateChanged, r.removedRevision
		r.mu.Unlock()
		if !ok {
			return State{Revision: removed}, nil
		}
		if state.Phase == PhaseWritten || state.Phase == PhaseConflict {
			return state, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return state, ctx.Err()
		}
	}
}

// DeregisterAll removes all instances and waits until they have left, or ctx ends; then it returns
// the error of ctx. Run must be running.
func (r *Registry) DeregisterAll(ctx context.Context) error {
	r.mu.Lock()
	for _, d := range r.desired {
		r.startLeaving(d)
	}
	r.mu.Unlock()
	r.wake.Notify()
	for {
		r.mu.Lock()
		left, changed := len(r.desired), r.stateChanged
		r.mu.Unlock()
		if left == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// forget deletes an instance that has left by a revision of etcd, unless it was deleted before. r.mu is
// held.
func (r *Registry) forget(d *desired, at int64) {
	if !r.has(d) {
		return
	}
	delete(r.desired, d.key)
	delete(r.unconfirmed, d)
	r.unhide(d)
	delete(r.refused, d)
	r.queue.set(d, time.Time{})
	r.metrics.count(d, "")
	d.release()
	r.removedRevision = at
	r.notifyWaiters()
}

// notifyWaiters wakes the callers that wait for a change of state. r.mu is held.
func (r *Registry) notifyWaiters() {
	close(r.stateChanged)
	r.stateChanged = make(chan struct{})
}
