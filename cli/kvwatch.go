package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/kv"

	"github.com/spf13/cobra"
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
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.kvWatch(cmd.Context(), strings.Join(args, ""))
		},
	}
}

// kvWatch follows a key or a prefix with a store of its own.
func (a *app) kvWatch(ctx context.Context, what string) error {
	asJSON, err := a.followsJSON()
	if err != nil {
		return err
	}
	client, err := a.etcd()
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithCancel(ctx)
	w := kvWatcher{app: a, store: a.kvStore(client), what: what, asJSON: asJSON}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.store.Run(ctx)
	}()
	defer func() { cancel(); <-ended }()
	for {
		changed := w.store.Changed()
		if err := w.advance(ctx); err != nil {
			return a.explain(err)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// kvWatcher shows the changes of keys.
type kvWatcher struct {
	*app
	store  *kv.Store
	what   string // a key, a prefix, or "" for all
	asJSON bool

	at    discovery.Position // up to where they have been shown
	known bool               // what there was has been shown
}

// advance shows what has happened since it last looked, or all that there is when that
// is not known.
func (w *kvWatcher) advance(ctx context.Context) error {
	if w.known {
		if events, upTo, ok := w.store.Events(w.what, w.at); ok {
			w.at = upTo
			for _, e := range events {
				if err := w.show(kvEvent(e)); err != nil {
					return err
				}
			}
			return nil
		}
	}
	items, view, err := w.list(ctx)
	if err != nil {
		return err
	}
	if view.Epoch == "" {
		return fmt.Errorf("watch %q: there is too much of it to be held in memory; watch a longer prefix", w.what)
	}
	first := !w.known
	w.known, w.at = true, discovery.Position{Epoch: view.Epoch, Revision: view.Revision}
	if first && !w.asJSON {
		w.note("watching from revision %d; %d keys are there", view.Revision, len(items))
		return nil
	}
	return w.show(api.KVEvent{Type: api.EventReset, Revision: view.Revision, Items: items})
}

// list reads all that is watched, which also has it copied.
func (w *kvWatcher) list(ctx context.Context) ([]api.KVItem, kv.View, error) {
	items := []api.KVItem{}
	if w.what != "" && !strings.HasSuffix(w.what, "/") {
		item, view, err := w.store.Get(ctx, w.what, kv.Read{})
		if err == nil {
			items = append(items, kvShown(item))
		} else if errors.Is(err, discovery.ErrNotFound) {
			err = nil
		}
		return items, view, err
	}
	list, view, err := w.store.List(ctx, w.what, kv.Read{})
	if err != nil {
		return nil, view, err
	}
	for i := range list {
		items = append(items, kvShown(i))
	}
	return items, view, nil
}

func kvEvent(e kv.Event) api.KVEvent {
	if e.Item == nil {
		return api.KVEvent{Type: discovery.EventDelete, Revision: e.Revision, Key: e.Key}
	}
	item := kvShown(*e.Item)
	return api.KVEvent{Type: discovery.EventPut, Revision: e.Revision, Key: e.Key, Item: &item}
}

// show prints an event on a line.
func (w *kvWatcher) show(e api.KVEvent) error {
	if w.asJSON {
		return writeJSON(w.io.Out, struct {
			Type discovery.EventType `json:"event"`
			api.KVEvent
		}{e.Type, e}, "")
	}
	line := fmt.Sprintf("%d  %-6s  ", e.Revision, e.Type)
	switch {
	case e.Type == api.EventReset:
		line += fmt.Sprintf("%d keys", len(e.Items))
	case e.Item == nil:
		line += printable(e.Key)
	default:
		line += printable(e.Key) + "  " + cell(kvShort(e.Item.Value))
	}
	_, err := fmt.Fprintln(w.io.Out, line)
	return err
}
