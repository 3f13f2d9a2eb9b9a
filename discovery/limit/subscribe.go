package limit

import (
	"context"
	"fmt"
	"iter"
	"strings"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/lease"
	"disc/discovery/reflector"
	"disc/discovery/retry"
)

// subscribe returns the purchaser of a limit. Of concurrent callers the first watches the
// limit; the others wait for purchaser.resolved.
func (l *Limits) subscribe(ctx context.Context, name string) (*purchaser, error) {
	if err := discovery.ValidateLimit(name); err != nil {
		return nil, err
	}
	if l.isMissing(name) {
		return nil, noSuchLimit(name)
	}
	p := &purchaser{name: name, keys: l.keys, client: l.client, log: l.options.Logger, metrics: l.metrics,
		wake: retry.NewSignal(), resolved: make(chan struct{}), account: newAccount(l.runID), lastUsed: lease.Uptime()}
	mine := p
	l.editPurchasers(func(purchasers map[string]*purchaser) {
		if other := purchasers[name]; other != nil {
			mine = other
			return
		}
		purchasers[name] = p
	})
	if mine == p {
		defer close(p.resolved)
		p.unusable = l.watch(ctx, p)
	}
	return mine, nil
}

// watch reads the policy and the ledger of a limit and watches them. It does so for all
// callers of subscribe, so it goes on when the ctx of one ends.
func (l *Limits) watch(ctx context.Context, p *purchaser) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readTimeout)
	defer cancel()
	asked := lease.Uptime()
	n, err := l.reflector.Add(ctx, singleKey(p.policyKey()), false)
	if err == nil && n == 0 {
		l.rememberMissing(p.name, asked)
		l.remove(p)
		return noSuchLimit(p.name)
	}
	if err == nil {
		_, err = l.reflector.Add(ctx, singleKey(p.ledgerKey()), true)
	}
	if err == nil {
		err = l.reflector.Do(ctx, p.becomeReady)
	}
	if err == nil {
		return nil
	}
	p.mu.Lock()
	p.loadFailed = true
	p.mu.Unlock()
	l.editPurchasers(func(map[string]*purchaser) {}) // Run evicts it
	if ctx.Err() != nil {
		return discovery.Errorf(discovery.ErrUnavailable, "cannot read limit %s: etcd did not answer within %v; see 'disc status', and try again", p.name, readTimeout)
	}
	return fmt.Errorf("read limit %s: %w", p.name, err)
}

// singleKey returns the range of one key.
func singleKey(key string) reflector.Range { return reflector.Range{From: key, To: key + "\x00"} }

// rememberMissing records for a while that etcd has no such limit.
func (l *Limits) rememberMissing(name string, asked time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.missing) >= maxMissing {
		clear(l.missing)
	}
	l.missing[name] = asked
}

// isMissing reports whether a limit was found missing within missingTTL.
func (l *Limits) isMissing(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	at, ok := l.missing[name]
	return ok && lease.Uptime()-at < missingTTL
}

// store passes the reflector's changes to the purchasers. It is a [reflector.Store].
type store struct {
	limits      *Limits
	unhealthy   atomic.Bool
	confirmedAt atomic.Int64 // when the purchasers were last told that their view is current
}

// purchaser returns the purchaser that a key belongs to. For a limit that was removed
// meanwhile it returns a new one that nobody else uses.
func (s *store) purchaser(key string) *purchaser {
	l := s.limits
	name, ok := strings.CutPrefix(key, l.keys.Limits())
	if !ok {
		name = strings.TrimPrefix(key, l.keys.Ledger(""))
	}
	if p := (*l.purchasers.Load())[name]; p != nil {
		return p
	}
	return &purchaser{name: name, keys: l.keys, wake: retry.NewSignal()}
}

// Known implements [reflector.Store].
func (s *store) Known(r reflector.Range) iter.Seq2[string, int64] {
	modified := s.purchaser(r.From).modRevision(r.From)
	return func(yield func(string, int64) bool) {
		if modified != 0 {
			yield(r.From, modified)
		}
	}
}

// Replace implements [reflector.Store].
func (s *store) Replace(l *reflector.Listing) error {
	found := &mvccpb.KeyValue{Key: []byte(l.From)}
	revision, err := l.Read(func(page []*mvccpb.KeyValue) {
		for _, kv := range page {
			found = kv
		}
	})
	if err != nil {
		return err
	}
	exists := found.ModRevision != 0
	if !exists {
		found.ModRevision = revision
	}
	p := s.purchaser(l.From)
	p.update(func(now time.Duration) {
		p.account.markStale(now) // earlier sales, if any were seen, may be another cluster's
		p.apply(now, found, exists)
	})
	return nil
}

// Apply implements [reflector.Store].
func (s *store) Apply(u reflector.Update) {
	for _, e := range u.Events {
		p := s.purchaser(string(e.Kv.Key))
		p.update(func(now time.Duration) { p.apply(now, e.Kv, e.Type == clientv3.EventTypePut) })
	}
}

// onHealth makes the views of all purchasers stale when the watch fails, and confirms them
// while it is healthy (err is nil), at most once in a tenth of freshFor.
func (s *store) onHealth(err error) {
	now := lease.Uptime()
	before := s.unhealthy.Swap(err != nil)
	if err == nil && !before && now-time.Duration(s.confirmedAt.Load()) < freshFor/10 {
		return
	}
	s.confirmedAt.Store(int64(now))
	for _, p := range *s.limits.purchasers.Load() {
		p.update(func(now time.Duration) {
			switch {
			case err != nil:
				p.account.markStale(now)
			case p.loaded:
				p.account.confirm(now)
			}
		})
	}
}

// becomeReady records that policy and ledger were read and are watched.
func (p *purchaser) becomeReady() {
	p.update(func(now time.Duration) {
		p.loaded = true
		p.account.confirm(now)
	})
}
