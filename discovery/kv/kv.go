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
	callTime  = 5 * time.Second // for one call of etcd
	largeTime = time.Minute     // before what was too large to be copied is tried again
	itemCost  = 200             // bytes that an item takes beside its key and value
	degree    = 64              // of the tree
)

// Store reads and writes the keys of one namespace. See the package's documentation. Its
// methods may be called by many goroutines at once.
type Store struct {
	client  *clientv3.Client
	prefix  string
	options Options
	follow  *reflector.Reflector

	pulse     heartbeat.Heartbeat
	asked     chan struct{} // closed at the first read: nothing is watched before
	firstRead sync.Once
	state     atomic.Pointer[state]

	mu      sync.Mutex
	joining map[reflector.Range]chan struct{} // closed when the copy is there, or is not to be had
	large   map[reflector.Range]time.Time     // too large to be copied, until then
	changed chan struct{}                     // closed at the next change
	events  eventLog
}

// state is what readers load. It is immutable but for the use of its copies.
type state struct {
	items     *btree.BTreeG[Item] // by key, as in etcd
	copies    []*copied
	size      int64 // bytes, about
	confirmed time.Time
	epoch     string
}

// copied is a range of which the store has everything.
type copied struct {
	reflector.Range
	revisions
	used atomic.Int64 // when it was last read, in Unix nanoseconds
}

// revisions are etcd's that say how far a copy is.
type revisions struct {
	since   int64 // of the list that it began with
	told    int64 // up to which it has everything; below since: it is not complete yet
	changed int64 // of its last change
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
		asked: make(chan struct{}), changed: make(chan struct{}),
		joining: map[reflector.Range]chan struct{}{}, large: map[reflector.Range]time.Time{},
	}
	s.state.Store(&state{items: btree.NewG(degree, func(a, b Item) bool { return a.Key < b.Key })})
	s.follow = reflector.New(client, mirror{s}, reflector.Options{Epoch: keys.Epoch(), MakeEpoch: true, ProgressInterval: o.ProgressInterval, Heartbeat: &s.pulse, Logger: o.Logger, Metrics: metrics})
	return s, nil
}

// Heartbeat shows whether Run is stuck.
func (s *Store) Heartbeat() *heartbeat.Heartbeat { return &s.pulse }

// Run keeps what is read copied until ctx ends, and returns nil then. It asks nothing of
// etcd before the first read.
func (s *Store) Run(ctx context.Context) error {
	select {
	case <-s.asked:
	case <-ctx.Done():
		return nil
	}
	var group errgroup.Group
	group.Go(func() error { return s.follow.Run(ctx) })
	group.Go(func() error { return s.sweep(ctx) })
	return group.Wait()
}

// sweep lets go of copies that nobody reads.
func (s *Store) sweep(ctx context.Context) error {
	look := time.NewTicker(s.options.IdleTimeout / 10)
	defer look.Stop()
	for {
		select {
		case <-look.C:
		case <-ctx.Done():
			return nil
		}
		for _, c := range s.state.Load().copies {
			if time.Since(time.Unix(0, c.used.Load())) > s.options.IdleTimeout {
				_ = s.drop(ctx, c) // else at the next look: etcd is away
			}
		}
	}
}

// drop ends a copy. The copies within it, which it has had watched, are watched again.
func (s *Store) drop(ctx context.Context, c *copied) error {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	return s.follow.Narrow(ctx, c.Range, func() []reflector.Range {
		inner := s.within(c)
		s.uncopy(c)
		return inner
	})
}

// within returns the widest of the copies within another.
func (s *Store) within(c *copied) []reflector.Range {
	var inner []reflector.Range
	for _, other := range s.state.Load().copies {
		if other.Range != c.Range && covers(c.Range, other.Range) {
			inner = append(inner, other.Range)
		}
	}
	return slices.DeleteFunc(slices.Clone(inner), func(r reflector.Range) bool {
		return slices.ContainsFunc(inner, func(wider reflector.Range) bool { return wider != r && covers(wider, r) })
	})
}

// touch notes that a copy was read.
func (c *copied) touch() { c.used.Store(time.Now().UnixNano()) }
