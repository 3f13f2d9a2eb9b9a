package lock

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery/etcd"
	"disc/discovery/lease"
	"disc/discovery/retry"
)

const (
	// outcomeUnknownTime is the time for which a call that was not answered may still be
	// carried out: far longer than etcd keeps a request.
	outcomeUnknownTime = time.Minute
	// orphanInterval is the time between two searches for orphans during that time.
	orphanInterval = 5 * time.Second
)

// transact sends, within callTimeout, the transaction that build makes for the base of the fences.
// It is carried out only in the present life of etcd, and not during a quarantine: the error is
// else [life.Uncertain]. ErrUnavailable: etcd does not know the session's lease.
func (g *Grant) transact(ctx context.Context, build func(base int64) clientv3.Op) (*clientv3.TxnResponse, error) {
	m := g.manager
	for {
		guard, err := m.life.Guard()
		if err != nil {
			return nil, err
		}
		sent := lease.Uptime()
		r, err := g.call(ctx, func(t clientv3.Txn) clientv3.Txn { return t.If(guard.Compares()...).Then(build(guard.Base())) })
		if err != nil {
			return nil, err
		}
		if r.Succeeded {
			m.mu.Lock()
			defer m.mu.Unlock()
			g.guard, g.sent = guard, sent
			answer := (*clientv3.TxnResponse)(r.Responses[0].GetResponseTxn())
			answer.Header = r.Header
			return answer, nil
		}
		if err := m.life.Refused(ctx); err != nil {
			return nil, err
		}
	}
}

// expectOrphans records that keys may appear in etcd that belong to no grant.
func (m *Manager) expectOrphans() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.outcomeUnknownAt = lease.Uptime()
}

// call sends a transaction for a grant, within callTimeout. It records that orphans may appear if
// the outcome is unknown. ErrUnavailable: etcd does not know the session's lease.
func (g *Grant) call(ctx context.Context, build func(clientv3.Txn) clientv3.Txn) (*clientv3.TxnResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	m := g.manager
	m.metrics.calls.WithLabelValues(g.kind).Inc()
	known := m.life.Present()
	r, err := build(m.client.Txn(ctx)).Commit()
	if err == nil {
		if err := known.Check(r.Header); err != nil {
			m.expectOrphans()
			return nil, err
		}
		return r, nil
	}
	m.metrics.failures.Inc()
	if !etcd.Refused(err).Final() {
		m.expectOrphans()
	}
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return nil, g.verifySession()
	}
	return nil, err
}

// deleteKey deletes the key of a released grant, and reports whether etcd still had it. After
// an error, the key is removed as an orphan.
func (m *Manager) deleteKey(ctx context.Context, g *Grant) (deleted bool, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	m.mu.Lock()
	key, created, resource := g.key, g.created, g.resource
	m.mu.Unlock()
	r, err := g.call(ctx, func(t clientv3.Txn) clientv3.Txn {
		return t.If(clientv3.Compare(clientv3.CreateRevision(key), "=", created)).Then(clientv3.OpDelete(key))
	})
	if err != nil {
		m.orphans.Notify()
		return false, err
	}
	if resource != nil && r.Succeeded {
		resource.Released(key, created, r.Header.Revision)
	}
	return r.Succeeded, nil
}

// orphanLoop removes orphans when there may be some, until ctx ends.
func (m *Manager) orphanLoop(ctx context.Context) {
	var backoff retry.Backoff
	again := time.NewTicker(orphanInterval)
	defer again.Stop()
	for {
		select {
		case <-m.orphans:
		case <-again.C:
			if !m.orphansExpected() {
				continue
			}
		case <-ctx.Done():
			return
		}
		for {
			err := m.removeOrphans(ctx)
			if err == nil {
				backoff.Reset()
				break
			}
			if backoff.Failed() && ctx.Err() == nil {
				m.log.Warn("cannot remove the keys of ended locks and claims; trying again", "failures", backoff.Failures(), "error", err)
			}
			if backoff.Wait(ctx) != nil {
				return
			}
		}
	}
}

// orphansExpected reports whether a call whose outcome is unknown may still be carried out.
func (m *Manager) orphansExpected() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.outcomeUnknownAt > 0 && lease.Uptime() < m.outcomeUnknownAt+outcomeUnknownTime
}

// removeOrphans deletes the keys under the session's lease that belong to no grant.
func (m *Manager) removeOrphans(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	current, _ := m.session.Lease()
	if current.ID == 0 {
		return nil // without a lease there are no keys
	}
	released := m.unconfirmed()
	attached, err := m.client.TimeToLive(ctx, current.ID, clientv3.WithAttachedKeys())
	if err != nil {
		return fmt.Errorf("list the keys of lease %x: %w", int64(current.ID), err)
	}
	live := m.liveKeys()
	for _, key := range attached.Keys {
		if key := string(key); m.ownsKey(key) && !live[key] {
			if err := m.removeOrphan(ctx, current.ID, key); err != nil {
				return err
			}
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range released {
		delete(m.releasing, id)
	}
	return nil
}

// unconfirmed returns the ids of released grants whose keys are removed as orphans.
func (m *Manager) unconfirmed() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var ids []string
	for id, deleting := range m.releasing {
		if !deleting {
			ids = append(ids, id)
		}
	}
	return ids
}

// ownsKey reports whether a key has the prefix of an issuer.
func (m *Manager) ownsKey(key string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.ContainsFunc(m.prefixes, func(p string) bool { return strings.HasPrefix(key, p) })
}

// liveKeys returns the known keys of all grants that have not ended.
func (m *Manager) liveKeys() map[string]bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	keys := map[string]bool{}
	for _, g := range m.grants {
		if g.phase != ended {
			keys[g.key] = true
		}
	}
	return keys
}

// removeOrphan deletes a key if its value belongs to no grant. The key may have another
// value than when it was listed: a caller of this or another agent may have got it since.
func (m *Manager) removeOrphan(ctx context.Context, lease clientv3.LeaseID, key string) error {
	r, err := m.client.Get(ctx, key)
	if err != nil {
		return fmt.Errorf("read %s: %w", key, err)
	}
	if len(r.Kvs) == 0 || r.Kvs[0].Lease != int64(lease) {
		return nil
	}
	var owner KeyOwner
	if json.Unmarshal(r.Kvs[0].Value, &owner) == nil && m.isLive(owner.ID) {
		return nil
	}
	_, err = m.client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", r.Kvs[0].ModRevision)).
		Then(clientv3.OpDelete(key)).Commit()
	if err != nil {
		return fmt.Errorf("remove %s: %w", key, err)
	}
	m.metrics.orphans.Inc()
	return nil
}

// isLive reports whether the grant of an id has not ended, or its key is being deleted.
func (m *Manager) isLive(id string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	g, ok := m.grants[id]
	return ok && g.phase != ended || m.releasing[id]
}
