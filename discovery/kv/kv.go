package kv

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/btree"
	"github.com/prometheus/client_golang/prometheus"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"disc/discovery"
	"disc/discovery/heartbeat"
	"disc/discovery/life"
	"disc/discovery/quota"
	"disc/discovery/reflector"
)

// Item is a key and its value.
type Item struct {
	Key      string
	Value    []byte           // not nil
	Revision int64            // etcd's, of the last write
	Created  int64            // etcd's, of the write that created the key
	Lease    clientv3.LeaseID // 0: none
}

// Options are a store's optional settings.
type Options struct {
	// StaleAfter is the age of the cache above which reads are marked stale; default 15 s.
	StaleAfter time.Duration
	// IdleTimeout is the time after its last read at which a range is evicted; default
	// 10 min.
	IdleTimeout time.Duration
	// MaxCachedBytes bounds the size of the cache, in bytes; default 256 MiB. A range that
	// does not fit is read from etcd each time.
	MaxCachedBytes int64
	// MaxBytes bounds the bytes of all keys and values in the namespace, and MaxKeys the
	// number of keys, roughly: a write beyond is refused. 0: no bound.
	MaxBytes discovery.Bytes
	MaxKeys  int64
	Space    *quota.Space // must have space for a write; nil: it always has
	Rate     *quota.Rate  // bounds the writes of this store; nil: no bound
	// ProgressInterval returns the time until the cache is next confirmed to be current;
	// default [reflector.DefaultProgressInterval].
	ProgressInterval func() time.Duration
	Life             *life.Life            // begins a new life of etcd where it has started over; for agents. nil: none
	Logger           *slog.Logger          // default: discard
	Registerer       prometheus.Registerer // collects the metrics; nil: they are not registered
}

// The bounds of a store.
const (
	callTimeout  = 5 * time.Second // for one call of etcd
	tooLargeTTL  = time.Minute     // before a range that was too large to cache is tried again
	itemOverhead = 200             // estimated bytes of an item beside its key and value
	btreeDegree  = 64
)

// Store reads and writes the keys of one namespace. See the package's documentation. Its
// methods may be called by many goroutines at once.
type Store struct {
	client    *clientv3.Client
	prefix    string
	options   Options
	reflector *reflector.Reflector
	budget    *budget

	heartbeat heartbeat.Heartbeat
	activated chan struct{} // closed at the first read; nothing is watched before
	activate  sync.Once
	state     atomic.Pointer[state]

	mu       sync.Mutex
	loading  map[reflector.Range]chan struct{} // closed when the attempt to cache the range ends
	tooLarge map[reflector.Range]time.Time     // ranges that did not fit, and when to try again
	changed  chan struct{}                     // closed at the next change
	history  history
}

// state is the cache that readers load. It is immutable but for the times of the last reads.
type state struct {
	// items are sorted by key, as in etcd. With 100,000 keys, btree loads a directory three
	// times as fast as the map of package view, and lists it 1.7 times as fast.
	items     *btree.BTreeG[Item]
	ranges    []*cachedRange
	size      int64 // estimate, in bytes
	confirmed time.Time
	epoch     string
}

// cachedRange is a range whose keys the store caches.
type cachedRange struct {
	reflector.Range
	revisions
	used atomic.Int64 // time of the last read, in Unix nanoseconds
}

// revisions are the revisions of etcd that a cached range has reached.
type revisions struct {
	listedAt      int64 // of the list that it started from
	deliveredUpTo int64 // it has all writes up to here; below listedAt: it is not complete yet
	lastChange    int64 // of its last change
}

// New returns a store. Reads wait for Run. It fails if the metrics cannot be registered.
func New(client *clientv3.Client, keys discovery.Keys, o Options) (*Store, error) {
	o.StaleAfter = cmp.Or(o.StaleAfter, 15*time.Second)
	o.IdleTimeout = cmp.Or(o.IdleTimeout, 10*time.Minute)
	o.MaxCachedBytes = cmp.Or(o.MaxCachedBytes, 256<<20)
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	metrics, err := reflector.NewMetrics(o.Registerer, "kv")
	if err != nil {
		return nil, err
	}
	s := &Store{
		client: client, prefix: keys.KV(), options: o,
		activated: make(chan struct{}), changed: make(chan struct{}),
		loading: map[reflector.Range]chan struct{}{}, tooLarge: map[reflector.Range]time.Time{},
	}
	s.state.Store(&state{items: btree.NewG(btreeDegree, func(a, b Item) bool { return a.Key < b.Key })})
	s.budget = newBudget(client, keys, s.prefixRange(""), o)
	s.reflector = reflector.New(client, reflectorStore{s}, reflector.Options{Epoch: keys.Epoch(), Life: o.Life, ProgressInterval: o.ProgressInterval, Heartbeat: &s.heartbeat, Logger: o.Logger, Metrics: metrics})
	return s, nil
}

// Heartbeat shows whether Run is stuck.
func (s *Store) Heartbeat() *heartbeat.Heartbeat { return &s.heartbeat }

// Run keeps the cached ranges current, and counts the keys where they are bounded, until ctx
// ends, then returns nil. It makes no request to etcd before the first read or write.
func (s *Store) Run(ctx context.Context) error {
	var group errgroup.Group
	group.Go(func() error { return s.budget.run(ctx) })
	group.Go(func() error { return s.runCache(ctx) })
	return group.Wait()
}

// runCache keeps the cached ranges current.
func (s *Store) runCache(ctx context.Context) error {
	select {
	case <-s.activated:
	case <-ctx.Done():
		return nil
	}
	var group errgroup.Group
	group.Go(func() error { return s.reflector.Run(ctx) })
	group.Go(func() error { return s.evictIdle(ctx) })
	return group.Wait()
}

// evictIdle periodically evicts the ranges that were not read for IdleTimeout, until ctx
// ends.
func (s *Store) evictIdle(ctx context.Context) error {
	ticker := time.NewTicker(s.options.IdleTimeout / 10)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
		for _, cr := range s.state.Load().ranges {
			if time.Since(time.Unix(0, cr.used.Load())) > s.options.IdleTimeout {
				_ = s.evict(ctx, cr) // it fails while etcd is away; try again at the next tick
			}
		}
	}
}

// evict drops a range from the cache. The ranges nested in it, whose watches it had
// replaced, are watched by themselves again.
func (s *Store) evict(ctx context.Context, cr *cachedRange) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return s.reflector.Narrow(ctx, cr.Range, func() []reflector.Range {
		inner := s.nested(cr)
		s.removeRange(cr)
		return inner
	})
}

// nested returns the widest of the cached ranges within another.
func (s *Store) nested(cr *cachedRange) []reflector.Range {
	var inner []reflector.Range
	for _, other := range s.state.Load().ranges {
		if other.Range != cr.Range && cr.Covers(other.Range) {
			inner = append(inner, other.Range)
		}
	}
	return slices.DeleteFunc(slices.Clone(inner), func(r reflector.Range) bool {
		return slices.ContainsFunc(inner, func(wider reflector.Range) bool { return wider != r && wider.Covers(r) })
	})
}

// touch records a read.
func (cr *cachedRange) touch() { cr.used.Store(time.Now().UnixNano()) }
