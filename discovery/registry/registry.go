package registry

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"disc/discovery"
	"disc/discovery/lease"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// View is the catalog, as far as the registry looks at it: to see what others did to
// its records. A view that has nothing yet, or covers less, only makes the registry
// slower to notice.
type View interface {
	// View returns the newest snapshot.
	View() (discovery.View, error)
	// Changed returns a channel that is closed at the next change; "" is of anything.
	Changed(service string) <-chan struct{}
}

// Identity is who the registry writes as.
type Identity struct {
	Owner string         // the agent, across restarts
	Run   string         // this start of it
	Node  discovery.Node // the agent's own record, kept beside the instances
}

// Options are a registry's optional settings.
type Options struct {
	Sweep   time.Duration // how often all records are read back, ±50 %; default 20 min
	Logger  *slog.Logger  // default: discard
	Metrics *Metrics      // default: none
}

// Registry keeps instances true in etcd. See the package's documentation.
type Registry struct {
	client  *clientv3.Client
	keys    discovery.Keys
	session *lease.Session
	view    View
	who     Identity
	sweep   time.Duration
	log     *slog.Logger
	metrics *Metrics
	wake    chan struct{} // size one: the wanted set changed
	recheck chan struct{} // size one: read everything back

	mu           sync.Mutex
	items        map[string]*item // by key
	nodeLease    clientv3.LeaseID // under which the agent's own record was written
	nodeRevision int64            // of that write
	gone         int64            // etcd's revision by which the last that was removed was gone
	settled      chan struct{}    // closed whenever an item settles
}

// New returns a registry. It does nothing until Run.
func New(client *clientv3.Client, keys discovery.Keys, session *lease.Session, view View, who Identity, o Options) *Registry {
	if o.Sweep <= 0 {
		o.Sweep = 20 * time.Minute
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = NewMetrics(nil)
	}
	return &Registry{
		client: client, keys: keys, session: session, view: view, who: who,
		sweep: o.Sweep, log: o.Logger, metrics: o.Metrics,
		wake: make(chan struct{}, 1), recheck: make(chan struct{}, 1),
		items: map[string]*item{}, settled: make(chan struct{}),
	}
}

// Put wants an instance, in place of what was wanted under its service and id. An
// empty status is not known yet: the record's own is taken over, or is critical where
// there is none. The instance must be valid.
func (r *Registry) Put(i discovery.Instance) {
	i.Owner, i.Run, i.Node = r.who.Owner, r.who.Run, r.who.Node.Node
	key := r.keys.Instance(i.Service, i.ID)
	r.mu.Lock()
	defer r.mu.Unlock()
	it, ok := r.items[key]
	if !ok {
		it = &item{key: key}
		r.items[key] = it
	}
	it.want(i)
	r.count()
	signal(r.wake)
}

// Remove wants an instance no longer. A record that is in etcd says goodbye: it is
// marked as leaving and lapses a minute later.
func (r *Registry) Remove(service, id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := r.keys.Instance(service, id)
	it, ok := r.items[key]
	if !ok {
		return
	}
	it.version++
	it.leaving = true
	if !it.mayStand() {
		r.drop(it)
	}
	signal(r.wake)
}

// Recheck reads all records back soon, as the sweep does.
func (r *Registry) Recheck() { signal(r.recheck) }

// State returns how an instance stands. It is an [discovery.ErrNotFound] for one that
// is not wanted.
func (r *Registry) State(service, id string) (State, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	it, ok := r.items[r.keys.Instance(service, id)]
	if !ok {
		return State{}, discovery.Errorf(discovery.ErrNotFound, "instance %s/%s is not registered here", service, id)
	}
	return it.state(), nil
}

// Settled waits until an instance is in etcd as it was last put, or in conflict, or,
// removed, gone. It returns its state; that of one which is gone has nothing but a
// revision of etcd's by which it was.
// When ctx ends first, it returns the state so far and the context's error.
func (r *Registry) Settled(ctx context.Context, service, id string) (State, error) {
	for {
		r.mu.Lock()
		it, ok := r.items[r.keys.Instance(service, id)]
		var state State
		if ok {
			state = it.state()
		}
		settled, gone := r.settled, r.gone
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
	for _, it := range r.items {
		it.version++
		it.leaving = true
		if !it.mayStand() {
			r.drop(it)
		}
	}
	r.mu.Unlock()
	signal(r.wake)
	for {
		r.mu.Lock()
		left, settled := len(r.items), r.settled
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

// drop forgets an item; r.mu is held.
func (r *Registry) drop(it *item) {
	delete(r.items, it.key)
	r.count()
	r.announce()
}

// announce wakes those who wait for an item to settle; r.mu is held.
func (r *Registry) announce() {
	close(r.settled)
	r.settled = make(chan struct{})
}

// count publishes how the wanted set stands; r.mu is held.
func (r *Registry) count() {
	phases := map[Phase]float64{}
	for _, it := range r.items {
		phases[it.state().Phase]++
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

// Run keeps etcd equal to the wanted set until ctx ends, and returns nil then. What
// is in etcd stays there.
func (r *Registry) Run(ctx context.Context) error {
	var retry discovery.Backoff
	sweep := time.NewTimer(r.nextSweep())
	defer sweep.Stop()
	var under clientv3.LeaseID
	var turn time.Time // before which nothing is written under that lease
	for {
		current, released := r.session.Lease()
		changed := r.view.Changed("")
		again := (<-chan time.Time)(nil)
		if current.ID != under {
			under, turn = current.ID, time.Now().Add(r.smear(current))
		}
		if wait := time.Until(turn); current.ID != 0 && wait > 0 {
			again = time.After(wait)
		} else if current.ID != 0 {
			if err := r.reconcile(ctx, current.ID); err != nil && ctx.Err() == nil {
				r.failed(current.ID, &retry, err)
				again = time.After(retry.Next())
			} else {
				retry.Reset()
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-released:
		case <-r.wake:
		case <-changed:
		case <-again:
		case <-r.recheck:
			r.doubtAll()
		case <-sweep.C:
			r.doubtAll()
			sweep.Reset(r.nextSweep())
		}
	}
}

// smear returns how long to wait before writing under a lease. After an outage the
// whole fleet gets its leases in one moment; a random delay of up to a second for each
// 500 instances, at most 5 s, keeps it from writing in one, too.
func (r *Registry) smear(l lease.Lease) time.Duration {
	view, err := r.view.View()
	if !l.AfterOutage || err != nil {
		return 0
	}
	_, instances, _ := view.Snapshot.Len()
	return rand.N(min(time.Duration(instances)*time.Second/500, 5*time.Second) + 1)
}

func (r *Registry) nextSweep() time.Duration { return r.sweep/2 + rand.N(r.sweep) }

// doubtAll makes the next pass read every record back.
func (r *Registry) doubtAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.nodeLease = 0
	for _, it := range r.items {
		it.doubted = true
	}
}
