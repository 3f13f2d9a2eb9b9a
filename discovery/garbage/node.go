package garbage

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
)

// Instance names an instance of a service.
type Instance struct{ Service, ID string }

// FindNode returns what is left of a node that will not come back: its own records, those of its
// instances, its locks and claims, as far as they have lost their lease; its place among the agents that
// hold back the feature level; and the overrides of the instances that are given, which were on the
// node. Its name is compared as written.
//
// ErrConflict: a session of the node lives, or has not ended yet.
func FindNode(ctx context.Context, client *clientv3.Client, keys discovery.Keys, node string, instances []Instance) ([]Item, error) {
	if err := discovery.ValidateNode(node); err != nil {
		return nil, err
	}
	f, err := read(ctx, client, keys)
	if err != nil {
		return nil, fmt.Errorf("find what is left of node %s: %w", node, err)
	}
	var items []Item
	leases := map[int64]string{}
	for _, kv := range f.kvs {
		item, lease := f.judgeOfNode(kv, node, instances)
		switch {
		case lease != 0:
			leases[lease] = strings.TrimPrefix(string(kv.Key), keys.Prefix())
		case item.name != "":
			items = append(items, item)
		}
	}
	for lease, key := range leases {
		if err := ended(ctx, client, node, key, clientv3.LeaseID(lease)); err != nil {
			return nil, err
		}
	}
	return items, nil
}

// judgeOfNode returns a key as an item, if it is left of a node, or the lease that keeps it.
func (f *found) judgeOfNode(kv *mvccpb.KeyValue, node string, instances []Instance) (Item, int64) {
	name := string(kv.Key)
	key := f.keys.Parse(name)
	switch {
	case name == f.keys.Level():
		return f.levelWithout(kv, node), 0
	case key.Kind == discovery.KeyOverride && slices.Contains(instances, Instance{key.Service, key.ID}):
		item := f.item(kv, key.Kind.String(), "its instance was on the node"+stateOf(kv.Value))
		item.Service = key.Service
		item.unchanged = append(item.unchanged, clientv3.Compare(clientv3.CreateRevision(f.keys.Instance(key.Service, key.ID)), "=", 0),
			clientv3.Compare(clientv3.CreateRevision(f.keys.Static(key.Service, key.ID)), "=", 0))
		return item, 0
	}
	what, promised, owned := f.leased(name, key)
	if key.Kind == discovery.KeyNode && key.Node != node || key.Kind != discovery.KeyNode && (!owned || ownerOf(kv.Value).Node != node) {
		return Item{}, 0
	}
	switch {
	case kv.Lease != 0 && key.Kind == discovery.KeyInstance && isTombstone(kv.Value):
		return Item{}, 0 // it is on a lease of its own, which outlasts the session
	case kv.Lease != 0:
		return Item{}, kv.Lease
	}
	item := f.item(kv, what, copied)
	item.Promised = promised
	return item, 0
}

// levelWithout returns the feature level without a node among the agents that hold it back; the zero
// value if the node is none of them.
func (f *found) levelWithout(kv *mvccpb.KeyValue, node string) Item {
	record, err := discovery.DecodeLevel(kv.Value)
	if err != nil {
		return Item{}
	}
	rest := slices.DeleteFunc(slices.Clone(record.Behind), func(b discovery.BehindAgent) bool { return b.Node == node })
	if len(rest) == len(record.Behind) {
		return Item{}
	}
	record.Behind = rest
	item := f.item(kv, "feature level", "it names the node among the agents that hold it back; only the name is removed")
	item.value = record.Encode()
	return item
}

// isTombstone reports whether a record says that its instance was deregistered.
func isTombstone(record []byte) bool {
	i, err := discovery.DecodeInstance(record)
	return err == nil && i.Leaving
}

// ended returns an ErrConflict if a lease of the node's agent has not ended.
func ended(ctx context.Context, client *clientv3.Client, node, key string, lease clientv3.LeaseID) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	left, err := client.TimeToLive(ctx, lease)
	if err != nil {
		return fmt.Errorf("read the lease of %s: %w", key, err)
	}
	if left.TTL == -1 && left.GrantedTTL == 0 {
		return nil // there is no such lease any more, and its keys are gone
	}
	return discovery.Errorf(discovery.ErrConflict, "a session of node %s lives: %s is on its lease, which ends in %v unless it is renewed; stop its agent, or wait until the session has ended",
		node, key, time.Duration(max(0, left.TTL))*time.Second)
}
