package cli

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"

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
		Short: "Show writes and deletions as they come",
		Long: `Show writes and deletions of all keys, of one, or of those below a prefix, which ends
in "/", until interrupted. With -o json or jsonl, each line is an event as the HTTP
API sends it, with the value in base64.`,
		Example: `  disc kv watch app/
  disc kv watch app/greeting -o jsonl`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeKey,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.kvWatch(cmd.Context(), strings.Join(args, ""))
		},
	}
}

func (a *app) kvWatch(ctx context.Context, what string) error {
	asJSON, err := a.changesAsJSON()
	if err != nil {
		return err
	}
	if err := kv.ValidateWatched(what); err != nil {
		return err
	}
	first := true
	for e, err := range a.kvChangeStream(ctx, what) {
		switch {
		case err != nil:
			return err
		case asJSON:
			err = a.kvShowEvent(e)
		case e.Type == api.EventReset && first:
			a.infof("watching from revision %d; %d keys are there", e.Revision, len(e.Items))
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

// kvChangeStream yields the changes of a key or below a prefix, from etcd or, if that cannot be
// reached, from this host's agent. The first event is a reset with what is there. It ends
// with ctx, or with an error.
func (a *app) kvChangeStream(ctx context.Context, what string) iter.Seq2[api.KVEvent, error] {
	return func(yield func(api.KVEvent, error) bool) {
		err := a.kvEtcdChanges(ctx, what, yield)
		if err == nil || ctx.Err() != nil {
			return
		}
		agent, err := a.fallBackToAgent(ctx, err)
		if err != nil {
			yield(api.KVEvent{}, err)
			return
		}
		for e, err := range agent.KVWatch(ctx, what, "") {
			if err != nil && errors.Is(err, discovery.ErrUnavailable) {
				a.infof("%v; trying again", err)
			} else if !yield(e, err) {
				return
			}
		}
	}
}

// kvEtcdChanges follows a store of its own. It returns an error only when etcd cannot be
// reached from the start.
func (a *app) kvEtcdChanges(ctx context.Context, what string, yield func(api.KVEvent, error) bool) error {
	_, err := withEtcd(ctx, a, func(ctx context.Context, client *clientv3.Client) (*clientv3.GetResponse, error) {
		return client.Get(ctx, a.keys().KV()+what, clientv3.WithCountOnly())
	})
	if err != nil {
		return err // a store would try for long
	}
	client, err := a.etcd()
	if err != nil {
		return err
	}
	defer client.Close()
	store, err := a.kvStore(client)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	w := kvWatcher{store: store, what: what, yield: func(e api.KVEvent) bool { return yield(e, nil) }}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.store.Run(ctx)
	}()
	defer func() { cancel(); <-ended }()
	for {
		changed := w.store.Changed()
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
	what  string // a key, a prefix, or "" for all
	yield func(api.KVEvent) bool

	cursor discovery.Cursor // up to where they have been yielded
	listed bool             // what there was has been yielded
}

// advance yields what has happened since it last looked, or all that there is when that
// is not known. It reports whether more is wanted.
func (w *kvWatcher) advance(ctx context.Context) (more bool, err error) {
	if w.listed {
		if events, upTo, ok := w.store.Events(w.what, w.cursor); ok {
			w.cursor = upTo
			for _, e := range events {
				if !w.yield(apiKVEvent(e)) {
					return false, nil
				}
			}
			return true, nil
		}
	}
	all, view, err := w.store.Snapshot(ctx, w.what)
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

// kvShowEvent prints an event as JSON, with its name.
func (a *app) kvShowEvent(e api.KVEvent) error {
	return writeJSON(a.io.Out, struct {
		Type view.EventType `json:"event"`
		api.KVEvent
	}{e.Type, e}, "")
}

// kvChangeLine shows an event on one line.
func kvChangeLine(e api.KVEvent) string {
	line := fmt.Sprintf("%d  %-6s  ", e.Revision, e.Type)
	switch {
	case e.Type == api.EventReset:
		return line + fmt.Sprintf("%d keys", len(e.Items))
	case e.Item == nil:
		return line + printable(e.Key)
	}
	return line + printable(e.Key) + "  " + cell(kvPreview(e.Item.Value))
}
