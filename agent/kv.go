package agent

import (
	"context"
	"iter"
	"time"

	"disc/agent/api"
	"disc/agent/httpapi"
	"disc/discovery"
	"disc/discovery/kv"
	"disc/discovery/view"
)

// kvBackend gives the HTTP API the key/value store, in the API's types.
type kvBackend struct{ store *kv.Store }

// Get implements httpapi.KV.
func (k kvBackend) Get(ctx context.Context, key string, r api.KVRead) (api.KVItem, httpapi.KVFreshness, error) {
	item, view, err := k.store.Get(ctx, key, readOptions(r))
	return apiItem(item), freshnessOf(view), err
}

// GetCached implements httpapi.KV.
func (k kvBackend) GetCached(key string) (api.KVItem, httpapi.KVFreshness, bool) {
	item, view, ok := k.store.GetCached(key)
	return apiItem(item), freshnessOf(view), ok
}

// GetAt implements httpapi.KV.
func (k kvBackend) GetAt(ctx context.Context, key string, revision int64) (api.KVItem, httpapi.KVFreshness, error) {
	item, view, err := k.store.GetAt(ctx, key, revision)
	return apiItem(item), freshnessOf(view), err
}

// History implements httpapi.KV.
func (k kvBackend) History(ctx context.Context, key string, o api.KVHistoryOptions) (api.KVHistory, httpapi.KVFreshness, error) {
	h, view, err := k.store.History(ctx, key, kv.HistoryOptions(o))
	if err != nil {
		return api.KVHistory{}, freshnessOf(view), err
	}
	all := api.KVHistory{Key: key, Older: api.KVOlder(h.Older)}
	for _, v := range h.Versions {
		all.Versions = append(all.Versions, api.KVVersion{
			Revision: v.Revision, Deleted: v.Number == 0, Value: v.Value, Created: v.Created, Number: v.Number,
			Expires: v.Lease != 0, ExpiresIn: discovery.Duration(v.ExpiresIn),
		})
	}
	return all, freshnessOf(view), nil
}

// GetMany implements httpapi.KV.
func (k kvBackend) GetMany(ctx context.Context, keys []string, r api.KVRead) (iter.Seq[api.KVItem], httpapi.KVFreshness, error) {
	items, view, err := k.store.GetMany(ctx, keys, readOptions(r))
	if err != nil {
		return nil, httpapi.KVFreshness{}, err
	}
	return apiItems(items), freshnessOf(view), nil
}

// List implements httpapi.KV.
func (k kvBackend) List(ctx context.Context, prefix string, r api.KVRead, keysOnly bool) (iter.Seq[api.KVItem], httpapi.KVFreshness, error) {
	read := readOptions(r)
	read.KeysOnly = keysOnly
	items, view, err := k.store.List(ctx, prefix, read)
	if err != nil {
		return nil, httpapi.KVFreshness{}, err
	}
	return apiItems(items), freshnessOf(view), nil
}

// Write implements httpapi.KV.
func (k kvBackend) Write(ctx context.Context, ops ...api.KVOp) (int64, error) {
	all := make([]kv.Op, len(ops))
	for n, op := range ops {
		all[n] = kv.Op{Key: op.Key, Value: op.Value, Delete: op.Op == api.KVDelete, TTL: time.Duration(op.TTL), If: op.IfRevision, Exists: op.IfExists}
	}
	revision, err := k.store.Write(ctx, all...)
	return revision, err
}

// DeleteBelow implements httpapi.KV.
func (k kvBackend) DeleteBelow(ctx context.Context, prefix string) (int64, error) {
	_, revision, err := k.store.DeleteBelow(ctx, prefix)
	return revision, err
}

// Snapshot implements httpapi.KV.
func (k kvBackend) Snapshot(ctx context.Context, what string) (iter.Seq[api.KVItem], httpapi.KVFreshness, error) {
	items, view, err := k.store.Snapshot(ctx, what)
	if err != nil {
		return nil, httpapi.KVFreshness{}, err
	}
	return apiItems(items), freshnessOf(view), nil
}

// Events implements httpapi.KV.
func (k kvBackend) Events(what string, after discovery.Cursor) ([]api.KVEvent, discovery.Cursor, bool) {
	events, upTo, ok := k.store.Events(what, after)
	all := make([]api.KVEvent, len(events))
	for n, e := range events {
		all[n] = api.KVEvent{Type: view.EventDelete, Revision: e.Revision, Key: e.Key}
		if e.Item != nil {
			item := apiItem(*e.Item)
			all[n].Type, all[n].Item = view.EventPut, &item
		}
	}
	return all, upTo, ok
}

// Watch implements httpapi.KV.
func (k kvBackend) Watch(what string) (release func()) { return k.store.Watch(what) }

// AwaitChange implements httpapi.KV.
func (k kvBackend) AwaitChange(ctx context.Context, what string, seen httpapi.KVFreshness) error {
	return k.store.AwaitChange(ctx, what, kv.Freshness(seen))
}

// Changed implements httpapi.KV.
func (k kvBackend) Changed() <-chan struct{} { return k.store.Changed() }

func readOptions(r api.KVRead) kv.Read {
	return kv.Read{Linearizable: r.Linearizable, MinRevision: r.MinRevision, MaxAge: r.MaxAge}
}

func freshnessOf(v kv.Freshness) httpapi.KVFreshness { return httpapi.KVFreshness(v) }

func apiItems(items iter.Seq[kv.Item]) iter.Seq[api.KVItem] {
	return func(yield func(api.KVItem) bool) {
		for i := range items {
			if !yield(apiItem(i)) {
				return
			}
		}
	}
}

func apiItem(i kv.Item) api.KVItem {
	return api.KVItem{Key: i.Key, Value: i.Value, Revision: i.Revision, Created: i.Created, Expires: i.Lease != 0}
}
