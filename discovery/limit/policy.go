package limit

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/life"
)

// Policy is a limit as it is in etcd.
type Policy struct {
	Name              string
	Limit             discovery.Limit
	Created, Revision int64 // etcd's revisions of the write that created it, and of the last one

	err      error // why the limit cannot be decoded
	replaced int64 // the revision of the policy that it replaced; 0: the last one that was seen
}

// policyOf decodes a policy. One that cannot be decoded cannot be enforced.
func (l *Limits) policyOf(kv *mvccpb.KeyValue) Policy {
	p := Policy{Name: strings.TrimPrefix(string(kv.Key), l.keys.Limits()), Created: kv.CreateRevision, Revision: kv.ModRevision}
	p.Limit, p.err = discovery.DecodeLimit(kv.Value)
	return p
}

// Get reads a limit from etcd. The error is a [discovery.ErrNotFound] if there is none.
func (l *Limits) Get(ctx context.Context, name string) (Policy, error) {
	if err := discovery.ValidateLimit(name); err != nil {
		return Policy{}, err
	}
	l.activate()
	r, err := l.read(ctx, l.keys.Limit(name))
	if err != nil {
		return Policy{}, err
	}
	if len(r.Kvs) == 0 {
		return Policy{}, noSuchLimit(name)
	}
	p := l.policyOf(r.Kvs[0])
	if p.err != nil {
		return Policy{}, fmt.Errorf("limit %s: %w", name, p.err)
	}
	return p, nil
}

// List reads all limits from etcd, sorted by name, and returns etcd's revision with them.
// It leaves out limits that cannot be decoded, and logs them.
func (l *Limits) List(ctx context.Context) ([]Policy, int64, error) {
	l.activate()
	r, err := l.read(ctx, l.keys.Limits(), clientv3.WithPrefix())
	if err != nil {
		return nil, 0, err
	}
	policies := []Policy{}
	for _, kv := range r.Kvs {
		p := l.policyOf(kv)
		if p.err != nil {
			l.options.Logger.Warn("limit in etcd cannot be decoded; set it again", "limit", p.Name, "error", p.err)
			continue
		}
		policies = append(policies, p)
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
// reports that there was none. A new limit has its whole burst at once. It does not write a
// limit that is the same already. The error is a [discovery.ErrStorageFull] while etcd is
// nearly full.
func (l *Limits) Put(ctx context.Context, name string, limit discovery.Limit) (p Policy, created bool, err error) {
	limit = limit.WithDefaults()
	if err := limit.Validate(); err != nil {
		return Policy{}, false, err
	}
	if err := discovery.ValidateLimit(name); err != nil {
		return Policy{}, false, err
	}
	l.activate()
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	for {
		if err := l.checkLife(ctx); err != nil {
			return Policy{}, false, fmt.Errorf("put limit %s: %w", name, err)
		}
		is, err := l.read(ctx, l.keys.Limit(name))
		if err != nil {
			return Policy{}, false, err
		}
		before := Policy{Name: name}
		if len(is.Kvs) > 0 {
			if before = l.policyOf(is.Kvs[0]); before.err == nil && before.Limit == limit {
				return before, false, nil
			}
		}
		if p, ok, err := l.write(ctx, before, limit); ok || err != nil {
			return p, before.Created == 0, err
		}
	}
}

// checkLife makes sure that the present life of etcd has begun. A limit that is older than the
// life may have been restored: its burst counts as used.
func (l *Limits) checkLife(ctx context.Context) error {
	if l.options.Life == nil {
		return nil
	}
	_, err := l.options.Life.Check(ctx, l.client, life.Identity{})
	return err
}

// write replaces a policy, unless it has changed meanwhile. It opens the ledger of a new one.
func (l *Limits) write(ctx context.Context, before Policy, limit discovery.Limit) (p Policy, ok bool, err error) {
	key := l.keys.Limit(before.Name)
	value, err := json.Marshal(limit)
	if err != nil {
		return Policy{}, false, fmt.Errorf("encode limit %s: %w", before.Name, err)
	}
	opened, err := json.Marshal(openLedger(l.runID))
	if err != nil {
		return Policy{}, false, fmt.Errorf("encode ledger %s: %w", before.Name, err)
	}
	if err := l.options.Space.Check(ctx, len(value)+len(opened)); err != nil {
		return Policy{}, false, fmt.Errorf("put limit %s: %w", before.Name, err)
	}
	writes := []clientv3.Op{clientv3.OpPut(key, string(value))}
	if before.Created == 0 {
		writes = append(writes, clientv3.OpPut(l.keys.Ledger(before.Name), string(opened)))
	}
	r, err := l.client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", before.Revision)).Then(writes...).Commit()
	if err != nil {
		return Policy{}, false, fmt.Errorf("put limit %s: %w", before.Name, err)
	}
	p = Policy{Name: before.Name, Limit: limit, Created: cmp.Or(before.Created, r.Header.Revision), Revision: r.Header.Revision, replaced: before.Revision}
	if r.Succeeded {
		l.applyPolicy(p)
	}
	return p, r.Succeeded, nil
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
	l.applyPolicy(Policy{Name: name, Revision: r.Header.Revision})
	return r.Header.Revision, nil
}
