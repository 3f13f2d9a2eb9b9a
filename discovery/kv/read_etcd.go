package kv

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"sync"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/reflector"
)

// keysPerRead is the number of keys of one transaction; etcd accepts at most 128.
const keysPerRead = 100

// sharedBytes is a number of bytes that several lists share.
type sharedBytes struct {
	most int64
	mu   sync.Mutex
	used int64
}

// take reports whether there are n bytes left, and takes them; a negative n gives them back.
func (b *sharedBytes) take(n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n > b.most-b.used {
		return false
	}
	b.used += n
	return true
}

// readEtcd reads ranges from etcd at one revision. etcd has every write that it answered. So if
// it is below r.MinRevision, that is another etcd's, and the error comes with the revision of
// this one.
func (s *Store) readEtcd(ctx context.Context, ranges []reflector.Range, r Read) (iter.Seq[Item], Freshness, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var items []Item
	var revision int64
	var err error
	if isKey(ranges[0]) {
		items, revision, err = s.readKeys(ctx, ranges)
	} else {
		items, revision, err = s.list(ctx, ranges[0], r.KeysOnly)
	}
	if err != nil {
		return nil, Freshness{}, err
	}
	if revision < r.MinRevision {
		return nil, Freshness{Revision: revision}, discovery.Errorf(discovery.ErrUnavailable,
			"etcd is at revision %d, below the requested %d, which it never answered, or lost in a restore; read without a revision", revision, r.MinRevision)
	}
	return slices.Values(items), Freshness{Revision: revision, Index: revision}, nil
}

// readKeys reads single keys from etcd: in one transaction or, if there are many, in several at
// the revision of the first.
func (s *Store) readKeys(ctx context.Context, keys []reflector.Range) (items []Item, revision int64, err error) {
	var size int64
	defer func() { s.lists.take(-size) }()
	for some := range slices.Chunk(keys, keysPerRead) {
		ops := make([]clientv3.Op, len(some))
		for n, key := range some {
			ops[n] = clientv3.OpGet(key.From, clientv3.WithRev(revision))
		}
		txn, err := s.client.Txn(ctx).Then(ops...).Commit()
		if err != nil {
			return nil, 0, fmt.Errorf("read key %q: %w", s.displayName(some[0]), err)
		}
		if revision == 0 {
			revision = txn.Header.Revision
		}
		for _, resp := range txn.Responses {
			kvs := resp.GetResponseRange().GetKvs()
			if err := s.admitList(kvs, &size, "all these keys", "read fewer at once"); err != nil && len(keys) > 1 {
				return nil, 0, err
			}
			for _, kv := range kvs {
				items = append(items, itemOf(kv))
			}
		}
	}
	return items, revision, nil
}

// list lists a range from etcd, or only its keys. It does not read the rest of one that is too large.
func (s *Store) list(ctx context.Context, r reflector.Range, keysOnly bool) ([]Item, int64, error) {
	var opts []clientv3.OpOption
	if keysOnly {
		opts = append(opts, clientv3.WithKeysOnly())
	}
	var items []Item
	var size int64
	defer func() { s.lists.take(-size) }()
	var refused error
	at, err := reflector.List(ctx, s.client, r, func(page []*mvccpb.KeyValue) error {
		if refused = s.admitList(page, &size, fmt.Sprintf("the keys below %q", s.displayName(r)), "list a longer prefix, the keys without their values, or read single keys"); refused != nil {
			return refused
		}
		for _, kv := range page {
			items = append(items, itemOf(kv))
		}
		return nil
	}, opts...)
	if refused != nil {
		return nil, 0, refused
	}
	return items, at.Revision, err
}

// admitList counts a page of a list that had a size before. It returns an error if the list is
// too large, or too much is read at the same time. It names what is listed, and what to do.
func (s *Store) admitList(page []*mvccpb.KeyValue, size *int64, what, instead string) error {
	var n int64
	for _, kv := range page {
		n += itemCost(len(kv.Key), len(kv.Value))
	}
	switch {
	case *size+n > s.lists.most:
		return discovery.Errorf(discovery.ErrInvalid, "%s have more than %d bytes, the most that is read at once; %s", what, s.lists.most, instead)
	case !s.lists.take(n):
		return discovery.Errorf(discovery.ErrUnavailable, "%s cannot be read now: other lists have taken nearly all of the %d bytes that are read from etcd at the same time; try again", what, s.lists.most)
	}
	*size += n
	return nil
}
