package catalog

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/changelog"
	"disc/discovery/etcd"
	"disc/discovery/heartbeat"
	"disc/discovery/life"
	"disc/discovery/reflector"
	"disc/discovery/view"
)

// Defaults of a catalog.
const (
	DefaultStaleAfter = 15 * time.Second
	DefaultRemember   = time.Hour // for which an empty service stays known
)

// Options are a catalog's optional settings.
type Options struct {
	// Watch selects what is watched of the namespace; default WatchAll.
	Watch WatchMode
	// Services are always watched. With WatchListed, no other service ever is.
	Services []string
	// Node is the agent's own node; the agents on it are always watched too.
	Node string

	StaleAfter time.Duration         // age above which a view is stale; default 15 s
	Remember   time.Duration         // how long a service without instances stays known; default 1 h
	Life       *life.Life            // begins a new life of etcd where it has started over; for agents. nil: none
	MassLoss   *MassLossGuard        // retains instances that vanish together; default: all are dropped
	LastGood   LastGoodStore         // saves the view for the next start; default: it is not saved
	Changes    *changelog.Log        // gets the changes that readers see; nil: they are not kept
	Logger     *slog.Logger          // default: discard
	Registerer prometheus.Registerer // collects the metrics; nil: they are not registered
}

// Catalog is a local view of a namespace. See the package's documentation.
type Catalog struct {
	client  *clientv3.Client
	keys    discovery.Keys
	options Options
	log     *slog.Logger
	metrics *metrics

	state         atomic.Pointer[state] // nil until the first list is complete
	subscriptions *subscriptions
	missing       *missing
	serviceNames  names
	nodeNames     names

	// Only Run uses the fields below.
	partialView     *view.Snapshot // the scopes listed so far, until the first view is complete
	unreadable      unreadable
	emptyServices   emptyServices
	suspects        *suspectTracker      // nil: without the mass-loss guard
	lastGoodExpired bool                 // the last good view is too old to compare instances with
	lastGap         time.Time            // since when the changes of the newest gap may be missing
	lastBreak       discovery.ChangeKind // what was recorded for lastGap

	reflector atomic.Pointer[reflector.Reflector] // nil until Run
	started   chan struct{}                       // closed when reflector is set
	heartbeat heartbeat.Heartbeat

	mu       sync.Mutex
	history  history
	notifier notifier
	sizeErr  error // why the fleet cannot be counted, which decides what to watch; nil: it was
}

// state is the view that readers load.
type state struct {
	snapshot  *view.Snapshot
	whole     bool      // the snapshot has the whole namespace
	confirmed time.Time // when etcd last was known to have nothing newer
	restored  bool      // saved by an earlier run, and not confirmed in this one
	complete  int64     // etcd's revision that all scopes had reached while the view was whole; 0: not known
	first     int64     // revision of the first view in etcd's present life
}

// New returns a catalog. It has the last good view, and speaks to etcd in Run alone. It fails if
// the metrics cannot be registered.
func New(client *clientv3.Client, keys discovery.Keys, o Options) (*Catalog, error) {
	if o.StaleAfter <= 0 {
		o.StaleAfter = DefaultStaleAfter
	}
	if o.Remember <= 0 {
		o.Remember = DefaultRemember
	}
	if o.Watch == "" {
		o.Watch = WatchAll
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, err
	}
	c := &Catalog{
		client: client, keys: keys, options: o, log: o.Logger, metrics: m, subscriptions: newSubscriptions(o), started: make(chan struct{}),
		unreadable:    unreadable{log: o.Logger, metrics: m, revisions: map[discovery.Key]int64{}},
		emptyServices: emptyServices{remember: o.Remember, since: map[string]time.Time{}},
		notifier:      notifier{services: map[string]chan struct{}{}},
		missing:       newMissing(),
	}
	c.serviceNames.read = func(ctx context.Context) ([]string, error) {
		return c.readNames(ctx, keys.Services(), discovery.ValidateService)
	}
	c.nodeNames.read = func(ctx context.Context) ([]string, error) {
		return c.readNames(ctx, keys.Nodes(), discovery.ValidateNode)
	}
	if o.MassLoss != nil {
		c.suspects = newSuspectTracker(*o.MassLoss, c.log, c.metrics)
	}
	if o.LastGood != nil {
		c.restore()
	}
	return c, nil
}

// View returns the newest snapshot, with its age. Until there is one it returns an
// [discovery.ErrUnavailable] with the reason.
func (c *Catalog) View() (view.View, error) {
	s := c.state.Load()
	if s == nil {
		return view.View{}, c.unavailable()
	}
	age := time.Since(s.confirmed)
	return view.View{
		Snapshot: s.snapshot, Age: age, Stale: s.restored || age > c.options.StaleAfter, Partial: !s.whole, Restored: s.restored, Confirmed: s.complete, First: s.first,
	}, nil
}

// Service returns a service from the newest snapshot, by name in any case. It does not
// wait. If the name is in lower case and the service is found, it allocates nothing:
//
//	web, err := c.Service("web")
//	if err == nil {
//		endpoints := web.Eligible()
//	}
//
// For an unknown service it returns an [discovery.ErrNotFound]. Until there is a view, and
// for a service that is not watched yet, it returns an [discovery.ErrUnavailable]; call
// [Catalog.Ensure] first.
func (c *Catalog) Service(name string) (*view.Service, error) {
	for {
		s := c.state.Load()
		if s == nil {
			return nil, c.unavailable()
		}
		if service, ok := s.snapshot.Service(name); ok {
			return service, nil
		}
		if scope := serviceScope(name); !c.has(scope) {
			return nil, discovery.Errorf(discovery.ErrUnavailable, "%s is not watched yet; call Ensure first", describeScope(scope))
		}
		if s == c.state.Load() { // has may be true of a later view only
			return nil, discovery.Errorf(discovery.ErrNotFound, "service %q is not known", name)
		}
	}
}

func (c *Catalog) unavailable() error {
	return discovery.Errorf(discovery.ErrUnavailable, "no view of the fleet yet: %v", c.unavailableReason())
}

func (c *Catalog) unavailableReason() error {
	if err := c.Health().Err; err != nil {
		return err
	}
	return cmp.Or(etcd.Unreachable(c.client), errors.New("the first list from etcd is in progress"))
}

// RequestProgress asks etcd, in the background, up to which revision the view is complete, so
// that [view.View.Revision] moves on soon where nothing of the namespace changes. Where etcd
// does not tell, it moves on with the next confirmation.
func (c *Catalog) RequestProgress() {
	if r := c.reflector.Load(); r != nil {
		r.RequestProgress()
	}
}

// Changed returns a channel that is closed at the next change of a service, known or not,
// by name in any case; "" is any change of services or nodes. The channel of an unknown
// name may also be closed by a change of another unknown name.
func (c *Catalog) Changed(service string) <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.notifier.channel(discovery.FoldName(service), c.snapshot())
}

// isWhole reports whether the view has the whole namespace.
func (c *Catalog) isWhole() bool {
	s := c.state.Load()
	return s != nil && s.whole
}

// snapshot returns the newest snapshot; nil: there is none.
func (c *Catalog) snapshot() *view.Snapshot {
	if s := c.state.Load(); s != nil {
		return s.snapshot
	}
	return nil
}

// Events returns the events after a cursor, oldest first, for a reader of one service, or
// of everything with "". Events of other services may be among them. It has at least the
// events that led to a view that View returned before, and all or none of one cursor.
// ok is false when the history does not reach back that far, the service was not watched
// all the time, or the epoch has changed: the reader starts over from a snapshot.
func (c *Catalog) Events(service string, after discovery.Cursor) (events []view.Event, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.history.since(discovery.FoldName(service), after)
}

// Health is a catalog's health.
type Health struct {
	Synced   bool  // the view was equal to etcd once in this run
	Broken   int   // records that cannot be read
	Resyncs  int   // comparisons with etcd after the first list
	Suspects int   // instances that vanished and are still shown
	Err      error // why the view is not confirmed; nil: it is

	Endpoint string // of etcd, which is watched; "": none at present
	Member   uint64 // of etcd, which answers there; 0: not known
}

// Health returns the catalog's current health.
func (c *Catalog) Health() Health {
	c.mu.Lock()
	trouble := c.sizeErr
	c.mu.Unlock()
	var h reflector.Health
	if r := c.reflector.Load(); r != nil {
		h = r.Health()
	}
	s := c.state.Load()
	return Health{Synced: s != nil && !s.restored, Broken: int(c.metrics.brokenNow.Load()), Suspects: int(c.metrics.suspectsNow.Load()), Resyncs: h.Resyncs,
		Err: cmp.Or(h.Err, trouble), Endpoint: h.Endpoint, Member: h.Member}
}

// Heartbeat shows whether Run is stuck.
func (c *Catalog) Heartbeat() *heartbeat.Heartbeat { return &c.heartbeat }

// Run keeps the view current until ctx ends, then returns nil. It starts with the view that the
// catalog has: that of an earlier call, or the last good one.
func (c *Catalog) Run(ctx context.Context) error {
	var background sync.WaitGroup
	defer background.Wait()
	if c.options.LastGood != nil {
		background.Go(func() { c.saveLoop(ctx) })
	}
	r, err := c.newReflector(ctx)
	if err != nil {
		return nil // ctx has ended
	}
	background.Go(func() { c.maintain(ctx, r) })
	if c.suspects != nil {
		background.Go(func() { c.suspects.prober.run(ctx, c.snapshot) })
		background.Go(func() { c.resolveLoop(ctx, r) })
	}
	return r.Run(ctx)
}

// newReflector returns the reflector that keeps the view equal to etcd. It resumes from the
// current view, if there is one.
func (c *Catalog) newReflector(ctx context.Context) (*reflector.Reflector, error) {
	o := reflector.Options{
		Epoch: c.keys.Epoch(), Life: c.options.Life,
		Forbidden: c.forbid, ProgressInterval: c.ProgressInterval, ProofInterval: c.ProofInterval, Heartbeat: &c.heartbeat, Logger: c.log, Metrics: c.metrics.reflector,
	}
	if s := c.snapshot(); s != nil {
		o.Resume = reflector.Checkpoint{Epoch: s.Epoch(), Revision: s.Revision()}
	}
	var err error
	if o.Ranges, err = c.initialRanges(ctx); err != nil {
		return nil, err
	}
	r := reflector.New(c.client, reflectorStore{c}, o)
	if c.reflector.Swap(r) == nil {
		close(c.started)
	}
	return r, nil
}
