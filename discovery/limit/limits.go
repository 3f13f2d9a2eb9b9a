package limit

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"disc/discovery"
	"disc/discovery/heartbeat"
	"disc/discovery/lease"
	"disc/discovery/reflector"
)

// The bounds of what is remembered.
const (
	idle        = 10 * time.Minute // an unused limit is watched no more
	missingTime = time.Second      // a limit that is not there is not asked for again
	maxMissing  = 1024             // of these
	askTime     = 5 * time.Second  // for etcd to say what a limit is
)

// Options are the optional parts of [Limits]. The zero value is useful.
type Options struct {
	ProgressInterval func() time.Duration  // how long etcd may go unasked; default: of [follow.Options]
	Logger           *slog.Logger          // default: discard
	Registerer       prometheus.Registerer // collects the metrics; nil: nobody does
}

// Limits are the rate limits of a namespace, as they are used here. Its methods may be
// called by many goroutines at once, while Run runs.
type Limits struct {
	client   *clientv3.Client
	keys     discovery.Keys
	options  Options
	metrics  *metrics
	id       string // of this start
	follower *reflector.Reflector
	pulse    heartbeat.Heartbeat
	wake     chan struct{}                     // size one: there are other buyers
	buyers   atomic.Pointer[map[string]*buyer] // copied when one comes or goes

	mu      sync.Mutex               // of what follows, and of changing buyers
	missing map[string]time.Duration // when a limit was found not to be there
}

// New returns the limits of a namespace. They do nothing until Run. The error is that of
// metrics that cannot be registered.
func New(client *clientv3.Client, keys discovery.Keys, o Options) (*Limits, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	collectors, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, err
	}
	l := &Limits{client: client, keys: keys, options: o, metrics: collectors, id: strings.ToLower(rand.Text()[:13]), wake: make(chan struct{}, 1), missing: map[string]time.Duration{}}
	m := &mirror{limits: l}
	l.follower = reflector.New(client, m, reflector.Options{Epoch: keys.Epoch(), MakeEpoch: true, ProgressInterval: o.ProgressInterval, Heartbeat: &l.pulse, OnHealth: m.trouble, Logger: o.Logger, Metrics: collectors.reflector})
	l.buyers.Store(&map[string]*buyer{})
	return l, nil
}

// Heartbeat shows whether Run is stuck.
func (l *Limits) Heartbeat() *heartbeat.Heartbeat { return &l.pulse }

// Run watches and buys of the limits that are used, until ctx ends. It returns nil then.
func (l *Limits) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	follow := sync.OnceFunc(func() { group.Go(func() error { return l.follower.Run(ctx) }) })
	running := map[*buyer]context.CancelFunc{}
	for tick := time.NewTicker(idle / 10); ; {
		buyers := *l.buyers.Load()
		for _, b := range buyers {
			follow() // an agent that uses no limit costs etcd nothing
			if running[b] == nil {
				buying, stop := context.WithCancel(ctx)
				running[b] = stop
				group.Go(func() error { return b.buy(buying) })
			}
			if b.over(lease.Uptime() - idle) {
				group.Go(func() error { return l.drop(ctx, b) })
			}
		}
		maps.DeleteFunc(running, func(b *buyer, stop context.CancelFunc) bool {
			gone := buyers[b.name] != b
			if gone {
				stop()
			}
			return gone
		})
		l.metrics.limits.Set(float64(len(buyers)))
		select {
		case <-ctx.Done():
			tick.Stop()
			return group.Wait()
		case <-l.wake:
		case <-tick.C:
		}
	}
}

// over reports once that a buyer is to be dropped: it was not used since a moment, or
// could not find out what its limit is.
func (b *buyer) over(since time.Duration) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.dropped || !b.failed && (!b.listed || b.used >= since) {
		return false
	}
	b.dropped = true
	return true
}

// drop ends the watch of a buyer, and then forgets it: whoever asks for the limit next
// has it watched anew. It waits while etcd is away.
func (l *Limits) drop(ctx context.Context, b *buyer) error {
	err := l.follower.Remove(ctx, only(b.policyKey()), func() { b.change(b.account.lose) })
	if ctx.Err() == nil {
		err = errors.Join(err, l.follower.Remove(ctx, only(b.ledgerKey()), func() { l.forget(b) }))
	}
	if err != nil && ctx.Err() == nil {
		l.options.Logger.Debug("the watch of a limit ended before it was to", "limit", b.name, "error", err)
	}
	return nil
}

func (l *Limits) forget(b *buyer) {
	l.change(func(buyers map[string]*buyer) { delete(buyers, b.name) })
}

// change makes another map of buyers, which Run starts and stops.
func (l *Limits) change(edit func(map[string]*buyer)) {
	l.mu.Lock()
	next := maps.Clone(*l.buyers.Load())
	edit(next)
	l.buyers.Store(&next)
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Take takes n tokens of a limit, at least 1, and says whether it got them. Most takes
// are decided at once, from what this agent has bought and knows; a take that the limit
// has room for and the agent has no token for waits until etcd has sold it one.
//
// It is an ErrInvalid for a name or number that cannot be, and for more than the limit
// ever has at once; ErrNotFound: there is no such limit; ErrUnavailable: etcd cannot say
// what the limit is.
func (l *Limits) Take(ctx context.Context, name string, n int64) (discovery.Decision, error) {
	d, _, err := l.take(ctx, name, n)
	if err == nil {
		l.metrics.count(d.Granted, d.Unavailable)
	}
	return d, err
}

// TakeAll takes of several limits, of all or of none, and returns a decision for each
// that was asked: up to the first that was denied, if one was.
func (l *Limits) TakeAll(ctx context.Context, takes []discovery.Take) ([]discovery.Decision, error) {
	var decisions []discovery.Decision
	var undo []func()
	for _, t := range takes {
		d, until, err := l.take(ctx, t.Limit, t.N)
		if err == nil {
			l.metrics.count(d.Granted, d.Unavailable)
			decisions = append(decisions, d)
		}
		if err != nil || !d.Granted {
			for _, f := range undo {
				f()
			}
			return decisions, err
		}
		undo = append(undo, func() { l.giveBack(t, until) })
	}
	return decisions, nil
}

// Known reports whether there is a limit. It is then watched, as after a take.
func (l *Limits) Known(ctx context.Context, name string) (bool, error) {
	b, err := l.buyer(ctx, name)
	if errors.Is(err, discovery.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used = lease.Uptime()
	return b.account.policy != 0, nil
}

func (l *Limits) giveBack(t discovery.Take, until time.Duration) {
	if b := (*l.buyers.Load())[t.Limit]; b != nil {
		b.giveBack(t.N, until)
	}
}

func (l *Limits) take(ctx context.Context, name string, n int64) (discovery.Decision, time.Duration, error) {
	if n < 1 {
		return discovery.Decision{}, 0, discovery.Errorf(discovery.ErrInvalid, "limit %s: %d tokens cannot be taken; take 1 or more", name, n)
	}
	b, err := l.buyer(ctx, name)
	if err != nil {
		return discovery.Decision{}, 0, err
	}
	return b.take(ctx, n)
}

// buyer returns who buys of a limit, once that was read.
func (l *Limits) buyer(ctx context.Context, name string) (*buyer, error) {
	b := (*l.buyers.Load())[name]
	if b == nil {
		var err error
		if b, err = l.find(ctx, name); err != nil {
			return nil, err
		}
	}
	select {
	case <-b.found:
		if b.missing != nil {
			return nil, b.missing
		}
		return b, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("read limit %s: %w", name, context.Cause(ctx))
	}
}
