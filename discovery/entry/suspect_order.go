package entry

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/etcd"
)

// Instance names an instance of a service.
type Instance struct{ Service, ID string }

// SuspectOrders is the result of [Editor.OrderSuspects].
type SuspectOrders struct {
	Ordered []Instance
	Back    []Instance             // they are registered again, so that nothing was ordered
	Order   discovery.SuspectOrder // as it was written, with its times
}

// suspectBatch is the number of orders in one transaction: etcd takes 128 operations by default.
const suspectBatch = 50

// OrderSuspects orders all agents to drop or to keep instances that vanished together with many
// others. An order to drop stays in etcd for [discovery.SuspectDropTTL], and one to keep for a
// time up to [discovery.MaxSuspectKeep]. A later order on an instance takes the place of one
// before. What is registered again is left alone.
//
// ErrInvalid: the order or the time is out of range; ErrConflict: the namespace is below
// [discovery.LevelSuspectOrders], and nothing was ordered.
func (e Editor) OrderSuspects(ctx context.Context, order discovery.SuspectOrder, keep time.Duration, instances []Instance) (SuspectOrders, error) {
	ttl := discovery.SuspectDropTTL
	if order.Order == discovery.KeepSuspect {
		ttl = keep
	}
	if err := order.Validate(); err != nil {
		return SuspectOrders{}, err
	}
	if ttl < time.Second || ttl > discovery.MaxSuspectKeep {
		return SuspectOrders{}, discovery.Errorf(discovery.ErrInvalid, "suspects cannot be kept for %v; give 1s to %v", ttl, discovery.MaxSuspectKeep)
	}
	if err := e.SuspectOrdersAllowed(ctx); err != nil || len(instances) == 0 {
		return SuspectOrders{}, err
	}
	lease, err := e.Client.Grant(ctx, int64((ttl+time.Second-1)/time.Second))
	if err != nil {
		return SuspectOrders{}, fmt.Errorf("order suspects: %w", err)
	}
	order.At = time.Now().UTC().Truncate(time.Second)
	order.Until = order.At.Add(ttl)
	done := SuspectOrders{Order: order}
	replaced := map[clientv3.LeaseID]bool{}
	err = etcd.InBatches(instances, suspectBatch, func(batch []Instance) error {
		return e.writeOrders(ctx, string(order.Encode()), lease.ID, batch, &done, replaced)
	})
	if len(done.Ordered) == 0 && (err == nil || etcd.Refused(err).Final()) {
		e.revoke(ctx, lease.ID)
	}
	for before := range replaced {
		e.revokeUnused(ctx, before)
	}
	if err != nil {
		return done, fmt.Errorf("order suspects: %w", err)
	}
	return done, nil
}

// writeOrders writes an order on each instance that is not registered, in one transaction. It adds the
// leases of the orders that it replaces.
func (e Editor) writeOrders(ctx context.Context, value string, lease clientv3.LeaseID, instances []Instance, done *SuspectOrders, replaced map[clientv3.LeaseID]bool) error {
	ops := make([]clientv3.Op, len(instances))
	for n, i := range instances {
		gone := clientv3.Compare(clientv3.CreateRevision(e.Keys.Instance(i.Service, i.ID)), "=", 0)
		put := clientv3.OpPut(e.Keys.SuspectOrder(i.Service, i.ID), value, clientv3.WithLease(lease), clientv3.WithPrevKV())
		ops[n] = clientv3.OpTxn([]clientv3.Cmp{gone}, []clientv3.Op{put}, nil)
	}
	r, err := e.Client.Txn(ctx).Then(ops...).Commit()
	if err != nil {
		return err
	}
	for n, i := range instances {
		one := r.Responses[n].GetResponseTxn()
		if !one.GetSucceeded() {
			done.Back = append(done.Back, i)
			continue
		}
		done.Ordered = append(done.Ordered, i)
		if before := one.Responses[0].GetResponsePut().GetPrevKv().GetLease(); before != 0 {
			replaced[clientv3.LeaseID(before)] = true
		}
	}
	return nil
}

// revokeUnused revokes the lease of orders that were replaced, if no other key is on it. When that
// fails, the lease expires by itself.
func (e Editor) revokeUnused(ctx context.Context, lease clientv3.LeaseID) {
	left, err := e.Client.TimeToLive(ctx, lease, clientv3.WithAttachedKeys())
	if err == nil && left.GrantedTTL > 0 && len(left.Keys) == 0 {
		e.revoke(ctx, lease)
	}
}

// SuspectOrdersAllowed returns an [discovery.ErrConflict] if an agent of the namespace may not know
// orders on suspects.
func (e Editor) SuspectOrdersAllowed(ctx context.Context) error {
	r, err := e.Client.Get(ctx, e.Keys.Level())
	if err != nil {
		return fmt.Errorf("order suspects: read the feature level: %w", err)
	}
	level := discovery.LevelRecord{Level: discovery.LevelFirst}
	for _, kv := range r.Kvs {
		if level, err = discovery.DecodeLevel(kv.Value); err != nil {
			return fmt.Errorf("order suspects: %s: %w; delete the key, and the agents write the level that they know", e.Keys.Level(), err)
		}
	}
	if level.Level < discovery.LevelSuspectOrders {
		return discovery.Errorf(discovery.ErrConflict, "the suspects stay as they are: the feature level of the namespace is %d, and orders on them need %d, "+
			"since an agent of an earlier version cannot read them; 'disc status' names the agents to upgrade. Without an order a suspect stays for 10 minutes, or until a probe fails",
			level.Level, discovery.LevelSuspectOrders)
	}
	return nil
}
