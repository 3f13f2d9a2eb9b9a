package claim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"disc/discovery/lease"
	"disc/discovery/retry"
)

const (
	// outcomeUnknownTime is for how long a call that was not answered may still be carried out:
	// far longer than etcd keeps a request.
	outcomeUnknownTime = time.Minute
	// orphanInterval is how often is swept in that time.
	orphanInterval = 5 * time.Second
)

// mark is what the values of all keys of this package have in common.
type mark struct {
	ID string `json:"id"`
}

// transact sends a transaction, and notes when it is not known what became of it.
func (h *Manager) transact(ctx context.Context, kind Kind, txn func(clientv3.Txn) clientv3.Txn) (*clientv3.TxnResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	h.metrics.calls.WithLabelValues(string(kind)).Inc()
	r, err := txn(h.client.Txn(ctx)).Commit()
	if err == nil {
		return r, nil
	}
	h.metrics.failures.Inc()
	if !refused(err) {
		h.mu.Lock()
		h.outcomeUnknownAt = lease.Uptime()
		h.mu.Unlock()
	}
	return nil, err
}

// refused reports whether etcd has answered, and will not answer otherwise when it is
// asked again.
func refused(err error) bool {
	code := status.Code(err)
	var said rpctypes.EtcdError
	if errors.As(err, &said) {
		code = said.Code()
	}
	switch code {
	case codes.PermissionDenied, codes.InvalidArgument, codes.NotFound, codes.ResourceExhausted, codes.FailedPrecondition:
		return true
	}
	return false
}

// remove takes the key of a grant out of etcd, and reports whether it did; else the
// sweep will.
func (h *Manager) remove(ctx context.Context, g *Grant) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	h.mu.Lock()
	key, fence, claim := g.key, g.fence, g.claim
	h.mu.Unlock()
	r, err := h.transact(ctx, g.kind, func(t clientv3.Txn) clientv3.Txn {
		return t.If(clientv3.Compare(clientv3.CreateRevision(key), "=", fence)).Then(clientv3.OpDelete(key))
	})
	if err != nil {
		signal(h.orphans)
		return false
	}
	if claim != nil && r.Succeeded {
		claim.slots.release(key, fence, r.Header.Revision)
	}
	return true
}

// orphanLoop sweeps when there may be something, until ctx ends.
func (h *Manager) orphanLoop(ctx context.Context) {
	var retry retry.Backoff
	again := time.NewTicker(orphanInterval)
	defer again.Stop()
	for {
		select {
		case <-h.orphans:
		case <-again.C:
			if !h.orphansExpected() {
				continue
			}
		case <-ctx.Done():
			return
		}
		for {
			err := h.removeOrphans(ctx)
			if err == nil {
				retry.Reset()
				break
			}
			if retry.Failed() && ctx.Err() == nil {
				h.log.Warn("what is left of ended locks and claims is not cleared away; trying again", "failures", retry.Failures(), "error", err)
			}
			if retry.Wait(ctx) != nil {
				return
			}
		}
	}
}

func (h *Manager) orphansExpected() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.outcomeUnknownAt > 0 && lease.Uptime() < h.outcomeUnknownAt+outcomeUnknownTime
}

// removeOrphans takes out of etcd what lies under the session's lease and belongs to no grant.
func (h *Manager) removeOrphans(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	current, _ := h.session.Lease()
	if current.ID == 0 {
		return nil // nothing lies under it
	}
	attached, err := h.client.TimeToLive(ctx, current.ID, clientv3.WithAttachedKeys())
	if err != nil {
		return fmt.Errorf("list the keys of lease %x: %w", int64(current.ID), err)
	}
	mine := h.liveKeys()
	for _, key := range attached.Keys {
		if key := string(key); h.ownsKey(key) && !mine[key] {
			if err := h.removeOrphan(ctx, current.ID, key); err != nil {
				return err
			}
		}
	}
	return nil
}

// ownsKey reports whether a key is of this package.
func (h *Manager) ownsKey(key string) bool {
	return strings.HasPrefix(key, h.keys.Locks()) || strings.HasPrefix(key, h.keys.Claims())
}

// liveKeys are the keys that callers hold.
func (h *Manager) liveKeys() map[string]bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	keys := map[string]bool{}
	for _, g := range h.grants {
		if g.phase != ended {
			keys[g.key] = true
		}
	}
	return keys
}

// removeOrphan takes a key out if its value belongs to no grant. A caller, of this agent or
// of another, may have got the same key since it was listed.
func (h *Manager) removeOrphan(ctx context.Context, lease clientv3.LeaseID, key string) error {
	r, err := h.client.Get(ctx, key)
	if err != nil {
		return fmt.Errorf("read %s: %w", key, err)
	}
	if len(r.Kvs) == 0 || r.Kvs[0].Lease != int64(lease) {
		return nil
	}
	var m mark
	if json.Unmarshal(r.Kvs[0].Value, &m) == nil && h.alive(m.ID) {
		return nil
	}
	_, err = h.client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", r.Kvs[0].ModRevision)).
		Then(clientv3.OpDelete(key)).Commit()
	if err != nil {
		return fmt.Errorf("remove %s: %w", key, err)
	}
	h.metrics.strays.Inc()
	return nil
}

// alive reports whether a grant is asked for or held.
func (h *Manager) alive(id string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	g, ok := h.grants[id]
	return ok && g.phase != ended
}
