package garbage

import (
	"context"
	"fmt"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery/etcd"
)

const (
	removeBatch = 50               // keys in one transaction: etcd takes 128 operations by default
	callTimeout = 10 * time.Second // of one call of etcd
)

// Remove removes items, overrides last: a record that keeps one goes before it. It spares those that
// have changed since they were found, or whose reason is gone. After an error, removed and spared have
// what is known.
func Remove(ctx context.Context, client *clientv3.Client, items []Item) (removed, spared []Item, err error) {
	var overrides, others []Item
	for _, i := range items {
		if i.Service != "" {
			overrides = append(overrides, i)
		} else {
			others = append(others, i)
		}
	}
	remove := func(batch []Item) error {
		r, err := commit(ctx, client, batch)
		if err != nil {
			return err
		}
		for n, i := range batch {
			if r.Responses[n].GetResponseTxn().GetSucceeded() {
				removed = append(removed, i)
			} else {
				spared = append(spared, i)
			}
		}
		return nil
	}
	for _, part := range [][]Item{others, overrides} {
		if err := etcd.InBatches(part, removeBatch, remove); err != nil {
			return removed, spared, fmt.Errorf("remove what nobody owns: %w", err)
		}
	}
	return removed, spared, nil
}

// commit removes each item of a batch that is unchanged, in one transaction.
func commit(ctx context.Context, client *clientv3.Client, batch []Item) (*clientv3.TxnResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	ops := make([]clientv3.Op, len(batch))
	for n, i := range batch {
		ops[n] = clientv3.OpTxn(append(slices.Clone(i.unchanged), clientv3.Compare(clientv3.ModRevision(i.name), "=", i.revision)), []clientv3.Op{i.op()}, nil)
	}
	return client.Txn(ctx).Then(ops...).Commit()
}

// op is the write that an item stands for.
func (i Item) op() clientv3.Op {
	if i.value != nil {
		return clientv3.OpPut(i.name, string(i.value))
	}
	return clientv3.OpDelete(i.name)
}
