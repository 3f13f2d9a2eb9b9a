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
	"disc/discovery/reflector"
)

// Item is a key and its value.
type Item struct {
	Key      string
	Value    []byte           // not nil
	Revision int64            // etcd's, of the last write
	Created  int64            // etcd's, of the first write since it was not there
	Lease    clientv3.LeaseID // 0: none
}

// Options are a store's optional settings.
type Options struct {
	// StaleAfter is how old a copy may be before its reads are marked; default 15 s.
	StaleAfter time.Duration
	// IdleTimeout is for how long a directory is copied that nobody reads; default 10 min.
	IdleTimeout time.Duration
	// MaxCachedBytes bounds what is copied, in bytes; default 256 MiB. What is beyond is read
	// from etcd each time.
	MaxCachedBytes int64
	// ProgressInterval is asked how long etcd may go unasked; default [follow.DefaultQuiet].
	ProgressInterval func() time.Duration
	Logger           *slog.Logger          // default: discard
	Registerer       prometheus.Registerer // collects the metrics; nil: nobody does
}

// The bounds of a store.
const (
	callTimeout  = 5 * time.Second // for one call of etcd
	tooLargeTTL  = time.Minute     // before what was too large to be copied is tried again
	itemOverhead = 200             // bytes that an item takes beside its key and value
	btreeDegree  = 64              // of the tree
)

// Store reads and writes the keys of one namespace. See the package's documentation. Its
// methods may be called by many goroutines at once.
type Store struct {
	client    *clientv3.Client
	prefix    string
	options   Options
	reflector *reflector.Reflector

	heartbeat heartbeat.Heartbeat
	activated chan struct{} // closed at the first read: nothing is watched before
	activate  sync.Once
	state     atomic.Pointer[state]

	mu       sync.Mutex
	loading  map[reflector.Range]chan struct{} // closed when the copy is there, or is not to be had
	tooLarge map[reflector.Range]time.Time     // too large to be copied, until then
	changed  chan struct{}                     // closed at the next change
	history  history
}

// state is what readers load. It is immutable but for the use of its copies.
type state struct {
	items     *btree.BTreeG[Item] // by key, as in etcd
	ranges    []*cachedRange
	size      int64 // bytes, about
	confirmed time.Time
	epoch     string
}

// cachedRange is a range of which the store has everything.
type cachedRange struct {
	reflector.Range
	revisions
	used atomic.Int64 // when it was last read, in Unix nanoseconds
}

// revisions are etcd's that say how far a copy is.
type revisions struct {
	listedAt      int64 // of the list that it began with
	deliveredUpTo int64 // up to which it has everything; below since: it is not complete yet
	lastChange    int64 // of its last change
}

// New returns a store. Reads wait for Run. The error is that of metrics that cannot be
// registered.
func New(client *clientv3.Client, keys discovery.Keys, o Options) (*Store, error) {
	o.StaleAfter = cmp.Or(o.StaleAfter, 15*time.Second)
	o.IdleTimeout = cmp.Or(o.IdleTimeout, 10*time.Minute)
	o.MaxCachedBytes = cmp.Or(o.MaxCachedBytes, 256<<20)
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
	s.reflector = reflector.New(client, reflectorStore{s}, reflector.Options{Epoch: keys.Epoch(), MakeEpoch: true, ProgressInterval: o.ProgressInterval, Heartbeat: &s.heartbeat, Logger: o.Logger, Metrics: metrics})
	return s, nil
}

// Heartbeat shows whether Run is stuck.
func (s *Store) Heartbeat() *heartbeat.Heartbeat { return &s.heartbeat }

// Run keeps what is read copied until ctx ends, and returns nil then. It asks nothing of
// etcd before the first read.
func (s *Store) Run(ctx context.Context) error {
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

// evictIdle lets go of copies that nobody reads.
func (s *Store) evictIdle(ctx context.Context) error {
	look := time.NewTicker(s.options.IdleTimeout / 10)
	defer look.Stop()
	for {
		select {
		case <-look.C:
		case <-ctx.Done():
			return nil
		}
		for _, c := range s.state.Load().ranges {
			if time.Since(time.Unix(0, c.used.Load())) > s.options.IdleTimeout {
				_ = s.evict(ctx, c) // else at the next look: etcd is away
			}
		}
	}
}

// evict ends a copy. The copies within it, which it has had watched, are watched again.
func (s *Store) evict(ctx context.Context, c *cachedRange) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return s.reflector.Narrow(ctx, c.Range, func() []reflector.Range {
		inner := s.nested(c)
		s.removeRange(c)
		return inner
	})
}

// nested returns the widest of the copies within another.
func (s *Store) nested(c *cachedRange) []reflector.Range {
	var inner []reflector.Range
	for _, other := range s.state.Load().ranges {
		if other.Range != c.Range && covers(c.Range, other.Range) {
			inner = append(inner, other.Range)
		}
	}
	return slices.DeleteFunc(slices.Clone(inner), func(r reflector.Range) bool {
		return slices.ContainsFunc(inner, func(wider reflector.Range) bool { return wider != r && covers(wider, r) })
	})
}

// touch notes that a copy was read.
func (c *cachedRange) touch() { c.used.Store(time.Now().UnixNano()) }
