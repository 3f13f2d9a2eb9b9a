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
	buyTime  = time.Second // for a purchase
	patience = time.Second // of a take that waits
)

// buyer buys of one limit when its account says so.
type buyer struct {
	name    string
	keys    discovery.Keys
	client  *clientv3.Client
	log     *slog.Logger
	metrics *metrics
	wake    chan struct{} // size one: there may be something to buy
	found   chan struct{} // closed when it is clear whether there is such a limit
	missing error         // from then on: why it cannot be used

	mu      sync.Mutex
	listed  bool // policy and ledger were read
	failed  bool // they could not be
	dropped bool // it will be forgotten
	account account
	used    time.Duration // when it was last asked
}

// set tells the account of a key that was written or, if it is not there, deleted.
func (b *buyer) set(now time.Duration, kv *mvccpb.KeyValue, there bool) {
	switch {
	case string(kv.Key) == b.policyKey() && !there:
		b.account.setPolicy(now, nil, kv.ModRevision)
	case string(kv.Key) == b.policyKey():
		b.account.setPolicy(now, append([]byte{}, kv.Value...), kv.ModRevision)
	case !there:
		b.account.setLedger(now, version{})
	default:
		b.account.setLedger(now, versionOf(kv.Value, kv.CreateRevision, kv.ModRevision))
	}
}

// modified is the revision of one of the keys as it was seen; 0: it is not there.
func (b *buyer) modified(key string) int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if key == b.policyKey() {
		return b.account.policy
	}
	return b.account.ledger.modified
}

func (b *buyer) policyKey() string { return b.keys.Limit(b.name) }
func (b *buyer) ledgerKey() string { return b.keys.Ledger(b.name) }

// change does something to the account that may give a reason to buy.
func (b *buyer) change(do func(now time.Duration)) {
	b.mu.Lock()
	do(lease.Uptime())
	b.mu.Unlock()
	b.look()
}

// look has the account asked whether to buy.
func (b *buyer) look() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// buy buys what the account wants, one purchase at a time, until ctx ends.
func (b *buyer) buy(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-b.wake:
		}
		b.mu.Lock()
		now := lease.Uptime()
		n, again := b.account.next(now)
		var o order
		if n > 0 {
			o = b.account.order(now, n)
		}
		b.mu.Unlock()
		if n > 0 {
			b.send(ctx, o)
			again = now
		}
		if again != never {
			timer.Reset(max(0, again-lease.Uptime()))
		}
	}
}

// send makes a purchase and tells the account what became of it.
func (b *buyer) send(ctx context.Context, o order) {
	bought, is, err := b.commit(ctx, o)
	b.mu.Lock()
	defer b.mu.Unlock()
	now := lease.Uptime()
	switch {
	case err != nil:
		b.metrics.failed.Inc()
		if b.account.failed(now) && ctx.Err() == nil {
			b.log.Warn("cannot buy of a rate limit; takes are decided as it says for when etcd is away",
				"limit", b.name, "on_unavailable", b.account.limit.OnUnavailable, "error", err)
		}
	case !bought:
		b.metrics.lost.Inc()
		b.account.lost(now, o)
	default:
		b.metrics.bought.Inc()
		b.account.bought(now, o, is)
	}
}

// commit writes the sale into the ledger, if that and the policy are as they were seen.
func (b *buyer) commit(ctx context.Context, o order) (bought bool, is version, err error) {
	ctx, cancel := context.WithTimeout(ctx, buyTime)
	defer cancel()
	value, err := json.Marshal(o.next)
	if err != nil {
		return false, version{}, fmt.Errorf("encode ledger: %w", err)
	}
	key := b.ledgerKey()
	compares := []clientv3.Cmp{
		clientv3.Compare(clientv3.ModRevision(b.policyKey()), "=", o.policy),
		clientv3.Compare(clientv3.ModRevision(key), "=", o.seen.modified),
	}
	if o.seen.modified != 0 {
		compares = append(compares, clientv3.Compare(clientv3.Value(key), "=", o.seen.value))
	}
	r, err := b.client.Txn(ctx).If(compares...).Then(clientv3.OpPut(key, string(value))).Commit()
	if err != nil {
		return false, version{}, fmt.Errorf("buy %d of limit %s: %w", o.n, b.name, err)
	}
	if !r.Succeeded {
		return false, version{}, nil
	}
	is = version{o.next, string(value), o.seen.created, r.Header.Revision}
	if is.created == 0 {
		is.created = is.modified
	}
	return true, is, nil
}

// take takes n tokens. It returns until when they are good, if it got them.
func (b *buyer) take(ctx context.Context, n int64) (discovery.Decision, time.Duration, error) {
	now := lease.Uptime()
	b.mu.Lock()
	b.used = now
	if most := int64(b.account.capacity); b.account.exists() && n > most {
		b.mu.Unlock()
		return discovery.Decision{}, 0, discovery.Errorf(discovery.ErrInvalid,
			"limit %s: %d tokens cannot be taken at once, only up to %d; take fewer, or give the limit a larger burst", b.name, n, most)
	}
	o := b.account.take(now, n)
	var w *waiter
	if o.verdict == waits {
		w = &waiter{n, make(chan outcome, 1)}
		b.account.queue = append(b.account.queue, w)
	}
	hungry := b.account.hungry(now)
	d, broken := b.account.decision(now, o.verdict, n), b.account.broken
	b.mu.Unlock()
	if hungry {
		b.look()
	}
	if w != nil {
		o = b.await(ctx, w)
		b.mu.Lock()
		d, broken = b.account.decision(lease.Uptime(), o.verdict, n), b.account.broken
		b.mu.Unlock()
	}
	return d, o.until, b.explain(o.verdict, broken)
}

// await waits for the outcome of a waiter.
func (b *buyer) await(ctx context.Context, w *waiter) outcome {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case o := <-w.outcome:
		return o
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if o, ok := b.account.leave(lease.Uptime(), w); ok {
		return o
	}
	return <-w.outcome
}

func (b *buyer) explain(v verdict, broken error) error {
	switch {
	case v == unknown:
		return notFound(b.name)
	case v == unavailable && broken != nil:
		return discovery.Errorf(discovery.ErrUnavailable, "limit %s cannot be read in etcd: %v; set it again with 'disc limit set'", b.name, broken)
	}
	return nil
}

func notFound(name string) error {
	return discovery.Errorf(discovery.ErrNotFound, "there is no limit %s; make it with 'disc limit set %s RATE' or PUT /v1/limits/%s", name, name, name)
}

// giveBack puts tokens back that were taken and not used.
func (b *buyer) giveBack(n int64, until time.Duration) {
	b.change(func(now time.Duration) {
		if until > now {
			b.account.hand.add(n, until)
			b.account.settle(now)
		}
	})
}
