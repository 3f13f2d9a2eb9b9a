package kv

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"disc/discovery"
	"disc/discovery/heartbeat"
	"disc/discovery/life"
	"disc/discovery/quota"
	"disc/discovery/reflector"
	"disc/discovery/retry"
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
	// MaxCachedBytes bounds the size of the cache, in bytes; default 256 MiB. The keys of a
	// range that does not fit are read from etcd each time. It bounds a list that is read from
	// etcd, too, and all that are read at the same time.
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
	itemOverhead = 200             // estimated bytes of an item beside its key and value
	btreeDegree  = 64
)

// Store reads and writes the keys of one namespace. See the package's documentation. Its
// methods may be called by many goroutines at once.
type Store struct {
	client    *clientv3.Client
	prefix    string
	options   Options
	bounds    bounds
	reflector *reflector.Reflector
	budget    *budget

	heartbeat heartbeat.Heartbeat
	activated chan struct{} // closed at the first read; nothing is watched before
	activate  sync.Once
	state     atomic.Pointer[state]
	answered  atomic.Pointer[etcdAnswer] // the newest of etcd itself; nil: none
	overfull  retry.Signal               // the cache may be larger than MaxCachedBytes
	lists     sharedBytes                // bytes of the lists that are read from etcd

	mu        sync.Mutex
	loading   map[reflector.Range]chan struct{} // closed when the attempt to cache the range ends
	loaded    int64                             // bytes that these attempts have read
	refused   map[reflector.Range]*refusal      // ranges that did not fit
	published chan struct{}                     // closed at the next state
	changed   chan struct{}                     // closed at the next change
	eventLog  eventLog
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
		client: client, prefix: keys.KV(), options: o, bounds: defaultBounds,
		activated: make(chan struct{}), published: make(chan struct{}), changed: make(chan struct{}), overfull: retry.NewSignal(),
		lists:   sharedBytes{most: o.MaxCachedBytes},
		loading: map[reflector.Range]chan struct{}{}, refused: map[reflector.Range]*refusal{},
		eventLog: newEventLog(),
	}
	s.state.Store(newState(len(s.prefix)))
	s.budget = newBudget(client, keys, s.prefixRange(""), o)
	s.reflector = reflector.New(client, reflectorStore{s}, reflector.Options{Epoch: keys.Epoch(), Life: o.Life, Forbidden: s.dropForbidden,
		ProgressInterval: o.ProgressInterval, Heartbeat: &s.heartbeat, Logger: o.Logger, Metrics: metrics})
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
	group.Go(func() error { return s.maintain(ctx) })
	return group.Wait()
}
