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

// find begins to watch a limit, if there is one. Others who ask for it meanwhile wait.
func (l *Limits) find(ctx context.Context, name string) (*buyer, error) {
	if err := discovery.ValidateLimit(name); err != nil {
		return nil, err
	}
	if l.isMissing(name) {
		return nil, notFound(name)
	}
	b := &buyer{name: name, keys: l.keys, client: l.client, log: l.options.Logger, metrics: l.metrics,
		wake: make(chan struct{}, 1), found: make(chan struct{}), account: newAccount(l.id), used: lease.Uptime()}
	mine := b
	l.change(func(buyers map[string]*buyer) {
		if other := buyers[name]; other != nil {
			mine = other
			return
		}
		buyers[name] = b
	})
	if mine == b {
		defer close(b.found)
		b.missing = l.follow(ctx, b)
	}
	return mine, nil
}

// follow has the policy and the ledger of a limit read and watched. It is done for all
// who ask, whoever does it.
func (l *Limits) follow(ctx context.Context, b *buyer) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTime)
	defer cancel()
	asked := lease.Uptime()
	n, err := l.follower.Add(ctx, only(b.policyKey()), false)
	if err == nil && n == 0 {
		l.remember(b.name, asked)
		l.forget(b)
		return notFound(b.name)
	}
	if err == nil {
		_, err = l.follower.Add(ctx, only(b.ledgerKey()), true)
	}
	if err == nil {
		err = l.follower.Do(ctx, b.ready)
	}
	if err == nil {
		return nil
	}
	b.mu.Lock()
	b.failed = true
	b.mu.Unlock()
	l.change(func(map[string]*buyer) {}) // Run drops it
	if ctx.Err() != nil {
		return discovery.Errorf(discovery.ErrUnavailable, "limit %s: etcd has not said in %v what it is; see 'disc status', and try again", b.name, askTime)
	}
	return fmt.Errorf("read limit %s: %w", b.name, err)
}

// only is the range of one key.
func only(key string) reflector.Range { return reflector.Range{From: key, To: key + "\x00"} }

// remember remembers that a limit was not there.
func (l *Limits) remember(name string, asked time.Duration) {
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
	return ok && lease.Uptime()-at < missingTime
}

// mirror hands what is followed to the buyers that it concerns.
type mirror struct {
	limits    *Limits
	troubled  atomic.Bool
	confirmed atomic.Int64 // when the buyers were last told that their view is current
}

// buyer returns who needs a key; a new one if nobody does any more, to whom nothing
// matters.
func (m *mirror) buyer(key string) *buyer {
	l := m.limits
	name, ok := strings.CutPrefix(key, l.keys.Limits())
	if !ok {
		name = strings.TrimPrefix(key, l.keys.Ledger(""))
	}
	if b := (*l.buyers.Load())[name]; b != nil {
		return b
	}
	return &buyer{name: name, keys: l.keys, wake: make(chan struct{}, 1)}
}

// Known implements follow.Mirror.
func (m *mirror) Known(r reflector.Range) iter.Seq2[string, int64] {
	modified := m.buyer(r.From).modified(r.From)
	return func(yield func(string, int64) bool) {
		if modified != 0 {
			yield(r.From, modified)
		}
	}
}

// Replace implements follow.Mirror.
func (m *mirror) Replace(l *reflector.Listing) error {
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
	b := m.buyer(l.From)
	b.change(func(now time.Duration) {
		b.account.lose(now) // what was seen before is of another life of etcd, if of any
		b.set(now, found, there)
	})
	return nil
}

// Apply implements follow.Mirror.
func (m *mirror) Apply(u reflector.Update) {
	for _, e := range u.Events {
		b := m.buyer(string(e.Kv.Key))
		b.change(func(now time.Duration) { b.set(now, e.Kv, e.Type == clientv3.EventTypePut) })
	}
}

// trouble is told that the watch has ended, or with nil that it runs.
func (m *mirror) trouble(err error) {
	now := lease.Uptime()
	before := m.troubled.Swap(err != nil)
	if err == nil && !before && now-time.Duration(m.confirmed.Load()) < trusted/10 {
		return
	}
	m.confirmed.Store(int64(now))
	for _, b := range *m.limits.buyers.Load() {
		b.change(func(now time.Duration) {
			switch {
			case err != nil:
				b.account.lose(now)
			case b.listed:
				b.account.confirm(now)
			}
		})
	}
}

// ready tells a buyer that policy and ledger were read, and are followed.
func (b *buyer) ready() {
	b.change(func(now time.Duration) {
		b.listed = true
		b.account.confirm(now)
	})
}
