package limit

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"maps"
	"runtime"
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
	"disc/discovery/life"
	"disc/discovery/quota"
	"disc/discovery/reflector"
	"disc/discovery/retry"
)

const (
	idleTime      = 10 * time.Minute // after which the ledger of an unused limit is not watched any more
	maxRemembered = 4096             // accounts of unused limits that are kept
	missingTTL    = time.Second      // how long a limit counts as missing before etcd is asked again
	maxMissing    = 1024             // missing limits that are remembered
	readTimeout   = 5 * time.Second  // for etcd to answer a call about a limit
)

// Options are the optional parts of [Limits]. The zero value is useful.
type Options struct {
	ProgressInterval func() time.Duration  // default: see [reflector.Options]
	Life             *life.Life            // begins a new life of etcd where it has started over; for agents. nil: none
	Space            *quota.Space          // refuses policies and purchases while etcd is nearly full; nil: nothing does
	Logger           *slog.Logger          // default: discard
	Registerer       prometheus.Registerer // of the metrics; default: none
}

// Limits enforces the rate limits of a namespace for one agent. Its methods may be called
// by many goroutines at once, while Run runs.
type Limits struct {
	client     *clientv3.Client
	keys       discovery.Keys
	options    Options
	metrics    *metrics
	runID      string // random for each start of the agent
	reflector  *reflector.Reflector
	store      *store
	heartbeat  heartbeat.Heartbeat
	activated  chan struct{} // closed at the first use; nothing is watched before
	activate   func()
	listed     chan struct{}                         // closed when the policies were listed
	wake       retry.Signal                          // purchasers has changed
	purchasers atomic.Pointer[map[string]*purchaser] // by name of the limit; copied on write

	mu         sync.Mutex         // guards the fields below, and writes of purchasers
	policies   map[string]Policy  // of the namespace, by name
	missing    map[string]missing // limits that are not there, by name
	remembered map[string]account // of limits that were not used for long, by name
}

// New returns the limits of a namespace, which do nothing until Run. It fails if the
// metrics cannot be registered.
func New(client *clientv3.Client, keys discovery.Keys, o Options) (*Limits, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.ProgressInterval == nil {
		o.ProgressInterval = func() time.Duration { return reflector.DefaultProgressInterval }
	}
	collectors, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, err
	}
	l := &Limits{
		client: client, keys: keys, options: o, metrics: collectors, runID: strings.ToLower(rand.Text()[:13]),
		activated: make(chan struct{}), listed: make(chan struct{}), wake: retry.NewSignal(),
		missing: map[string]missing{}, remembered: map[string]account{},
	}
	l.activate = sync.OnceFunc(func() { close(l.activated) })
	l.store = &store{limits: l, markListed: sync.OnceFunc(func() { close(l.listed) })}
	l.reflector = reflector.New(client, l.store, reflector.Options{
		Ranges: []reflector.Range{reflector.Prefix(keys.Limits())},
		Epoch:  keys.Epoch(), Life: o.Life, ProgressInterval: o.ProgressInterval,
		Heartbeat: &l.heartbeat, OnHealth: l.store.onHealth, Logger: o.Logger, Metrics: collectors.reflector,
	})
	l.purchasers.Store(&map[string]*purchaser{})
	return l, nil
}

// Heartbeat shows whether Run is stuck.
func (l *Limits) Heartbeat() *heartbeat.Heartbeat { return &l.heartbeat }

// Run watches the policies, from the first use of a limit on, and buys tokens of the limits
// in use, until ctx ends. Then it returns nil.
func (l *Limits) Run(ctx context.Context) error {
	select {
	case <-l.activated:
	case <-ctx.Done():
		return nil
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return l.reflector.Run(ctx) })
	running := map[*purchaser]context.CancelFunc{}
	for tick := time.NewTicker(idleTime / 10); ; {
		purchasers := *l.purchasers.Load()
		for _, p := range purchasers {
			if running[p] == nil {
				runCtx, stop := context.WithCancel(ctx)
				running[p] = stop
				group.Go(func() error { return p.run(runCtx) })
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

// beginEviction reports, once, that a purchaser is to be evicted: it was not used since a
// time.
func (p *purchaser) beginEviction(since time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.evicted || !p.loaded || p.lastUsed >= since {
		return false
	}
	p.evicted = true
	return true
}

// evict ends the watch of a purchaser's ledger and then removes the purchaser; the next take
// of the limit goes on from what its account knows. It waits while etcd is away.
func (l *Limits) evict(ctx context.Context, p *purchaser) error {
	err := l.reflector.Remove(ctx, singleKey(p.ledgerKey()), func() { l.remove(p) })
	if err != nil && ctx.Err() == nil {
		l.options.Logger.Debug("cannot end the watch of a rate limit that is not used any more", "limit", p.name, "error", err)
	}
	return nil
}

// remove removes a purchaser, which Run then stops, and remembers its account.
func (l *Limits) remove(p *purchaser) {
	l.editPurchasers(func(purchasers map[string]*purchaser) {
		delete(purchasers, p.name)
		for name := range l.remembered {
			if len(l.remembered) < maxRemembered {
				break
			}
			delete(l.remembered, name)
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		l.remembered[p.name] = p.account.remembered()
		p.removed = true
		p.account.markStale(lease.Uptime(), errNotRead)
	})
}

// editPurchasers replaces the map of purchasers by an edited copy, and wakes Run, which
// starts and stops them.
func (l *Limits) editPurchasers(edit func(map[string]*purchaser)) {
	l.mu.Lock()
	next := maps.Clone(*l.purchasers.Load())
	edit(next)
	l.purchasers.Store(&next)
	l.mu.Unlock()
	l.wake.Notify()
}

// Take takes n tokens of a limit, at least 1, and decides whether they are granted. It
// decides most takes at once, from the tokens that this agent has bought and the sales
// that it has seen. A take that the limit has room for, while the agent lacks the tokens,
// waits up to a second for a purchase.
//
// The error is a [discovery.ErrInvalid] for an invalid name, for n < 1 and for more tokens
// than the limit ever has at once; [discovery.ErrNotFound] if there is no such limit;
// [discovery.ErrUnavailable] if the limit cannot be read in etcd.
func (l *Limits) Take(ctx context.Context, name string, n int64) (discovery.Decision, error) {
	d, _, err := l.take(ctx, name, n)
	if err == nil {
		l.metrics.countTake(d.Granted, d.Unavailable)
	}
	return d, err
}

// TakeAll takes from several limits, from all or from none. It returns the decisions in
// order, up to the first denial if there is one; then it gives back the tokens of the
// others. Its errors are those of [Limits.Take].
func (l *Limits) TakeAll(ctx context.Context, takes []discovery.Take) ([]discovery.Decision, error) {
	var decisions []discovery.Decision
	var undo []func()
	for _, t := range takes {
		d, sentAt, err := l.take(ctx, t.Limit, t.N)
		if err == nil {
			l.metrics.countTake(d.Granted, d.Unavailable)
			decisions = append(decisions, d)
		}
		if err != nil || !d.Granted {
			for _, f := range undo {
				f()
			}
			return decisions, err
		}
		undo = append(undo, func() { l.refund(t, sentAt) })
	}
	return decisions, nil
}

// Exists reports whether a limit exists, as far as this agent knows.
func (l *Limits) Exists(ctx context.Context, name string) (bool, error) {
	if (*l.purchasers.Load())[name] == nil {
		if err := l.awaitPolicies(ctx, name); err != nil {
			return false, err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.policies[name]
	return ok, nil
}

// refund gives back the tokens of a take.
func (l *Limits) refund(t discovery.Take, sentAt time.Duration) {
	if p := (*l.purchasers.Load())[t.Limit]; p != nil {
		p.refund(t.N, sentAt)
	}
}

// take is [Limits.Take] without its metrics. It also returns when the purchase of the oldest
// of its tokens was sent.
func (l *Limits) take(ctx context.Context, name string, n int64) (discovery.Decision, time.Duration, error) {
	if n < 1 {
		return discovery.Decision{}, 0, discovery.Errorf(discovery.ErrInvalid, "limit %s: %d tokens cannot be taken; take 1 or more", name, n)
	}
	for {
		p, err := l.purchaser(ctx, name)
		if err != nil {
			return discovery.Decision{}, 0, err
		}
		d, sentAt, err := p.take(ctx, n)
		if err != errRemoved { //nolint:errorlint // it is not wrapped, and this is the fast path
			return d, sentAt, err
		}
		runtime.Gosched() // until it is gone from the map
	}
}

// purchaser returns the purchaser of a limit, once it can decide takes. If there is none it
// subscribes to the limit.
func (l *Limits) purchaser(ctx context.Context, name string) (*purchaser, error) {
	p := (*l.purchasers.Load())[name]
	if p == nil {
		var err error
		if p, err = l.subscribe(ctx, name); err != nil {
			return nil, err
		}
	}
	select {
	case <-p.decidable:
		return p, nil
	default:
	}
	select {
	case <-p.decidable:
		return p, nil
	case <-time.After(readTimeout): // on_unavailable decides
		return p, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("read limit %s: %w", name, context.Cause(ctx))
	}
}
