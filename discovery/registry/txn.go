package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery/etcd"
	"disc/discovery/life"
)

// callTimeout returns how long a call of etcd may take before it is retried, perhaps at
// another member: 2 s at first, in case the member hangs, and up to 5 s after failures, in
// case etcd is slow.
func (r *Registry) callTimeout() time.Duration {
	return min(2*time.Second<<min(r.backoff.Failures(), 2), 5*time.Second)
}

// tombstoneTTL is how long a tombstone stays, in seconds, so that a reader that lists later
// can still tell a departure from a death.
const tombstoneTTL = 60

// epochPoll is the time until the agent's own record is attempted again that waits for the epoch.
const epochPoll = 100 * time.Millisecond

// attemptNode writes the agent's own record, unless it was written under the lease, or etcd has
// refused it and its next attempt is not due. It waits for the epoch: who writes the first one takes an
// agent that is there already for one of an earlier version.
func (r *Registry) attemptNode(ctx context.Context, current clientv3.LeaseID, refused *refusals) error {
	r.mu.Lock()
	waits := r.nodeLease == current || !r.nodeAttempt.due(time.Now())
	if !waits && r.life != nil && !r.life.Known() {
		r.nodeAttempt.at, waits = time.Now().Add(epochPoll), true
	}
	r.mu.Unlock()
	if waits {
		return nil
	}
	err := r.writeNode(ctx, current)
	r.mu.Lock()
	defer r.mu.Unlock()
	if !isRefusal(err) {
		r.nodeAttempt = attempt{}
		return err
	}
	r.retries.refused(&r.nodeAttempt, time.Now())
	refused.add(err, r.nodeAttempt)
	return nil
}

// writeNode writes the agent's own record under the lease.
func (r *Registry) writeNode(ctx context.Context, current clientv3.LeaseID) error {
	value, err := json.Marshal(r.identity.Node)
	if err != nil {
		return fmt.Errorf("encode node %s: %w", r.identity.Node.Node, err)
	}
	ctx, cancel := context.WithTimeout(ctx, r.callTimeout())
	defer cancel()
	key := r.keys.Node(r.identity.Node.Node, r.identity.Owner)
	var known life.Guard
	if r.life != nil {
		known = r.life.Present()
	}
	put, err := r.client.Put(ctx, key, string(value), clientv3.WithLease(current))
	if err != nil {
		return fmt.Errorf("write node %s: %w", r.identity.Node.Node, err)
	}
	if r.life != nil {
		r.life.Wrote(known, key, put.Header.Revision)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.nodeLease, r.nodeRevision = current, put.Header.Revision
	return nil
}

// read reads the keys of a batch and observes them.
func (r *Registry) read(ctx context.Context, batch []*draft) error {
	ctx, cancel := context.WithTimeout(ctx, r.callTimeout())
	defer cancel()
	resp, err := r.client.Txn(ctx).Then(gets(batch)...).Commit()
	if err != nil {
		return fmt.Errorf("read %s: %w", describe(batch), err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.observe(batch, resp)
	return nil
}

// write puts the records of a batch, if no key has changed since it was last seen.
func (r *Registry) write(ctx context.Context, batch []*draft, under clientv3.LeaseID) error {
	return r.compareAndSwap(ctx, batch, under, func(d *draft, revision int64) {
		d.modRevision, d.observedRevision, d.lease, d.observed = revision, revision, under, true
		d.writtenGeneration, d.created = d.generation, d.compared == 0
		if d.desired.generation == d.generation {
			d.instance = d.record
		}
		r.metrics.writes.Inc()
	})
}

// writeTombstones marks the records of a batch as leaving, under a lease that expires. Where etcd does
// not permit to delete the load report of one, the report stays until its lease ends.
func (r *Registry) writeTombstones(ctx context.Context, batch []*draft) error {
	granting, cancel := context.WithTimeout(ctx, r.callTimeout())
	defer cancel()
	grant, err := r.client.Grant(granting, tombstoneTTL)
	if err != nil {
		return fmt.Errorf("deregister %s: grant lease: %w", describe(batch), err)
	}
	written := false
	done := func(d *draft, revision int64) {
		written = true
		d.modRevision, d.observedRevision, d.lease, d.writtenGeneration = revision, revision, grant.ID, 0
		if d.leaving {
			r.forget(d.desired, revision)
		}
	}
	err = r.compareAndSwap(ctx, batch, grant.ID, done)
	if len(batch) == 1 && batch[0].deletesLoad() && etcd.Refused(err) == etcd.RefusedPermission {
		batch[0].load.sent = false // of the draft
		err = r.compareAndSwap(ctx, batch, grant.ID, done)
	}
	if !written && (err == nil || isRefusal(err)) {
		revoking, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.callTimeout())
		defer cancel()
		_, _ = r.client.Revoke(revoking, grant.ID) // no key uses it; if that fails, it expires by itself
	}
	return err
}

// compareAndSwap puts the records of a batch under a lease, if no key has changed since it
// was last seen, and deletes the load reports of tombstones. It calls done, with r.mu held,
// for each draft that is in etcd, with the revision of its write. If a compare failed, all
// instances of the batch observe their keys.
func (r *Registry) compareAndSwap(ctx context.Context, batch []*draft, under clientv3.LeaseID, done func(d *draft, revision int64)) error {
	ctx, cancel := context.WithTimeout(ctx, r.callTimeout())
	defer cancel()
	resp, err := r.client.Txn(ctx).If(r.compares(batch)...).Then(r.puts(batch, under)...).Else(gets(batch)...).Commit()
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		for _, d := range batch {
			d.outcomeUnknown = d.outcomeUnknown || !isRefusal(err) && !errors.Is(err, rpctypes.ErrLeaseNotFound)
		}
		return fmt.Errorf("write %s: %w", describe(batch), err)
	}
	if !resp.Succeeded {
		r.observe(batch, resp)
	}
	for n, d := range batch {
		if !r.has(d.desired) {
			continue
		}
		if resp.Succeeded {
			d.outcomeUnknown = false // an earlier write that arrives now fails its compare
			done(d, resp.Header.Revision)
		} else if kv := kvOf(resp, n); kv != nil && string(kv.Value) == d.value && kv.Lease == int64(under) {
			done(d, kv.ModRevision) // it was written, but the answer was lost
		}
	}
	return nil
}

// compares returns the condition that no key of a batch has changed since it was last seen.
func (r *Registry) compares(batch []*draft) []clientv3.Cmp {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []clientv3.Cmp
	for _, d := range batch {
		all = append(all, clientv3.Compare(clientv3.ModRevision(d.key), "=", d.modRevision))
	}
	return all
}

func (r *Registry) puts(batch []*draft, under clientv3.LeaseID) []clientv3.Op {
	var all []clientv3.Op
	for _, d := range batch {
		all = append(all, clientv3.OpPut(d.key, d.value, clientv3.WithLease(under)))
		if d.deletesLoad() {
			all = append(all, clientv3.OpDelete(r.keys.Load(d.record.Service, d.record.ID)))
		}
	}
	return all
}

func gets(batch []*draft) []clientv3.Op {
	var all []clientv3.Op
	for _, d := range batch {
		all = append(all, clientv3.OpGet(d.key))
	}
	return all
}

// kvOf returns the key of draft n from the answer to gets; nil: it does not exist.
func kvOf(resp *clientv3.TxnResponse, n int) *mvccpb.KeyValue {
	for _, kv := range resp.Responses[n].GetResponseRange().GetKvs() {
		return kv
	}
	return nil
}

// observe updates the instances of a batch from the answer to gets, and logs conflicts and
// repairs. r.mu is held.
func (r *Registry) observe(batch []*draft, resp *clientv3.TxnResponse) {
	var altered []*draft
	for n, d := range batch {
		if !r.has(d.desired) {
			continue // it left while the answer was on its way
		}
		wasWritten, wasInConflict := d.writtenGeneration != 0 && d.lease == r.currentLease.ID, d.conflict != nil
		d.desired.observe(kvOf(resp, n), resp.Header.Revision, r.identity, time.Now(), r.currentLease.TTL)
		switch {
		case d.leaving && (d.conflict != nil || d.modRevision == 0 && !d.outcomeUnknown):
			r.forget(d.desired, resp.Header.Revision)
		case d.conflict != nil && !wasInConflict:
			r.metrics.conflicts.Inc()
			r.log.Warn("instance is not registered: another agent has registered it", "service", d.record.Service,
				"instance", d.record.ID, "holder_node", d.conflict.Node, "holder_owner", d.conflict.Owner, "cloned", d.conflict.Cloned)
		case wasWritten && d.conflict == nil && d.writtenGeneration == 0:
			altered = append(altered, d)
		}
	}
	if len(altered) > 0 {
		r.metrics.repairs.Add(float64(len(altered)))
		r.log.Warn("records in etcd were removed or altered; writing them again", "instances", describe(altered))
	}
}
