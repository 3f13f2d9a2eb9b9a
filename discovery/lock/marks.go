package lock

import (
	"context"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery/lease"
)

// mark is a holder's key that was written again since it was created, as a break does.
type mark struct {
	modRevision int64
	since       time.Duration // uptime at which this manager has first seen it
}

// maxMarks bounds the marks that a manager remembers.
const maxMarks = 10_000

// noteMark records that a holder's key was written again, if that is new.
func (m *Manager) noteMark(key string, modRevision int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	known, ok := m.marks[key]
	if ok && known.modRevision == modRevision || !ok && len(m.marks) >= maxMarks {
		return
	}
	m.marks[key] = mark{modRevision, lease.Uptime()}
	m.marked.Notify()
}

// noteMarks records those of the keys ahead of a waiter that were written again.
func (m *Manager) noteMarks(kvs []*mvccpb.KeyValue) {
	for _, kv := range kvs {
		if kv.ModRevision > kv.CreateRevision {
			m.noteMark(string(kv.Key), kv.ModRevision)
		}
	}
}

// markLoop removes marked keys whose holders cannot rely on them any more, until ctx ends.
func (m *Manager) markLoop(ctx context.Context) {
	for {
		next := time.NewTimer(m.removeMarked(ctx))
		select {
		case <-m.marked:
		case <-next.C:
		case <-ctx.Done():
			next.Stop()
			return
		}
		next.Stop()
	}
}

// removeMarked removes the keys that this manager has known to be marked for longer than any promise, and
// returns the time until it is to be called again.
func (m *Manager) removeMarked(ctx context.Context) time.Duration {
	now, atMost := lease.Uptime(), m.life.Quarantine()
	next := time.Hour
	due := map[string]mark{}
	m.mu.Lock()
	for key, k := range m.marks {
		if left := k.since + atMost - now; left > 0 {
			next = min(next, left, maxExpiryInterval) // a host may be suspended meanwhile
		} else {
			due[key] = k
		}
	}
	m.mu.Unlock()
	for key, k := range due {
		if err := m.removeIfMarked(ctx, key, k.modRevision); err != nil {
			m.log.Warn("cannot remove the key of a broken lock; trying again", "key", key, "error", err)
			next = min(next, orphanInterval)
			continue
		}
		m.mu.Lock()
		if m.marks[key] == k {
			delete(m.marks, key)
		}
		m.mu.Unlock()
	}
	return next
}

// removeIfMarked removes a key that has the mark of a break and is unchanged since a revision.
func (m *Manager) removeIfMarked(ctx context.Context, key string, modRevision int64) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	r, err := m.client.Get(ctx, key)
	if err != nil {
		return fmt.Errorf("read %s: %w", key, err)
	}
	if len(r.Kvs) == 0 || r.Kvs[0].ModRevision != modRevision || brokenMark(r.Kvs[0].Value) == nil {
		return nil
	}
	_, err = m.client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", modRevision)).
		Then(clientv3.OpDelete(key)).Commit()
	if err != nil {
		return fmt.Errorf("remove %s: %w", key, err)
	}
	return nil
}
