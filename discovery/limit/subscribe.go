package limit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/lease"
	"disc/discovery/reflector"
	"disc/discovery/retry"
)

// The reasons why takes cannot be counted, beside those of the watch and of purchases.
var (
	errNotRead  = errors.New("the limit is still being read")
	errNoNews   = errors.New("etcd has not been heard of for too long")
	errNoAnswer = errors.New("etcd has not answered a purchase of tokens yet")
)

// errRemoved is the error of a take from a purchaser that was removed.
var errRemoved = errors.New("removed")

// missing is a limit that is not there.
type missing struct {
	asked   time.Duration // when etcd said so; 0: it was deleted
	deleted int64         // at this revision; 0: unknown
}

// subscribe returns the purchaser of a limit, which it makes if there is none yet.
func (l *Limits) subscribe(ctx context.Context, name string) (*purchaser, error) {
	if err := discovery.ValidateLimit(name); err != nil {
		return nil, err
	}
	if err := l.awaitPolicies(ctx, name); err != nil {
		return nil, err
	}
	policy, err := l.policy(ctx, name)
	if err != nil {
		return nil, err
	}
	var p *purchaser
	l.editPurchasers(func(purchasers map[string]*purchaser) {
		if p = purchasers[name]; p != nil {
			return
		}
		switch newer, ok := l.policies[name]; {
		case ok && newer.Revision > policy.Revision:
			policy = newer
		case !ok && l.missing[name].deleted >= policy.Revision:
			return // it was deleted meanwhile
		}
		account, ok := l.remembered[name]
		if !ok {
			account = newAccount(l.runID)
		}
		delete(l.remembered, name)
		now := lease.Uptime()
		account.setPolicy(now, policy)
		account.purchaseCount = max(account.purchaseCount, int64(now)) // no id of a sale comes twice
		p = &purchaser{name: name, limits: l, wake: retry.NewSignal(), decidable: make(chan struct{}), account: account, lastUsed: now}
		p.markDecidable = sync.OnceFunc(func() { close(p.decidable) })
		purchasers[name] = p
	})
	if p == nil {
		return nil, noSuchLimit(name)
	}
	if err := l.reflector.Health().Err; err != nil {
		p.fail(err)
	}
	return p, nil
}

// awaitPolicies waits until the policies were listed.
func (l *Limits) awaitPolicies(ctx context.Context, name string) error {
	l.activate()
	select {
	case <-l.listed:
		return nil
	default:
	}
	select {
	case <-l.listed:
		return nil
	case <-time.After(readTimeout):
		err := cmp.Or(l.reflector.Health().Err, errNoNews)
		return discovery.Errorf(discovery.ErrUnavailable, "cannot read limit %s: etcd did not answer within %v (%v); see 'disc status', and try again", name, readTimeout, err)
	case <-ctx.Done():
		return fmt.Errorf("read limit %s: %w", name, context.Cause(ctx))
	}
}

// policy returns the policy of a limit. It asks etcd for one that it does not know, which
// may have been made a moment ago.
func (l *Limits) policy(ctx context.Context, name string) (Policy, error) {
	l.mu.Lock()
	p, ok := l.policies[name]
	missingSince := l.missing[name].asked
	l.mu.Unlock()
	asked := lease.Uptime()
	switch {
	case ok:
		return p, nil
	case missingSince != 0 && asked-missingSince < missingTTL:
		return Policy{}, noSuchLimit(name)
	}
	r, err := l.read(ctx, l.keys.Limit(name))
	if err != nil {
		return Policy{}, err
	}
	if len(r.Kvs) > 0 {
		return l.policyOf(r.Kvs[0]), nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.noteMissing(name, missing{asked: asked, deleted: l.missing[name].deleted})
	return Policy{}, noSuchLimit(name)
}

// noteMissing remembers that a limit is not there. l.mu is held.
func (l *Limits) noteMissing(name string, m missing) {
	if len(l.missing) >= maxMissing {
		clear(l.missing)
	}
	l.missing[name] = m
}

// applyPolicy applies a policy that was written or, without a Created, deleted.
func (l *Limits) applyPolicy(p Policy) {
	l.mu.Lock()
	delete(l.missing, p.Name)
	switch known := l.policies[p.Name]; {
	case l.policies == nil || p.Revision < known.Revision:
	case p.Created == 0:
		delete(l.policies, p.Name)
		l.noteMissing(p.Name, missing{deleted: p.Revision})
	default:
		l.policies[p.Name] = p
	}
	l.mu.Unlock()
	if purchaser := (*l.purchasers.Load())[p.Name]; purchaser != nil {
		purchaser.update(func(now time.Duration) { purchaser.account.setPolicy(now, p) })
	}
}

// load reads the ledger and watches it from then on, until ctx ends. While it cannot,
// on_unavailable decides takes.
func (p *purchaser) load(ctx context.Context) {
	var backoff retry.Backoff
	for ctx.Err() == nil {
		err := p.watchLedger(ctx)
		if err == nil || ctx.Err() != nil {
			return
		}
		p.fail(err)
		if backoff.Failed() {
			p.limits.options.Logger.Warn("cannot read a rate limit; its on_unavailable decides takes meanwhile", "limit", p.name, "error", err)
		}
		_ = backoff.Wait(ctx)
	}
}

func (p *purchaser) watchLedger(ctx context.Context) error {
	l := p.limits
	if _, err := l.reflector.Add(ctx, singleKey(p.ledgerKey()), true); err != nil {
		return err
	}
	callCtx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	r, err := l.client.Txn(callCtx).Then(clientv3.OpGet(l.keys.Epoch()), clientv3.OpGet(l.keys.Quarantine(), clientv3.WithCountOnly())).Commit()
	if err != nil {
		return fmt.Errorf("read epoch: %w", err)
	}
	epoch, quarantined := r.Responses[0].GetResponseRange().Kvs, r.Responses[1].GetResponseRange().Count > 0
	return l.reflector.Do(ctx, func() {
		p.update(func(now time.Duration) {
			a := &p.account
			if len(epoch) > 0 && !quarantined && string(epoch[0].Value) == a.epoch {
				a.learnLife(now, epoch[0].ModRevision, time.Now())
			}
			p.loaded = true
			a.confirm(now, l.store.confirmedAt(), l.freshFor())
		})
		p.markDecidable()
	})
}

// fail makes the purchaser decide takes without etcd, for a reason, until it is loaded.
func (p *purchaser) fail(err error) {
	p.update(func(now time.Duration) {
		if !p.loaded {
			p.account.markStale(now, err)
		}
	})
	p.markDecidable()
}

// freshFor returns how long the view of a limit counts as current without news of etcd.
func (l *Limits) freshFor() time.Duration {
	return max(10*time.Second, l.options.ProgressInterval()+2*reflector.WatchTimeout)
}

// singleKey returns the range of one key.
func singleKey(key string) reflector.Range { return reflector.Range{From: key, To: key + "\x00"} }
