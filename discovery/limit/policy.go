package limit

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
)

// Policy is a limit as it is in etcd.
type Policy struct {
	Name     string
	Limit    discovery.Limit
	Revision int64 // etcd's revision of the last write
}

// Get reads a limit from etcd. The error is a [discovery.ErrNotFound] if there is none.
func (l *Limits) Get(ctx context.Context, name string) (Policy, error) {
	if err := discovery.ValidateLimit(name); err != nil {
		return Policy{}, err
	}
	r, err := l.read(ctx, l.keys.Limit(name))
	if err != nil {
		return Policy{}, err
	}
	if len(r.Kvs) == 0 {
		return Policy{}, noSuchLimit(name)
	}
	limit, err := discovery.DecodeLimit(r.Kvs[0].Value)
	if err != nil {
		return Policy{}, fmt.Errorf("limit %s: %w", name, err)
	}
	return Policy{name, limit, r.Kvs[0].ModRevision}, nil
}

// List reads all limits from etcd, sorted by name, and returns etcd's revision with them.
// It leaves out limits that cannot be decoded, and logs them.
func (l *Limits) List(ctx context.Context) ([]Policy, int64, error) {
	r, err := l.read(ctx, l.keys.Limits(), clientv3.WithPrefix())
	if err != nil {
		return nil, 0, err
	}
	policies := []Policy{}
	for _, kv := range r.Kvs {
		name := strings.TrimPrefix(string(kv.Key), l.keys.Limits())
		limit, err := discovery.DecodeLimit(kv.Value)
		if err != nil {
			l.options.Logger.Warn("limit in etcd cannot be decoded; set it again", "limit", name, "error", err)
			continue
		}
		policies = append(policies, Policy{name, limit, kv.ModRevision})
	}
	return policies, r.Header.Revision, nil
}

// read gets a key from etcd within readTimeout.
func (l *Limits) read(ctx context.Context, key string, o ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	r, err := l.client.Get(ctx, key, o...)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	return r, nil
}

// Put creates or changes a limit, whose defaults are filled in, and returns it; created
// reports that there was none. It does not write a limit that is the same already: a
// change starts the limit anew, with no token available for the longest horizon.
func (l *Limits) Put(ctx context.Context, name string, limit discovery.Limit) (p Policy, created bool, err error) {
	limit = limit.WithDefaults()
	if err := limit.Validate(); err != nil {
		return Policy{}, false, err
	}
	if err := discovery.ValidateLimit(name); err != nil {
		return Policy{}, false, err
	}
	is, err := l.read(ctx, l.keys.Limit(name))
	if err != nil {
		return Policy{}, false, err
	}
	if len(is.Kvs) > 0 {
		if now, err := discovery.DecodeLimit(is.Kvs[0].Value); err == nil && now == limit {
			return Policy{name, limit, is.Kvs[0].ModRevision}, false, nil
		}
	}
	value, err := json.Marshal(limit)
	if err != nil {
		return Policy{}, false, fmt.Errorf("encode limit %s: %w", name, err)
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	r, err := l.client.Put(ctx, l.keys.Limit(name), string(value))
	if err != nil {
		return Policy{}, false, fmt.Errorf("put limit %s: %w", name, err)
	}
	l.applyWrite(name, value, r.Header.Revision)
	return Policy{name, limit, r.Header.Revision}, len(is.Kvs) == 0, nil
}

// Delete removes a limit and its ledger, and returns etcd's revision. The error is a
// [discovery.ErrNotFound] if there is none.
func (l *Limits) Delete(ctx context.Context, name string) (int64, error) {
	if err := discovery.ValidateLimit(name); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	r, err := l.client.Txn(ctx).Then(clientv3.OpDelete(l.keys.Limit(name)), clientv3.OpDelete(l.keys.Ledger(name))).Commit()
	if err != nil {
		return 0, fmt.Errorf("delete limit %s: %w", name, err)
	}
	if r.Responses[0].GetResponseDeleteRange().Deleted == 0 {
		return 0, noSuchLimit(name)
	}
	l.applyWrite(name, nil, r.Header.Revision)
	return r.Header.Revision, nil
}

// applyWrite applies this agent's own write of a policy at once, so that the caller's next
// take is decided by it.
func (l *Limits) applyWrite(name string, value []byte, revision int64) {
	l.mu.Lock()
	delete(l.missing, name)
	l.mu.Unlock()
	if p := (*l.purchasers.Load())[name]; p != nil {
		p.update(func(now time.Duration) { p.account.setPolicy(now, value, revision) })
	}
}
