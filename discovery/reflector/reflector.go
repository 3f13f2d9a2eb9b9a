package reflector

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery/heartbeat"
	"disc/discovery/retry"
)

// DefaultProgressInterval is how often etcd is asked whether the watch brings everything.
const DefaultProgressInterval = 2 * time.Second

// Options are a follower's settings.
type Options struct {
	// Ranges are followed from the start. They must not overlap.
	Ranges []Range
	// Epoch is the key of the random id that tells one life of an etcd from the next.
	// It is read before a resumed watch is trusted.
	Epoch string
	// MakeEpoch has the key written where there is none; for agents.
	MakeEpoch bool
	// Resume is up to where the mirror came in an earlier run, if it was kept. Such a
	// mirror is replaced, and told whether that etcd is no more.
	Resume Checkpoint
	// ProgressInterval is asked how long etcd may go unasked; default [DefaultProgressInterval].
	ProgressInterval func() time.Duration
	// OnHealth is told why the mirror is not being confirmed; nil: it is again.
	OnHealth  func(error)
	Heartbeat *heartbeat.Heartbeat // shows whether Run is stuck; default: to nobody
	Logger    *slog.Logger         // default: discard
	Metrics   *Metrics             // default: none
}

// Checkpoint is a place in the life of an etcd.
type Checkpoint struct {
	Epoch    string
	Revision int64
}

// Reflector keeps a mirror equal to etcd. See the package's documentation.
type Reflector struct {
	client    *clientv3.Client
	store     Store
	options   Options
	log       *slog.Logger
	calls     chan func()
	syncCount atomic.Int64                // how often the mirror was made equal to etcd
	reader    atomic.Pointer[clientv3.KV] // of the member that is followed; nil: none is now

	// What follows belongs to Run.
	endpointConn
	identity      clusterIdentity // of etcd, up to the newest revision that was told
	epochRevision int64           // revision at which the epoch was read
	ranges        []*watchedRange
	stream        *watchStream
	watches       map[int64]*watchedRange // on the present stream, by their ids
	lastID        int64                   // of them
	confirmed     time.Time               // when etcd last was known to have nothing newer
	freshness     freshness               // the newest
	answered      bool                    // etcd has said something on the stream since then
	laggingSince  time.Time               // since when the watched member is behind the mirror; zero: it is not

	mu     sync.Mutex
	health Health
}

// Health is how a follower is.
type Health struct {
	Synced  bool  // the mirror was equal to etcd once
	Resyncs int   // comparisons with etcd after the first list
	Err     error // why the mirror is not being confirmed; nil: it is
}

// New returns a follower. It does nothing until Run.
func New(client *clientv3.Client, mirror Store, o Options) *Reflector {
	if o.ProgressInterval == nil {
		o.ProgressInterval = func() time.Duration { return DefaultProgressInterval }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	f := &Reflector{client: client, store: mirror, options: o, log: o.Logger, calls: make(chan func())}
	f.options.Heartbeat = cmp.Or(o.Heartbeat, new(heartbeat.Heartbeat))
	f.identity = clusterIdentity{Header: Header{Revision: o.Resume.Revision}, epoch: o.Resume.Epoch}
	for _, r := range o.Ranges {
		f.ranges = append(f.ranges, &watchedRange{Range: r})
	}
	return f
}

// Health returns how the follower is.
func (f *Reflector) Health() Health {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.health
}

// Do has a function called between two calls of the mirror's methods, while that is in
// step with etcd, and returns when it was: for what a mirror does by itself but must not
// do while etcd is away. It fails when ctx ends before.
func (f *Reflector) Do(ctx context.Context, what func()) error {
	done := make(chan struct{})
	select {
	case f.calls <- func() { defer close(done); what() }:
		<-done
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Run keeps the mirror equal to etcd until ctx ends, and returns nil then.
func (f *Reflector) Run(ctx context.Context) error {
	var retry retry.Backoff
	for ctx.Err() == nil {
		f.options.Heartbeat.Begin()
		err := f.syncAndWatch(ctx, retry.Reset)
		f.reader.Store(nil)
		f.disconnect()
		f.options.Heartbeat.End()
		if ctx.Err() != nil {
			return nil
		}
		f.setError(err)
		f.options.Metrics.failed()
		if retry.Failed() {
			f.log.Warn("lost the watch on etcd; comparing and watching again", "failures", retry.Failures(), "error", err)
		}
		if retry.Failures() >= max(2, len(f.client.Endpoints())) { // once around at once
			if retry.Wait(ctx) != nil {
				return nil
			}
		}
	}
	return nil
}

func (f *Reflector) setError(err error) {
	f.mu.Lock()
	f.health.Err = err
	f.mu.Unlock()
	if f.options.OnHealth != nil {
		f.options.OnHealth(err)
	}
}
