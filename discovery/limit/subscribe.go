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
)

// subscribe begins to watch a limit, if there is one. Others who ask for it meanwhile wait.
func (l *Limits) subscribe(ctx context.Context, name string) (*purchaser, error) {
	if err := discovery.ValidateLimit(name); err != nil {
		return nil, err
	}
	if l.isMissing(name) {
		return nil, noSuchLimit(name)
	}
	p := &purchaser{name: name, keys: l.keys, client: l.client, log: l.options.Logger, metrics: l.metrics,
		wake: make(chan struct{}, 1), resolved: make(chan struct{}), account: newAccount(l.runID), lastUsed: lease.Uptime()}
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

// watch has the policy and the ledger of a limit read and watched. It is done for all
// who ask, whoever does it.
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
	l.editPurchasers(func(map[string]*purchaser) {}) // Run drops it
	if ctx.Err() != nil {
		return discovery.Errorf(discovery.ErrUnavailable, "limit %s: etcd has not said in %v what it is; see 'disc status', and try again", p.name, readTimeout)
	}
	return fmt.Errorf("read limit %s: %w", p.name, err)
}

// singleKey is the range of one key.
func singleKey(key string) reflector.Range { return reflector.Range{From: key, To: key + "\x00"} }

// rememberMissing remembers that a limit was not there.
func (l *Limits) rememberMissing(name string, asked time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.missing) >= maxMissing {
		clear(l.missing)
	}
	l.missing[name] = asked
}

func (l *Limits) isMissing(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	at, ok := l.missing[name]
	return ok && lease.Uptime()-at < missingTTL
}

// store hands what is followed to the buyers that it concerns.
type store struct {
	limits      *Limits
	unhealthy   atomic.Bool
	confirmedAt atomic.Int64 // when the buyers were last told that their view is current
}

// purchaser returns who needs a key; a new one if nobody does any more, to whom nothing
// matters.
func (s *store) purchaser(key string) *purchaser {
	l := s.limits
	name, ok := strings.CutPrefix(key, l.keys.Limits())
	if !ok {
		name = strings.TrimPrefix(key, l.keys.Ledger(""))
	}
	if p := (*l.purchasers.Load())[name]; p != nil {
		return p
	}
	return &purchaser{name: name, keys: l.keys, wake: make(chan struct{}, 1)}
}

// Known implements follow.Mirror.
func (s *store) Known(r reflector.Range) iter.Seq2[string, int64] {
	modified := s.purchaser(r.From).modRevision(r.From)
	return func(yield func(string, int64) bool) {
		if modified != 0 {
			yield(r.From, modified)
		}
	}
}

// Replace implements follow.Mirror.
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
	there := found.ModRevision != 0
	if !there {
		found.ModRevision = revision
	}
	p := s.purchaser(l.From)
	p.update(func(now time.Duration) {
		p.account.markStale(now) // what was seen before is of another life of etcd, if of any
		p.apply(now, found, there)
	})
	return nil
}

// Apply implements follow.Mirror.
func (s *store) Apply(u reflector.Update) {
	for _, e := range u.Events {
		p := s.purchaser(string(e.Kv.Key))
		p.update(func(now time.Duration) { p.apply(now, e.Kv, e.Type == clientv3.EventTypePut) })
	}
}

// onHealth is told that the watch has ended, or with nil that it runs.
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

// becomeReady tells a buyer that policy and ledger were read, and are followed.
func (p *purchaser) becomeReady() {
	p.update(func(now time.Duration) {
		p.loaded = true
		p.account.confirm(now)
	})
}
