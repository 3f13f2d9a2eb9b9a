package catalog

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/heartbeat"
	"disc/discovery/reflector"
	"disc/discovery/view"
)

// Defaults of a catalog.
const (
	DefaultStaleAfter = 15 * time.Second
	DefaultRemember   = time.Hour // an empty service stays known
)

// Options are a catalog's optional settings.
type Options struct {
	// Watch says what of the namespace is watched; default WatchAll.
	Watch WatchMode
	// Services are watched for good, and with WatchListed nothing else is, whoever asks.
	Services []string
	// Node is that of the agent, whose agents are watched for good too.
	Node string

	StaleAfter time.Duration         // age above which a view is stale; default 15 s
	Remember   time.Duration         // how long a service without instances stays known; default 1 h
	MakeEpoch  bool                  // write the epoch key where there is none; for agents
	MassLoss   *MassLossGuard        // keeps what vanishes in masses; default: what vanishes is dropped
	LastGood   LastGoodStore         // keeps the view over restarts; default: nothing does
	Logger     *slog.Logger          // default: discard
	Registerer prometheus.Registerer // collects the metrics; nil: nobody does
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
	names         nameCache

	// What follows belongs to Run.
	partialView     *view.Snapshot // what has been listed of the first view
	unreadable      unreadable
	emptyServices   emptyServices
	suspects        *suspectTracker // nil: no guard
	lastGoodExpired bool            // the last good view is so old that it says nothing of who vanished

	reflector atomic.Pointer[reflector.Reflector] // nil until Run
	started   chan struct{}                       // closed when there is one
	heartbeat heartbeat.Heartbeat

	mu       sync.Mutex
	history  history
	notifier notifier
	sizeErr  error // why it is not known what to watch; nil: it is
}

// state is what readers load.
type state struct {
	snapshot  *view.Snapshot
	confirmed time.Time // when etcd last was known to have nothing newer
	restored  bool      // from an earlier run, and not confirmed in this one
}

// New returns a catalog. It does nothing until Run. The error is that of metrics that
// cannot be registered.
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
	}
	if o.MassLoss != nil {
		c.suspects = newSuspectTracker(*o.MassLoss, c.log, c.metrics)
	}
	return c, nil
}

// View returns the newest snapshot and how sure it is. Until there is one it is an
// [discovery.ErrUnavailable] that says why.
func (c *Catalog) View() (view.View, error) {
	s := c.state.Load()
	if s == nil {
		return view.View{}, c.unavailable()
	}
	age := time.Since(s.confirmed)
	return view.View{Snapshot: s.snapshot, Age: age, Stale: s.restored || age > c.options.StaleAfter, Partial: !c.subscriptions.whole.Load()}, nil
}

// Service returns a service from the newest snapshot, by name, without regard to case. It
// does not wait, and allocates nothing when it is found and its name is asked for in
// lower case:
//
//	web, err := c.Service("web")
//	if err == nil {
//		endpoints := web.Answering()
//	}
//
// A service that is not known is an [discovery.ErrNotFound]. Until there is a view, and
// while a service has not been read that is watched by interest, it is an
// [discovery.ErrUnavailable]; [Catalog.Ensure] reads it.
func (c *Catalog) Service(name string) (*view.Service, error) {
	s := c.state.Load()
	if s == nil {
		return nil, c.unavailable()
	}
	if service, ok := s.snapshot.Service(name); ok {
		return service, nil
	}
	if p := serviceScope(name); !c.has(p) {
		return nil, discovery.Errorf(discovery.ErrUnavailable, "%s is not watched yet; wait for Need first", describeScope(p))
	}
	return nil, discovery.Errorf(discovery.ErrNotFound, "service %q is not known", name)
}

func (c *Catalog) unavailable() error {
	return discovery.Errorf(discovery.ErrUnavailable, "no view of the fleet yet: %v", c.unavailableReason())
}

func (c *Catalog) unavailableReason() error {
	if err := c.Health().Err; err != nil {
		return err
	}
	return fmt.Errorf("the first list from etcd is under way")
}

// Changed returns a channel that is closed at the next change of a service, known or
// not, whatever the case of its name; "" is any change of services or nodes. The
// channel of a name that nothing is known of may be closed for another such name.
func (c *Catalog) Changed(service string) <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.notifier.channel(discovery.FoldName(service), c.snapshot())
}

// snapshot is the newest; nil: there is none.
func (c *Catalog) snapshot() *view.Snapshot {
	if s := c.state.Load(); s != nil {
		return s.snapshot
	}
	return nil
}

// Events returns the events after a position, oldest first, for a reader of a service,
// or of everything with "": there may be those of others among them. It has at least
// those that led to the view that View returned before, and all or none of one position.
// ok is false when the log does not reach back that far, the service was not watched
// all the time, or the epoch is another: the reader starts over from a snapshot.
func (c *Catalog) Events(service string, after discovery.Cursor) (events []view.Event, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.history.since(discovery.FoldName(service), after)
}

// Health is what a catalog says of itself.
type Health struct {
	Synced   bool
	Broken   int   // records that cannot be read
	Resyncs  int   // lists after the first
	Suspects int   // instances that are kept although they vanished
	Err      error // why the view is not being confirmed; nil: it is
}

// Health returns how the catalog is.
func (c *Catalog) Health() Health {
	c.mu.Lock()
	trouble := c.sizeErr
	c.mu.Unlock()
	var h reflector.Health
	if f := c.reflector.Load(); f != nil {
		h = f.Health()
	}
	s := c.state.Load()
	return Health{Synced: s != nil && !s.restored, Broken: int(c.metrics.brokenNow.Load()), Suspects: int(c.metrics.suspectsNow.Load()), Resyncs: h.Resyncs, Err: cmp.Or(h.Err, trouble)}
}

// Heartbeat shows whether Run is stuck.
func (c *Catalog) Heartbeat() *heartbeat.Heartbeat { return &c.heartbeat }

// Run keeps the view current until ctx ends, and returns nil then. It begins with the
// last good view of an earlier run, if there is one.
func (c *Catalog) Run(ctx context.Context) error {
	var beside sync.WaitGroup
	defer beside.Wait()
	if c.options.LastGood != nil {
		if c.snapshot() == nil { // else it runs anew
			c.restore()
		}
		beside.Go(func() { c.saveLoop(ctx) })
	}
	follower, err := c.newReflector(ctx)
	if err != nil {
		return nil // the run is over
	}
	beside.Go(func() { c.maintain(ctx, follower) })
	if c.suspects != nil {
		beside.Go(func() { c.suspects.prober.run(ctx, c.snapshot) })
		beside.Go(func() { c.resolveLoop(ctx, follower) })
	}
	return follower.Run(ctx)
}

// newReflector returns what keeps the view equal to etcd, from where it stands.
func (c *Catalog) newReflector(ctx context.Context) (*reflector.Reflector, error) {
	o := reflector.Options{
		Epoch: c.keys.Epoch(), MakeEpoch: c.options.MakeEpoch,
		ProgressInterval: c.ProgressInterval, Heartbeat: &c.heartbeat, Logger: c.log, Metrics: c.metrics.reflector,
	}
	if s := c.snapshot(); s != nil {
		o.Resume = reflector.Checkpoint{Epoch: s.Epoch(), Revision: s.Revision()}
	}
	var err error
	if o.Ranges, err = c.initialRanges(ctx); err != nil {
		return nil, err
	}
	f := reflector.New(c.client, reflectorStore{c}, o)
	if c.reflector.Swap(f) == nil {
		close(c.started)
	}
	return f, nil
}
