package limit

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/lease"
)

// The bounds of waiting for etcd.
const (
	purchaseTimeout = time.Second // for a purchase
	maxWait         = time.Second // of a take that waits
)

// purchaser buys of one limit when its account says so.
type purchaser struct {
	name     string
	keys     discovery.Keys
	client   *clientv3.Client
	log      *slog.Logger
	metrics  *metrics
	wake     chan struct{} // size one: there may be something to buy
	resolved chan struct{} // closed when it is clear whether there is such a limit
	unusable error         // from then on: why it cannot be used

	mu         sync.Mutex
	loaded     bool // policy and ledger were read
	loadFailed bool // they could not be
	evicted    bool // it will be forgotten
	account    account
	lastUsed   time.Duration // when it was last asked
}

// apply tells the account of a key that was written or, if it is not there, deleted.
func (p *purchaser) apply(now time.Duration, kv *mvccpb.KeyValue, there bool) {
	switch {
	case string(kv.Key) == p.policyKey() && !there:
		p.account.setPolicy(now, nil, kv.ModRevision)
	case string(kv.Key) == p.policyKey():
		p.account.setPolicy(now, append([]byte{}, kv.Value...), kv.ModRevision)
	case !there:
		p.account.setLedger(now, storedLedger{})
	default:
		p.account.setLedger(now, decodeLedger(kv.Value, kv.CreateRevision, kv.ModRevision))
	}
}

// modRevision is the revision of one of the keys as it was seen; 0: it is not there.
func (p *purchaser) modRevision(key string) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if key == p.policyKey() {
		return p.account.policyRevision
	}
	return p.account.ledger.modRevision
}

func (p *purchaser) policyKey() string { return p.keys.Limit(p.name) }
func (p *purchaser) ledgerKey() string { return p.keys.Ledger(p.name) }

// update does something to the account that may give a reason to buy.
func (p *purchaser) update(do func(now time.Duration)) {
	p.mu.Lock()
	do(lease.Uptime())
	p.mu.Unlock()
	p.notify()
}

// notify has the account asked whether to buy.
func (p *purchaser) notify() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// run buys what the account wants, one purchase at a time, until ctx ends.
func (p *purchaser) run(ctx context.Context) error {
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
		var o purchase
		if n > 0 {
			o = p.account.startPurchase(now, n)
		}
		p.mu.Unlock()
		if n > 0 {
			p.purchase(ctx, o)
			again = now
		}
		if again != never {
			timer.Reset(max(0, again-lease.Uptime()))
		}
	}
}

// purchase makes a purchase and tells the account what became of it.
func (p *purchaser) purchase(ctx context.Context, o purchase) {
	bought, is, err := p.commit(ctx, o)
	p.mu.Lock()
	defer p.mu.Unlock()
	now := lease.Uptime()
	switch {
	case err != nil:
		p.metrics.failed.Inc()
		if p.account.purchaseFailed(now) && ctx.Err() == nil {
			p.log.Warn("cannot buy of a rate limit; takes are decided as it says for when etcd is away",
				"limit", p.name, "on_unavailable", p.account.limit.OnUnavailable, "error", err)
		}
	case !bought:
		p.metrics.lost.Inc()
		p.account.purchaseLost(now, o)
	default:
		p.metrics.bought.Inc()
		p.account.purchaseCommitted(now, o, is)
	}
}

// commit writes the sale into the ledger, if that and the policy are as they were seen.
func (p *purchaser) commit(ctx context.Context, o purchase) (bought bool, is storedLedger, err error) {
	ctx, cancel := context.WithTimeout(ctx, purchaseTimeout)
	defer cancel()
	value, err := json.Marshal(o.nextLedger)
	if err != nil {
		return false, storedLedger{}, fmt.Errorf("encode ledger: %w", err)
	}
	key := p.ledgerKey()
	compares := []clientv3.Cmp{
		clientv3.Compare(clientv3.ModRevision(p.policyKey()), "=", o.policyRevision),
		clientv3.Compare(clientv3.ModRevision(key), "=", o.seenLedger.modRevision),
	}
	if o.seenLedger.modRevision != 0 {
		compares = append(compares, clientv3.Compare(clientv3.Value(key), "=", o.seenLedger.value))
	}
	r, err := p.client.Txn(ctx).If(compares...).Then(clientv3.OpPut(key, string(value))).Commit()
	if err != nil {
		return false, storedLedger{}, fmt.Errorf("buy %d of limit %s: %w", o.n, p.name, err)
	}
	if !r.Succeeded {
		return false, storedLedger{}, nil
	}
	is = storedLedger{o.nextLedger, string(value), o.seenLedger.createRevision, r.Header.Revision}
	if is.createRevision == 0 {
		is.createRevision = is.modRevision
	}
	return true, is, nil
}

// take takes n tokens. It returns until when they are good, if it got them.
func (p *purchaser) take(ctx context.Context, n int64) (discovery.Decision, time.Duration, error) {
	now := lease.Uptime()
	p.mu.Lock()
	p.lastUsed = now
	if most := int64(p.account.capacity); p.account.exists() && n > most {
		p.mu.Unlock()
		return discovery.Decision{}, 0, discovery.Errorf(discovery.ErrInvalid,
			"limit %s: %d tokens cannot be taken at once, only up to %d; take fewer, or give the limit a larger burst", p.name, n, most)
	}
	o := p.account.take(now, n)
	var w *waiter
	if o.outcome == queued {
		w = &waiter{n, make(chan takeResult, 1)}
		p.account.queue = append(p.account.queue, w)
	}
	hungry := p.account.demandAppeared(now)
	d, broken := p.account.decision(now, o.outcome, n), p.account.policyErr
	p.mu.Unlock()
	if hungry {
		p.notify()
	}
	if w != nil {
		o = p.await(ctx, w)
		p.mu.Lock()
		d, broken = p.account.decision(lease.Uptime(), o.outcome, n), p.account.policyErr
		p.mu.Unlock()
	}
	return d, o.until, p.explain(o.outcome, broken)
}

// await waits for the outcome of a waiter.
func (p *purchaser) await(ctx context.Context, w *waiter) takeResult {
	ctx, cancel := context.WithTimeout(ctx, maxWait)
	defer cancel()
	select {
	case o := <-w.result:
		return o
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if o, ok := p.account.abandon(lease.Uptime(), w); ok {
		return o
	}
	return <-w.result
}

func (p *purchaser) explain(v outcome, broken error) error {
	switch {
	case v == noLimit:
		return noSuchLimit(p.name)
	case v == unavailable && broken != nil:
		return discovery.Errorf(discovery.ErrUnavailable, "limit %s cannot be read in etcd: %v; set it again with 'disc limit set'", p.name, broken)
	}
	return nil
}

func noSuchLimit(name string) error {
	return discovery.Errorf(discovery.ErrNotFound, "there is no limit %s; make it with 'disc limit set %s RATE' or PUT /v1/limits/%s", name, name, name)
}

// refund puts tokens back that were taken and not used.
func (p *purchaser) refund(n int64, until time.Duration) {
	p.update(func(now time.Duration) {
		if until > now {
			p.account.tokens.add(n, until)
			p.account.settle(now)
		}
	})
}
