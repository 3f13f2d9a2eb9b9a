package cli

import (
	"context"
	"fmt"
	"iter"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/kv"
	"disc/discovery/view"
)

func (a *app) kvWatchCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "watch [KEY|PREFIX/]",
		Short: "Show writes and deletions as they happen",
		Long: `Show writes and deletions of all keys, of one key, or of the keys below a prefix, which
ends in "/", until interrupted. With -o json or jsonl, each line is an event in the form
of the HTTP API, with the value in base64.`,
		Example: `  disc kv watch app/
  disc kv watch app/greeting -o jsonl`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeKey,
		RunE: func(cmd *cobra.Command, args []string) error {
			prefix, err := optionalPrefix(args)
			if err != nil {
				return err
			}
			return a.kvWatch(cmd.Context(), prefix)
		},
	}
}

func (a *app) kvWatch(ctx context.Context, keys string) error {
	asJSON, err := a.changesAsJSON()
	if err != nil {
		return err
	}
	if err := kv.ValidateKeyOrPrefix(keys); err != nil {
		return err
	}
	first := true
	for e, err := range a.kvChangeStream(ctx, keys) {
		switch {
		case err != nil:
			return err
		case asJSON:
			err = a.kvShowEvent(e)
		case e.Type == api.EventReset && first:
			a.infof("watching from revision %d, with %s", e.Revision, countOf(len(e.Items), "key"))
		default:
			_, err = fmt.Fprintln(a.io.Out, kvChangeLine(e))
		}
		if err != nil {
			return err
		}
		first = false
	}
	return nil
}

// kvChangeStream yields the changes of a key, of the keys below a prefix, or with "" of
// all keys. The first event is a reset with the present items.
func (a *app) kvChangeStream(ctx context.Context, keys string) iter.Seq2[api.KVEvent, error] {
	return etcdOrAgentStream(ctx, a,
		func(yield func(api.KVEvent, error) bool) error { return a.kvEtcdChanges(ctx, keys, yield) },
		func(agent *api.Client) iter.Seq2[api.KVEvent, error] { return agent.KVWatch(ctx, keys, "") })
}

// kvEtcdChanges yields the changes of a store that it runs. It returns an error only if
// etcd cannot be reached at the start.
func (a *app) kvEtcdChanges(ctx context.Context, keys string, yield func(api.KVEvent, error) bool) error {
	_, err := withEtcd(ctx, a, func(ctx context.Context, client *clientv3.Client) (*clientv3.GetResponse, error) {
		return client.Get(ctx, a.keys().KV()+keys, clientv3.WithCountOnly())
	})
	if err != nil {
		return err // a store would retry for long
	}
	client, err := a.etcd(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	store, err := a.kvStore(client)
	if err != nil {
		return err
	}
	w := kvWatcher{store: store, keys: keys, yield: func(e api.KVEvent) bool { return yield(e, nil) }}
	defer store.Watch(keys)()
	stop := runInBackground(ctx, store.Run)
	defer stop()
	for {
		changed := store.Changed()
		if more, err := w.advance(ctx); err != nil {
			yield(api.KVEvent{}, a.explain(err))
			return nil
		} else if !more {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// kvWatcher yields the changes of keys.
type kvWatcher struct {
	store *kv.Store
	keys  string // a key, a prefix, or "" for all
	yield func(api.KVEvent) bool

	cursor discovery.Cursor // the events up to it have been yielded
	listed bool             // the reset with the present items has been yielded
}

// advance yields the events since the cursor, or a reset with all items if they are not
// known. It reports whether the caller wants more.
func (w *kvWatcher) advance(ctx context.Context) (more bool, err error) {
	if w.listed {
		if events, upTo, ok := w.store.Events(w.keys, w.cursor); ok {
			w.cursor = upTo
			for _, e := range events {
				if !w.yield(apiKVEvent(e)) {
					return false, nil
				}
			}
			return true, nil
		}
	}
	all, view, err := w.store.Snapshot(ctx, w.keys)
	if err != nil {
		return false, err
	}
	items := []api.KVItem{}
	for i := range all {
		items = append(items, apiKVItem(i))
	}
	w.listed, w.cursor = true, discovery.Cursor{Epoch: view.Epoch, Revision: view.Revision}
	return w.yield(api.KVEvent{Type: api.EventReset, Revision: view.Revision, Items: items}), nil
}

func apiKVEvent(e kv.Event) api.KVEvent {
	if e.Item == nil {
		return api.KVEvent{Type: view.EventDelete, Revision: e.Revision, Key: e.Key}
	}
	item := apiKVItem(*e.Item)
	return api.KVEvent{Type: view.EventPut, Revision: e.Revision, Key: e.Key, Item: &item}
}

// kvShowEvent prints an event as JSON, with its type.
func (a *app) kvShowEvent(e api.KVEvent) error {
	return writeJSON(a.io.Out, struct {
		Type view.EventType `json:"event"`
		api.KVEvent
	}{e.Type, e}, "")
}

// kvChangeLine formats an event as one line.
func kvChangeLine(e api.KVEvent) string {
	line := fmt.Sprintf("%d  %-6s  ", e.Revision, e.Type)
	switch {
	case e.Type == api.EventReset:
		return line + countOf(len(e.Items), "key")
	case e.Item == nil:
		return line + printable(e.Key)
	}
	return line + printable(e.Key) + "  " + cell(kvPreview(e.Item.Value))
}
