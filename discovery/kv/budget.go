package kv

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/etcd"
	"disc/discovery/reflector"
	"disc/discovery/retry"
)

const (
	// countInterval is the least time from one count of the keys to the next, in the whole
	// fleet. Counting takes at most one part in countShare of the time of etcd's member.
	countInterval = time.Minute
	countShare    = 100
	// countTimeout bounds a count. It ends before another agent may count.
	countTimeout = 50 * time.Second
	// firstCountTimeout bounds how long the first write waits for the count.
	firstCountTimeout = time.Second
	// refreshInterval is the time after which an agent that writes reads the count again.
	refreshInterval = 30 * time.Second
)

// budget bounds the keys of a namespace, and the bytes of their keys and values. It knows
// roughly how many there are: one agent counts them, at most once a minute, and writes the
// count to etcd, where all that write keys read it. To that each adds what it writes itself
// until it reads the next count.
//
// So writes go beyond the bounds by what the other agents write in the meantime: up to a
// minute and a half, or longer for a count that takes more than half a second.
//
// Who finds that nobody has counted lately counts. What tells it is a key on a lease, since
// clocks of hosts differ. An agent that writes no keys asks and counts nothing.
type budget struct {
	client         *clientv3.Client
	usageKey, turn string // where the count is; which exists while nobody is to count
	rng            reflector.Range
	maxBytes       discovery.Bytes // 0: any
	maxKeys        int64           // 0: any
	log            *slog.Logger
	refreshing     chan struct{} // semaphore of one
	denied         bool          // etcd denies the count; whoever has the semaphore uses it
	due            retry.Signal  // the count is to be read again

	mu        sync.Mutex
	refreshed time.Time // when the count was last read, or that was tried; zero: never
	revision  int64     // of the count in etcd that used is from
	used      usage
}

// usage is a count, as etcd has it.
type usage struct {
	Keys  int64              `json:"keys"`
	Bytes discovery.Bytes    `json:"bytes"` // of keys and values; 0 if they were not counted
	Took  discovery.Duration `json:"took"`
}

func newBudget(client *clientv3.Client, keys discovery.Keys, rng reflector.Range, o Options) *budget {
	return &budget{
		client: client, usageKey: keys.KVUsage(), turn: keys.KVCounted(), rng: rng, maxBytes: o.MaxBytes, maxKeys: o.MaxKeys,
		log: o.Logger, refreshing: make(chan struct{}, 1), due: retry.NewSignal(),
	}
}

// check returns an ErrStorageFull if no more keys may be written. It waits for etcd only
// before the first write.
func (b *budget) check(ctx context.Context) error {
	if b.maxBytes == 0 && b.maxKeys == 0 {
		return nil
	}
	b.mu.Lock()
	refreshed := b.refreshed
	b.mu.Unlock()
	switch {
	case refreshed.IsZero():
		ctx, cancel := context.WithTimeout(ctx, firstCountTimeout)
		defer cancel()
		b.refresh(ctx, refreshed)
	case time.Since(refreshed) >= refreshInterval:
		b.due.Notify()
	}
	return b.full()
}

// full returns an ErrStorageFull if as much is used as may be.
func (b *budget) full() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	const advice = "delete what is not needed, such as by 'disc kv del -r PREFIX/', or raise the setting; what others write and delete is counted once a minute"
	switch {
	case b.maxKeys > 0 && b.used.Keys >= b.maxKeys:
		return discovery.Errorf(discovery.ErrStorageFull, "key/value has %d keys, and kv.max_keys is %d: %s", b.used.Keys, b.maxKeys, advice)
	case b.maxBytes > 0 && b.used.Bytes >= b.maxBytes:
		return discovery.Errorf(discovery.ErrStorageFull, "key/value has %v of keys and values, and kv.max_bytes is %v: %s", b.used.Bytes, b.maxBytes, advice)
	}
	return nil
}

// written adds a write that etcd has made. before has each operation's key as it was.
func (b *budget) written(ops []Op, before []*mvccpb.KeyValue) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for n, op := range ops {
		if !op.Delete {
			b.used.Keys++
			b.used.Bytes += discovery.Bytes(len(op.Key) + len(op.Value))
		}
		if kv := before[n]; kv != nil {
			b.used.Keys--
			b.used.Bytes -= b.size(kv)
		}
	}
}

// deleted subtracts n keys of unknown sizes: each counts as an average one.
func (b *budget) deleted(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.used.Keys > 0 {
		b.used.Bytes -= b.used.Bytes * discovery.Bytes(n) / discovery.Bytes(b.used.Keys)
	}
	b.used.Keys -= n
}

// size returns the bytes of a key and its value, without the prefix of all keys.
func (b *budget) size(kv *mvccpb.KeyValue) discovery.Bytes {
	return discovery.Bytes(len(kv.Key) - len(b.rng.From) + len(kv.Value))
}

// run reads the count again, or counts, whenever it is due, until ctx ends.
func (b *budget) run(ctx context.Context) error {
	for {
		select {
		case <-b.due:
		case <-ctx.Done():
			return nil
		}
		b.mu.Lock()
		seen := b.refreshed
		b.mu.Unlock()
		b.refresh(ctx, seen)
	}
}

// refresh reads the count from etcd, and counts if that is due, unless somebody else has read
// it since it was seen to be refreshed. If it fails, the last count stays, and it is tried
// again after refreshInterval.
func (b *budget) refresh(ctx context.Context, seen time.Time) {
	select {
	case b.refreshing <- struct{}{}:
		defer func() { <-b.refreshing }()
	case <-ctx.Done():
		return
	}
	b.mu.Lock()
	again := b.refreshed.Equal(seen)
	b.mu.Unlock()
	if !again {
		return
	}
	err := b.readOrCount(ctx)
	level := slog.LevelDebug
	if denied := etcd.Refused(err) == etcd.RefusedPermission; denied != b.denied {
		b.denied = denied
		if denied {
			level = slog.LevelWarn // once: it stays so until an operator grants it
		}
	}
	if err != nil {
		b.log.Log(ctx, level, "cannot count the keys; kv.max_keys and kv.max_bytes go by an old count, if by any", "error", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refreshed = time.Now()
}

func (b *budget) readOrCount(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, countTimeout)
	defer cancel()
	r, err := b.client.Txn(ctx).Then(clientv3.OpGet(b.usageKey), clientv3.OpGet(b.turn, clientv3.WithCountOnly())).Commit()
	if err != nil {
		return err
	}
	var last usage
	for _, kv := range r.Responses[0].GetResponseRange().GetKvs() {
		if err := json.Unmarshal(kv.Value, &last); err == nil {
			b.adopt(last, kv.ModRevision)
		}
	}
	if r.Responses[1].GetResponseRange().GetCount() > 0 {
		return nil
	}
	turn, err := etcd.TakeTurn(ctx, b.client, b.turn, "", 0, max(countInterval, countShare*time.Duration(last.Took)))
	if err != nil || turn == clientv3.NoLease {
		return err
	}
	now, err := b.count(ctx)
	if err != nil {
		etcd.RevokeUnused(ctx, b.client, turn)
		return err
	}
	value, err := json.Marshal(now)
	if err != nil {
		return err
	}
	put, err := b.client.Put(ctx, b.usageKey, string(value))
	if err != nil {
		return err
	}
	b.adopt(now, put.Header.Revision)
	return nil
}

// adopt makes a count the one to go by. What was written since an earlier read of the same
// count stays added.
func (b *budget) adopt(count usage, revision int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.revision != revision {
		b.used, b.revision = count, revision
	}
}

// count counts the keys and, if they are bounded, their bytes. etcd knows the number of keys
// without reading them.
func (b *budget) count(ctx context.Context) (usage, error) {
	var now usage
	begun := time.Now()
	if b.maxBytes == 0 {
		r, err := b.client.Get(ctx, b.rng.From, clientv3.WithRange(b.rng.To), clientv3.WithCountOnly(), clientv3.WithSerializable())
		if err != nil {
			return usage{}, err
		}
		now.Keys = r.Count
	} else if err := scan(ctx, b.client, b.rng, func(page []*mvccpb.KeyValue) {
		now.Keys += int64(len(page))
		for _, kv := range page {
			now.Bytes += b.size(kv)
		}
	}); err != nil {
		return usage{}, err
	}
	now.Took = discovery.Duration(time.Since(begun).Round(time.Millisecond))
	return now, nil
}
