package kv

import (
	"context"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery/reflector"
)

// The bounds of a page that scan reads. Values have up to 512 KiB, so that a page of a
// fixed number of keys is either slow or large.
const (
	minPage   = 16   // keys
	maxPage   = 1000 // keys
	pageBytes = 4 << 20
)

// scan reads a range page by page and calls each with every page. It is as light for etcd
// as such a read can be: any member answers it from what it has, and no page holds much.
// The pages may be of different revisions.
func scan(ctx context.Context, client *clientv3.Client, rng reflector.Range, each func([]*mvccpb.KeyValue)) error {
	for from, limit := rng.From, int64(minPage); ; {
		page, err := client.Get(ctx, from, clientv3.WithRange(rng.To), clientv3.WithLimit(limit), clientv3.WithSerializable())
		if err != nil {
			return err
		}
		each(page.Kvs)
		if !page.More || len(page.Kvs) == 0 {
			return nil
		}
		from = string(page.Kvs[len(page.Kvs)-1].Key) + "\x00"
		size := int64(1)
		for _, kv := range page.Kvs {
			size += int64(len(kv.Key) + len(kv.Value))
		}
		limit = min(max(pageBytes*int64(len(page.Kvs))/size, minPage), 4*limit, maxPage)
	}
}
