package lock

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
)

// MaxListed is the largest number of keys that one list reads.
const MaxListed = 10_000

// Queue is the state of a lock in etcd: who holds it, and who waits for it, both in the order
// of their requests.
type Queue struct {
	Name      string
	Shared    int // how many may hold it at once
	Holders   []Caller
	Waiters   []Caller
	Truncated bool // there are more waiters
}

// Caller is somebody who holds a lock or waits for it.
type Caller struct {
	Holder string    // the short form of the id, see [ShortID]
	Node   string    // of its agent; empty: unknown
	Asked  time.Time // when it asked for the lock; zero: unknown
	Fence  int64
	Broken *Broken // nil: the lock is not broken

	id          string
	key         string
	value       []byte
	lease       clientv3.LeaseID
	modRevision int64
}

// shortLength is the length of the random part of an id in its short form.
const shortLength = 6

// ShortID returns the short form of the id of a grant, which is enough to tell it from others
// and not enough to renew or release it: the session, and the first random characters.
func ShortID(id string) string {
	session, random, _ := strings.Cut(id, "-")
	return session + "-" + random[:min(len(random), shortLength)]
}

// List reads all locks that somebody holds or waits for, sorted by name, at one revision.
// truncated is true if there are more than [MaxListed] keys: then locks are missing.
func (m *Manager) List(ctx context.Context) (queues []Queue, truncated bool, err error) {
	kvs, truncated, err := ListKeys(ctx, m.client, m.keys.Locks())
	if err != nil {
		return nil, false, fmt.Errorf("list the locks: %w", err)
	}
	byName := map[string][]*mvccpb.KeyValue{}
	last := ""
	for _, kv := range kvs {
		name, _, ok := strings.Cut(strings.TrimPrefix(string(kv.Key), m.keys.Locks()), "/")
		if ok {
			last, byName[name] = name, append(byName[name], kv)
		}
	}
	if truncated && len(byName) > 1 {
		delete(byName, last) // its first holder may be among the missing keys
	}
	for name, kvs := range byName {
		queues = append(queues, newQueue(m.keys, name, kvs))
	}
	slices.SortFunc(queues, func(a, b Queue) int { return cmp.Compare(a.Name, b.Name) })
	return queues, truncated, nil
}

// listPage is the number of keys that one call of [ListKeys] reads.
const listPage = 1000

// ListKeys reads the keys under a prefix at one revision, in their order, up to [MaxListed].
func ListKeys(ctx context.Context, client *clientv3.Client, prefix string) (kvs []*mvccpb.KeyValue, truncated bool, err error) {
	from, revision := prefix, int64(0)
	for len(kvs) < MaxListed {
		page, err := readPage(ctx, client, from, clientv3.GetPrefixRangeEnd(prefix), revision)
		if err != nil {
			return nil, false, err
		}
		kvs = append(kvs, page.Kvs...)
		if !page.More {
			return kvs, false, nil
		}
		from, revision = string(kvs[len(kvs)-1].Key)+"\x00", cmp.Or(revision, page.Header.Revision)
	}
	return kvs, true, nil
}

// readPage reads a page of keys at a revision; 0: the newest.
func readPage(ctx context.Context, client *clientv3.Client, from, to string, revision int64) (*clientv3.GetResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return client.Get(ctx, from, clientv3.WithRange(to), clientv3.WithLimit(listPage), clientv3.WithRev(revision))
}

// Queue reads a lock. ErrNotFound: nobody holds it.
func (m *Manager) Queue(ctx context.Context, name string) (Queue, error) {
	return ReadQueue(ctx, m.client, m.keys, name)
}

// ReadQueue reads a lock. ErrInvalid: that is no name of a lock; ErrNotFound: nobody holds it.
func ReadQueue(ctx context.Context, client *clientv3.Client, keys discovery.Keys, name string) (Queue, error) {
	if err := discovery.ValidateLock(name); err != nil {
		return Queue{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	r, err := client.Get(ctx, keys.Lock(name), clientv3.WithPrefix(), clientv3.WithLimit(MaxListed),
		clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend))
	if err != nil {
		return Queue{}, fmt.Errorf("read lock %q: %w", name, err)
	}
	if len(r.Kvs) == 0 {
		return Queue{}, discovery.Errorf(discovery.ErrNotFound, "nobody holds lock %q; see 'disc lock list'", name)
	}
	q := newQueue(keys, name, r.Kvs)
	q.Truncated = r.More
	return q, nil
}

// newQueue returns the queue that the keys of a lock are.
func newQueue(keys discovery.Keys, name string, kvs []*mvccpb.KeyValue) Queue {
	slices.SortFunc(kvs, func(a, b *mvccpb.KeyValue) int { return cmp.Compare(a.CreateRevision, b.CreateRevision) })
	q := Queue{Name: name}
	for n, kv := range kvs {
		c, shared := newCaller(strings.TrimPrefix(string(kv.Key), keys.Lock(name)), kv)
		if n == 0 {
			q.Shared = min(max(shared, 1), MaxShared)
		}
		if n < q.Shared {
			q.Holders = append(q.Holders, c)
		} else {
			q.Waiters = append(q.Waiters, c)
		}
	}
	return q
}

// newCaller returns the caller that has a key, as far as its value can be read. shared is the
// number of holders that it asked for.
func newCaller(id string, kv *mvccpb.KeyValue) (c Caller, shared int) {
	c = Caller{
		Holder: ShortID(id), Fence: kv.CreateRevision,
		id: id, key: string(kv.Key), value: kv.Value, lease: clientv3.LeaseID(kv.Lease), modRevision: kv.ModRevision,
	}
	var s record
	if json.Unmarshal(kv.Value, &s) != nil {
		return c, 1
	}
	if discovery.ValidateNode(s.Node) == nil {
		c.Node = s.Node
	}
	c.Asked, c.Broken = s.Asked, s.Broken
	c.Fence += s.Base
	return c, s.Shared
}
