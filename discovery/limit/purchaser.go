package limit

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/etcd"
	"disc/discovery/lease"
	"disc/discovery/retry"
)

const (
	purchaseTimeout = time.Second // for etcd to answer a purchase
	maxWait         = time.Second // for a take to wait for a purchase
)

// purchaser buys the tokens of one limit, as its account says.
type purchaser struct {
	name          string
	limits        *Limits
	wake          retry.Signal  // there may be something to buy; see notify
	decidable     chan struct{} // closed when takes can be decided, with or without etcd
	markDecidable func()

	mu       sync.Mutex
	loaded   bool // the ledger was read and is watched
	evicted  bool // it is to be removed
	removed  bool // another one takes its place at the next take
	account  account
	lastUsed time.Duration // when it was last asked for a decision
}

func (p *purchaser) policyKey() string { return p.limits.keys.Limit(p.name) }
func (p *purchaser) ledgerKey() string { return p.limits.keys.Ledger(p.name) }

// update changes the account by a function, which may give it a reason to buy.
func (p *purchaser) update(change func(now time.Duration)) {
	p.mu.Lock()
	change(lease.Uptime())
	p.mu.Unlock()
	p.notify()
}

// notify wakes run, which asks the account whether to buy.
func (p *purchaser) notify() {
	p.wake.Notify()
}

// run loads the limit and makes the purchases that the account wants, one at a time, until
// ctx ends. Then it returns nil.
func (p *purchaser) run(ctx context.Context) error {
	p.load(ctx)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-p.wake:
		}
		p.mu.Lock()
		now := lease.Uptime()
		n, again := p.account.nextPurchase(now)
		var next purchase
		if n > 0 {
			next = p.account.startPurchase(now, n, time.Now())
		}
		p.mu.Unlock()
		if n > 0 {
			p.purchase(ctx, next)
			again = now
		}
		if again != never {
			timer.Reset(max(0, again-lease.Uptime()))
		}
	}
}

// purchase sends a purchase to etcd and records its outcome in the account.
func (p *purchaser) purchase(ctx context.Context, next purchase) {
	committed, written, err := p.commit(ctx, next)
	p.mu.Lock()
	defer p.mu.Unlock()
	now := lease.Uptime()
	switch {
	case err != nil:
		p.limits.metrics.failed.Inc()
		if p.account.purchaseFailed(now, err) && ctx.Err() == nil {
			p.limits.options.Logger.Warn("cannot buy tokens of a rate limit; its on_unavailable decides takes meanwhile",
				"limit", p.name, "on_unavailable", p.account.policy.Limit.OnUnavailable, "error", err)
		}
	case !committed:
		p.limits.metrics.lost.Inc()
		p.account.purchaseLost(now, next)
	default:
		p.limits.metrics.bought.Inc()
		p.account.purchaseCommitted(now, next, written)
	}
}

// commit writes a purchase into the ledger, if ledger, policy and epoch are those that the
// purchase has seen, and returns the ledger as written.
func (p *purchaser) commit(ctx context.Context, next purchase) (committed bool, written storedLedger, err error) {
	ctx, cancel := context.WithTimeout(ctx, purchaseTimeout)
	defer cancel()
	value, err := json.Marshal(next.nextLedger)
	if err != nil {
		return false, storedLedger{}, fmt.Errorf("encode ledger: %w", err)
	}
	if err := p.limits.options.Space.Check(ctx, len(value)); err != nil {
		return false, storedLedger{}, err
	}
	key := p.ledgerKey()
	compares := []clientv3.Cmp{
		clientv3.Compare(clientv3.ModRevision(p.policyKey()), "=", next.policyRevision),
		clientv3.Compare(clientv3.ModRevision(key), "=", next.seenLedger.modRevision),
	}
	if next.seenLedger.modRevision != 0 {
		compares = append(compares, clientv3.Compare(clientv3.Value(key), "=", next.seenLedger.value))
	}
	if next.epoch != "" {
		compares = append(compares, clientv3.Compare(clientv3.Value(p.limits.keys.Epoch()), "=", next.epoch))
	}
	r, err := p.limits.client.Txn(ctx).If(compares...).Then(clientv3.OpPut(key, string(value))).Commit()
	if err != nil {
		return false, storedLedger{}, fmt.Errorf("buy %d tokens of limit %s: %w", next.n, p.name, etcd.Explain(p.limits.client.Endpoints(), err))
	}
	if !r.Succeeded {
		return false, storedLedger{}, nil
	}
	written = storedLedger{next.nextLedger, string(value), next.seenLedger.createRevision, r.Header.Revision}
	if written.createRevision == 0 {
		written.createRevision = written.modRevision
	}
	return true, written, nil
}

// take decides a take of n tokens. If it is granted, the duration is when the purchase of
// the oldest of its tokens was sent. The error is errRemoved if the purchaser was removed meanwhile.
func (p *purchaser) take(ctx context.Context, n int64) (discovery.Decision, time.Duration, error) {
	p.mu.Lock()
	if p.removed {
		p.mu.Unlock()
		return discovery.Decision{}, 0, errRemoved
	}
	now := lease.Uptime() // with the lock: tokens may be void when it is had
	p.lastUsed = now
	if most := int64(p.account.burst); p.account.exists() && n > most {
		p.mu.Unlock()
		return discovery.Decision{}, 0, discovery.Errorf(discovery.ErrInvalid,
			"limit %s: %d tokens cannot be taken at once, only up to its burst of %d; take fewer, or give the limit a larger burst", p.name, n, most)
	}
	r := p.account.take(now, n)
	var w *waiter
	if r.outcome == queued {
		w = newWaiter(n)
		p.account.enqueue(w)
	}
	buy := p.account.demandAppeared(now)
	d, policyErr := p.account.decision(now, r.outcome, n), p.account.policy.err
	p.mu.Unlock()
	if buy {
		p.notify()
	}
	if w != nil {
		r = p.await(ctx, w)
		p.mu.Lock()
		d, policyErr = p.account.decision(lease.Uptime(), r.outcome, n), p.account.policy.err
		p.mu.Unlock()
	}
	return d, r.sentAt, p.explain(r.outcome, policyErr)
}

// await returns the result of a waiter, which it abandons after maxWait or when ctx ends.
func (p *purchaser) await(ctx context.Context, w *waiter) takeResult {
	ctx, cancel := context.WithTimeout(ctx, maxWait)
	defer cancel()
	select {
	case r := <-w.result:
		return r
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if r, ok := p.account.abandon(lease.Uptime(), w); ok {
		p.notify()
		return r
	}
	return <-w.result
}

// explain returns the error of an outcome that is not a decision of the limit.
func (p *purchaser) explain(o outcome, policyErr error) error {
	switch {
	case o == noLimit:
		return noSuchLimit(p.name)
	case o == unavailable && policyErr != nil:
		return discovery.Errorf(discovery.ErrUnavailable, "limit %s in etcd cannot be decoded: %v; set it again with 'disc limit set'", p.name, policyErr)
	}
	return nil
}

func noSuchLimit(name string) error {
	return discovery.Errorf(discovery.ErrNotFound, "there is no limit %s; make it with 'disc limit set %s RATE' or PUT /v1/limits/%s", name, name, name)
}

// refund takes back n tokens that were taken and not used.
func (p *purchaser) refund(n int64, sentAt time.Duration) {
	p.update(func(now time.Duration) { p.account.refund(now, n, sentAt) })
}
