package garbage

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/reflector"
)

// Item is a key that nobody owns any more, or one whose value names a node that is gone.
type Item struct {
	Key  string // below the prefix of the namespace
	What string // the kind of key, such as "override"
	Why  string // nobody owns it

	// Service is the service of an override, folded; "" for other keys. An override belongs to an
	// operator, who may want it when the instance is back: remove it only if that one asks for it.
	Service string
	// Promised marks a key that keeps others from a lock or a claim. Until no promise from before
	// can last, see [life.ReadQuarantine], it is not to be removed.
	Promised bool

	name      string
	revision  int64  // etcd's, of the value
	value     []byte // to write instead; nil: remove the key
	unchanged []clientv3.Cmp
}

// copied is why a key without a lease is garbage that agents write on a lease only.
const copied = "it has no lease, so that it never ends: a copy of etcd's keys does not have the leases"

// found is what a namespace has that may be garbage, or that keeps something from being that.
type found struct {
	keys     discovery.Keys
	kvs      []*mvccpb.KeyValue
	agents   map[string]bool // node and agent id, of those whose own record is on a lease
	services map[string]bool // that have an instance
	limits   map[string]bool // keys
}

// read reads a namespace, without the users' own keys, at one revision for each half.
func read(ctx context.Context, client *clientv3.Client, keys discovery.Keys) (*found, error) {
	f := &found{keys: keys, agents: map[string]bool{}, services: map[string]bool{}, limits: map[string]bool{}}
	users := keys.KV()
	for _, part := range []reflector.Range{
		{From: keys.Prefix(), To: users},
		{From: clientv3.GetPrefixRangeEnd(users), To: clientv3.GetPrefixRangeEnd(keys.Prefix())},
	} {
		_, err := reflector.List(ctx, client, part, func(page []*mvccpb.KeyValue) error {
			for _, kv := range page {
				f.add(kv)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return f, nil
}

// add notes what a key proves, and retains the key if it may be garbage.
func (f *found) add(kv *mvccpb.KeyValue) {
	name := string(kv.Key)
	key := f.keys.Parse(name)
	switch {
	case key.Kind == discovery.KeyNode && kv.Lease != 0:
		f.agents[key.Node+"/"+key.ID] = true
	case key.Kind == discovery.KeyInstance && kv.Lease != 0, key.Kind == discovery.KeyStatic:
		f.services[key.Service] = true
	case strings.HasPrefix(name, f.keys.Limits()):
		f.limits[name] = true
	}
	f.kvs = append(f.kvs, kv)
}

// Find returns the garbage of a namespace, sorted by key.
func Find(ctx context.Context, client *clientv3.Client, keys discovery.Keys) ([]Item, error) {
	f, err := read(ctx, client, keys)
	if err != nil {
		return nil, fmt.Errorf("find what nobody owns: %w", err)
	}
	f.addOwned()
	var items []Item
	for _, kv := range f.kvs {
		if item, ok := f.judge(kv); ok {
			items = append(items, item)
		}
	}
	return items, nil
}

// addOwned notes the services of records without a lease whose agent lives. Other such records are
// garbage themselves.
func (f *found) addOwned() {
	for _, kv := range f.kvs {
		if key := f.keys.Parse(string(kv.Key)); key.Kind == discovery.KeyInstance && kv.Lease == 0 && f.ownerLives(kv.Value) {
			f.services[key.Service] = true
		}
	}
}

// ownerLives reports whether the agent that a record names has a record of its own on a lease.
func (f *found) ownerLives(record []byte) bool {
	o := ownerOf(record)
	return f.agents[o.Node+"/"+o.Owner]
}

// judge returns a key as an item. It returns false if the key is no garbage.
func (f *found) judge(kv *mvccpb.KeyValue) (Item, bool) {
	key := f.keys.Parse(string(kv.Key))
	switch {
	case key.Kind == discovery.KeyOverride:
		if f.services[key.Service] {
			return Item{}, false // its instance may come back
		}
		item := f.item(kv, key.Kind.String(), "its service has no instance"+stateOf(kv.Value))
		item.Service = key.Service
		service := f.keys.Service(key.Service)
		item.unchanged = append(item.unchanged, none(service+"instances/"), none(service+"static/"))
		return item, true
	case strings.HasPrefix(string(kv.Key), f.keys.Ledger("")):
		limit := f.keys.Limit(strings.TrimPrefix(string(kv.Key), f.keys.Ledger("")))
		if f.limits[limit] {
			return Item{}, false
		}
		item := f.item(kv, "ledger", "its limit is removed")
		item.unchanged = append(item.unchanged, clientv3.Compare(clientv3.CreateRevision(limit), "=", 0))
		return item, true
	case kv.Lease != 0:
		return Item{}, false // it ends with its lease
	}
	return f.judgeLeaseless(kv, key)
}

// judgeLeaseless is judge for a key that has no lease. It is garbage if agents write it on a lease only,
// unless the agent that owns it lives and writes it anew.
func (f *found) judgeLeaseless(kv *mvccpb.KeyValue, key discovery.Key) (Item, bool) {
	what, promised, _ := f.leased(string(kv.Key), key)
	if what == "" {
		return Item{}, false
	}
	if key.Kind == discovery.KeyInstance && f.ownerLives(kv.Value) {
		return Item{}, false
	}
	item := f.item(kv, what, copied)
	item.Promised = promised
	return item, true
}

// leased returns what a key is that agents write on a lease only; "" for any other. promised: see
// [Item]; owned: its value names a node.
func (f *found) leased(name string, key discovery.Key) (what string, promised, owned bool) {
	switch {
	case key.Kind == discovery.KeyInstance:
		return key.Kind.String(), false, true
	case key.Kind == discovery.KeyNode, key.Kind == discovery.KeyLoad, key.Kind == discovery.KeySuspectOrder:
		return key.Kind.String(), false, false
	case key.Kind == discovery.KeyQuarantine:
		return key.Kind.String(), true, false
	case strings.HasPrefix(name, f.keys.Locks()):
		return "lock", true, true
	case strings.HasPrefix(name, f.keys.Claims()):
		return "claim", true, true
	case slices.Contains([]string{f.keys.KVCounted(), f.keys.LevelChecked(), f.keys.LevelCounting()}, name):
		return "turn", false, false
	}
	return "", false, false
}

func (f *found) item(kv *mvccpb.KeyValue, what, why string) Item {
	name := string(kv.Key)
	return Item{Key: strings.TrimPrefix(name, f.keys.Prefix()), What: what, Why: why, name: name, revision: kv.ModRevision}
}

// stateOf says which state an override sets; "" if none.
func stateOf(override []byte) string {
	if o, err := discovery.DecodeOverride(override); err == nil && o.State != "" {
		return "; it sets the state " + string(o.State)
	}
	return ""
}

// none is true while no key has a prefix.
func none(prefix string) clientv3.Cmp {
	return clientv3.Compare(clientv3.CreateRevision(prefix), "=", 0).WithPrefix()
}

// owner is what the value of a record, a lock and a claim says of who has it.
type owner struct {
	Node  string `json:"node"`
	Owner string `json:"owner"`
}

func ownerOf(value []byte) (o owner) {
	_ = json.Unmarshal(value, &o) // what cannot be read names nobody
	return o
}
