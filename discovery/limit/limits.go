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
	idleTime    = 10 * time.Minute // an unused limit is watched no more
	missingTTL  = time.Second      // a limit that is not there is not asked for again
	maxMissing  = 1024             // of these
	readTimeout = 5 * time.Second  // for etcd to say what a limit is
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
	client     *clientv3.Client
	keys       discovery.Keys
	options    Options
	metrics    *metrics
	runID      string // of this start
	reflector  *reflector.Reflector
	heartbeat  heartbeat.Heartbeat
	wake       chan struct{}                         // size one: there are other buyers
	purchasers atomic.Pointer[map[string]*purchaser] // copied when one comes or goes

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
	l := &Limits{client: client, keys: keys, options: o, metrics: collectors, runID: strings.ToLower(rand.Text()[:13]), wake: make(chan struct{}, 1), missing: map[string]time.Duration{}}
	s := &store{limits: l}
	l.reflector = reflector.New(client, s, reflector.Options{Epoch: keys.Epoch(), MakeEpoch: true, ProgressInterval: o.ProgressInterval, Heartbeat: &l.heartbeat, OnHealth: s.onHealth, Logger: o.Logger, Metrics: collectors.reflector})
	l.purchasers.Store(&map[string]*purchaser{})
	return l, nil
}

// Heartbeat shows whether Run is stuck.
func (l *Limits) Heartbeat() *heartbeat.Heartbeat { return &l.heartbeat }

// Run watches and buys of the limits that are used, until ctx ends. It returns nil then.
func (l *Limits) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	follow := sync.OnceFunc(func() { group.Go(func() error { return l.reflector.Run(ctx) }) })
	running := map[*purchaser]context.CancelFunc{}
	for tick := time.NewTicker(idleTime / 10); ; {
		purchasers := *l.purchasers.Load()
		for _, p := range purchasers {
			follow() // an agent that uses no limit costs etcd nothing
			if running[p] == nil {
				buying, stop := context.WithCancel(ctx)
				running[p] = stop
				group.Go(func() error { return p.run(buying) })
			}
			if p.beginEviction(lease.Uptime() - idleTime) {
				group.Go(func() error { return l.evict(ctx, p) })
			}
		}
		maps.DeleteFunc(running, func(p *purchaser, stop context.CancelFunc) bool {
			gone := purchasers[p.name] != p
			if gone {
				stop()
			}
			return gone
		})
		l.metrics.limits.Set(float64(len(purchasers)))
		select {
		case <-ctx.Done():
			tick.Stop()
			return group.Wait()
		case <-l.wake:
		case <-tick.C:
		}
	}
}

// beginEviction reports once that a buyer is to be dropped: it was not used since a moment, or
// could not find out what its limit is.
func (p *purchaser) beginEviction(since time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.evicted || !p.loadFailed && (!p.loaded || p.lastUsed >= since) {
		return false
	}
	p.evicted = true
	return true
}

// evict ends the watch of a buyer, and then forgets it: whoever asks for the limit next
// has it watched anew. It waits while etcd is away.
func (l *Limits) evict(ctx context.Context, p *purchaser) error {
	err := l.reflector.Remove(ctx, singleKey(p.policyKey()), func() { p.update(p.account.markStale) })
	if ctx.Err() == nil {
		err = errors.Join(err, l.reflector.Remove(ctx, singleKey(p.ledgerKey()), func() { l.remove(p) }))
	}
	if err != nil && ctx.Err() == nil {
		l.options.Logger.Debug("the watch of a limit ended before it was to", "limit", p.name, "error", err)
	}
	return nil
}

func (l *Limits) remove(p *purchaser) {
	l.editPurchasers(func(purchasers map[string]*purchaser) { delete(purchasers, p.name) })
}

// editPurchasers makes another map of buyers, which Run starts and stops.
func (l *Limits) editPurchasers(edit func(map[string]*purchaser)) {
	l.mu.Lock()
	next := maps.Clone(*l.purchasers.Load())
	edit(next)
	l.purchasers.Store(&next)
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
		undo = append(undo, func() { l.refund(t, until) })
	}
	return decisions, nil
}

// Known reports whether there is a limit. It is then watched, as after a take.
func (l *Limits) Known(ctx context.Context, name string) (bool, error) {
	p, err := l.purchaser(ctx, name)
	if errors.Is(err, discovery.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lastUsed = lease.Uptime()
	return p.account.policyRevision != 0, nil
}

func (l *Limits) refund(t discovery.Take, until time.Duration) {
	if p := (*l.purchasers.Load())[t.Limit]; p != nil {
		p.refund(t.N, until)
	}
}

func (l *Limits) take(ctx context.Context, name string, n int64) (discovery.Decision, time.Duration, error) {
	if n < 1 {
		return discovery.Decision{}, 0, discovery.Errorf(discovery.ErrInvalid, "limit %s: %d tokens cannot be taken; take 1 or more", name, n)
	}
	p, err := l.purchaser(ctx, name)
	if err != nil {
		return discovery.Decision{}, 0, err
	}
	return p.take(ctx, n)
}

// purchaser returns who buys of a limit, once that was read.
func (l *Limits) purchaser(ctx context.Context, name string) (*purchaser, error) {
	p := (*l.purchasers.Load())[name]
	if p == nil {
		var err error
		if p, err = l.subscribe(ctx, name); err != nil {
			return nil, err
		}
	}
	select {
	case <-p.resolved:
		if p.unusable != nil {
			return nil, p.unusable
		}
		return p, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("read limit %s: %w", name, context.Cause(ctx))
	}
}
