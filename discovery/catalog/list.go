package catalog

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"disc/discovery"

	mvccpb "go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Bounds of a list.
const (
	pageSize = 1000 // keys
	pageTime = 10 * time.Second
)

// header is what a list learns of the etcd that answered.
type header struct {
	cluster  uint64
	revision int64
}

// list reads a half-open range in pages, all at one revision, and hands over each key.
func list(ctx context.Context, client *clientv3.Client, from, to string, each func(*mvccpb.KeyValue), opts ...clientv3.OpOption) (header, error) {
	var at header
	for {
		page, err := readPage(ctx, client, from, to, at.revision, opts)
		if err != nil {
			return header{}, fmt.Errorf("list %s: %w", from, err)
		}
		if at.revision == 0 {
			at = header{page.Header.ClusterId, page.Header.Revision}
		}
		for _, kv := range page.Kvs {
			each(kv)
		}
		if !page.More || len(page.Kvs) == 0 {
			return at, nil
		}
		from = string(page.Kvs[len(page.Kvs)-1].Key) + "\x00"
	}
}

func readPage(ctx context.Context, client *clientv3.Client, from, to string, revision int64, opts []clientv3.OpOption) (*clientv3.GetResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, pageTime)
	defer cancel()
	opts = append([]clientv3.OpOption{clientv3.WithRange(to), clientv3.WithLimit(pageSize), clientv3.WithRev(revision)}, opts...)
	return client.Get(ctx, from, opts...)
}

// change turns what etcd lists or reports into a change.
func change(key discovery.Key, kv *mvccpb.KeyValue) discovery.Change {
	value := kv.Value
	if value == nil {
		value = []byte{} // nil would be a deletion
	}
	return discovery.Change{Key: key, Value: value, Created: kv.CreateRevision, Modified: kv.ModRevision, Lease: kv.Lease}
}

// Load reads a snapshot once: of one service, or of the whole namespace with an empty
// name. Records that cannot be read are left out; broken says which.
func Load(ctx context.Context, client *clientv3.Client, keys discovery.Keys, service string) (snapshot *discovery.Snapshot, broken []discovery.BrokenRecord, err error) {
	from, to := keys.CatalogRange()
	if service != "" {
		from = keys.Service(service)
		to = clientv3.GetPrefixRangeEnd(from)
	}
	var changes []discovery.Change
	at, err := list(ctx, client, from, to, func(kv *mvccpb.KeyValue) {
		changes = append(changes, change(keys.Parse(string(kv.Key)), kv))
	})
	if err != nil {
		return nil, nil, err
	}
	snapshot, _, broken = discovery.EmptySnapshot().Apply(at.revision, changes)
	return snapshot, broken, nil
}

// epoch reads the id of etcd's present life and, where there is none and the catalog
// may write, makes one. Whoever is first wins; the others read.
func (c *Catalog) epoch(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, pageTime)
	defer cancel()
	key := c.keys.Epoch()
	got, err := c.client.Get(ctx, key)
	if err != nil {
		return "", fmt.Errorf("read epoch: %w", err)
	}
	if len(got.Kvs) == 0 && c.options.MakeEpoch {
		txn, err := c.client.Txn(ctx).
			If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).
			Then(clientv3.OpPut(key, rand.Text())).
			Commit()
		if err != nil {
			return "", fmt.Errorf("write epoch: %w", err)
		}
		c.log.Info("etcd has no epoch yet; wrote one", "won", txn.Succeeded)
		if got, err = c.client.Get(ctx, key); err != nil {
			return "", fmt.Errorf("read epoch: %w", err)
		}
	}
	if len(got.Kvs) == 0 {
		return "", nil
	}
	return string(got.Kvs[0].Value), nil
}
