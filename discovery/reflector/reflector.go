package reflector

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery/etcd"
	"disc/discovery/heartbeat"
	"disc/discovery/life"
	"disc/discovery/retry"
)

// DefaultProgressInterval is how often the reflector confirms that the watch is current.
const DefaultProgressInterval = 2 * time.Second

// Options are a reflector's settings.
type Options struct {
	// Ranges are watched from the start. They must not overlap.
	Ranges []Range
	// Epoch is the key of a random id that changes when etcd starts over. The reflector
	// reads it before it trusts a resumed watch.
	Epoch string
	// Life begins a new life of etcd, with an epoch, where there is none or etcd has started over;
	// for agents. nil: the epoch is only read.
	Life *life.Life
	// Resume is the position that the store reached in an earlier run, if it was saved.
	// The reflector replaces such a store, and reports whether etcd started over since.
	Resume Checkpoint
	// ProgressInterval returns the time until the next confirmation; default
	// [DefaultProgressInterval].
	ProgressInterval func() time.Duration
	// ProofInterval returns the least time, behind etcd's grpc-proxy, between two reads of ranges with
	// so many keys in all, each of which etcd looks at; default: 1 s for 1000 keys, at most 10 s.
	ProofInterval func(keys int64) time.Duration
	// Forbidden is called, serialized with the store's methods, when etcd forbids to list a range.
	// If it returns true, it has dropped the range's keys from the store, and the reflector
	// keeps the others current without that range; see [Reflector.Add] to have it again.
	// Otherwise, and by default, no range is current until etcd permits all.
	Forbidden func(rng Range, err error) bool
	// OnHealth is called with the reason why the store is not confirmed; nil: it is again.
	OnHealth  func(error)
	Heartbeat *heartbeat.Heartbeat // shows whether Run is stuck; default: none
	Logger    *slog.Logger         // default: discard
	Metrics   *Metrics             // default: none
}

// Checkpoint is a revision of the etcd that an epoch identifies.
type Checkpoint struct {
	Epoch    string
	Revision int64
}

// Reflector keeps a [Store] equal to etcd. See the package's documentation.
type Reflector struct {
	client         *clientv3.Client
	store          Store
	options        Options
	log            *slog.Logger
	calls          chan func()
	progressWanted retry.Signal
	syncCount      atomic.Int64                // how often the store was made equal to etcd
	reader         atomic.Pointer[clientv3.KV] // reads from the watched member; nil: none is watched now

	// Only Run and the functions given to Do use the fields below.
	endpointConn
	identity         life.Identity // of etcd, with the newest revision that was delivered
	epochRevision    int64         // revision at which the epoch was read
	ranges           []*watchedRange
	stream           *etcd.WatchStream
	watches          map[int64]*watchedRange // on the current stream, by watch id
	lastID           int64                   // last watch id given out
	confirmed        time.Time               // when etcd last was known to have nothing newer
	lastConfirmation confirmation            // the latest
	answered         bool                    // the stream has had a response since then
	laggingSince     time.Time               // since when the watched member is behind the store; zero: it is not
	progress         streamProgress          // of the current stream
	proofs           []rangeProof            // behind a proxy: what the watches are still to deliver

	compareAt time.Time      // behind a proxy: when the keys of all ranges are next compared with etcd
	spellings map[string]int // by endpoint: how the ranges are requested; see Range.spelled

	mu     sync.Mutex
	health Health
}

// Health is a reflector's health.
type Health struct {
	Synced  bool  // the store was equal to etcd once
	Resyncs int   // comparisons with etcd after the first list
	Err     error // why the store is not confirmed; nil: it is

	// Endpoint and Member are where etcd is watched, and the id of who answers there; "" and 0: nowhere at
	// present, or, of the id, a grpc-proxy does not tell it.
	Endpoint string
	Member   uint64
}

// New returns a reflector. It does nothing until Run.
func New(client *clientv3.Client, store Store, o Options) *Reflector {
	if o.ProgressInterval == nil {
		o.ProgressInterval = func() time.Duration { return DefaultProgressInterval }
	}
	if o.ProofInterval == nil {
		o.ProofInterval = defaultProofInterval
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	r := &Reflector{client: client, store: store, options: o, log: o.Logger, calls: make(chan func()), spellings: map[string]int{}, progressWanted: retry.NewSignal()}
	r.options.Heartbeat = cmp.Or(o.Heartbeat, new(heartbeat.Heartbeat))
	r.identity = life.Identity{Header: life.Header{Revision: o.Resume.Revision}, Epoch: o.Resume.Epoch}
	for _, rng := range o.Ranges {
		r.ranges = append(r.ranges, &watchedRange{Range: rng})
	}
	return r
}

// Health returns the reflector's current health.
func (r *Reflector) Health() Health {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.health
}

// Do runs f serialized with the store's methods, only while the watch is healthy, and
// returns when f has returned. It returns the cause of ctx's end if that comes first.
func (r *Reflector) Do(ctx context.Context, f func()) error {
	done := make(chan struct{})
	select {
	case r.calls <- func() { defer close(done); f() }:
		<-done
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Run keeps the store equal to etcd until ctx ends, then returns nil.
func (r *Reflector) Run(ctx context.Context) error {
	var backoff retry.Backoff
	for ctx.Err() == nil {
		r.options.Heartbeat.Begin()
		err := r.syncAndWatch(ctx, backoff.Reset)
		r.reader.Store(nil)
		r.setWatched("", 0)
		r.disconnect()
		r.options.Heartbeat.End()
		if ctx.Err() != nil {
			return nil
		}
		r.setError(err)
		r.options.Metrics.failed()
		if backoff.Failed() {
			r.log.Warn("lost the watch on etcd; comparing and watching again", "failures", backoff.Failures(), "error", err)
		}
		if backoff.Failures() >= max(2, len(r.client.Endpoints())) { // try each endpoint once without waiting
			if backoff.Wait(ctx) != nil {
				return nil
			}
		}
	}
	return nil
}

// setWatched notes where etcd is watched, and who answers there.
func (r *Reflector) setWatched(endpoint string, member uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.health.Endpoint, r.health.Member = endpoint, member
}

func (r *Reflector) setError(err error) {
	r.mu.Lock()
	r.health.Err = err
	r.mu.Unlock()
	if r.options.OnHealth != nil {
		r.options.OnHealth(err)
	}
}
