package etcd

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// revokeTimeout bounds a call of RevokeUnused.
const revokeTimeout = 5 * time.Second

// TakeTurn writes a key under a new lease, so that of many agents one does something at a time. It
// does so only if the key's revision is still seen; 0: there is none. lasts, in whole seconds, is
// when the turn ends by itself. The lease is [clientv3.NoLease] where another agent has the turn, and
// after an error.
func TakeTurn(ctx context.Context, client *clientv3.Client, key, value string, seen int64, lasts time.Duration) (clientv3.LeaseID, error) {
	lease, err := client.Grant(ctx, int64(lasts/time.Second))
	if err != nil {
		return clientv3.NoLease, err
	}
	r, err := client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", seen)).
		Then(clientv3.OpPut(key, value, clientv3.WithLease(lease.ID))).Commit()
	if err != nil || !r.Succeeded {
		RevokeUnused(ctx, client, lease.ID)
		return clientv3.NoLease, err
	}
	return lease.ID, nil
}

// RevokeUnused ends a lease: that of a turn, so that another agent takes it, or one that no key uses. It
// may be called after ctx has ended.
func RevokeUnused(ctx context.Context, client *clientv3.Client, lease clientv3.LeaseID) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), revokeTimeout)
	defer cancel()
	_, _ = client.Revoke(ctx, lease) // if that fails, it ends by itself
}
