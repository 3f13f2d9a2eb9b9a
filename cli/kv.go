package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/agent/api"
	"disc/discovery/kv"
	"disc/discovery/quota"
)

func (a *app) kvCommand() *cobra.Command {
	return groupCommand(cobra.Command{
		Use:   "kv",
		Short: "Shared key/value state",
		Long: `Shared key/value state. A key is a text of 1 to 512 bytes, with segments divided by "/".
A value is up to 512 KiB of any bytes.`,
		Example: `  disc kv set app/greeting hello
  disc kv get app/greeting
  disc kv list app/
  disc kv history app/greeting`,
	}, a.kvGetCommand(), a.kvSetCommand(), a.kvDelCommand(), a.kvListCommand(), a.kvWatchCommand(), a.kvHistoryCommand(), a.kvRollbackCommand())
}

func (a *app) kvGetCommand() *cobra.Command {
	var revision func() *int64
	c := &cobra.Command{
		Use:   "get KEY",
		Short: "Write a value to stdout, byte for byte",
		Long: `Write a value to stdout, byte for byte, with nothing appended. With -o json or yaml, the
value is in base64, with its revisions. On a terminal, a newline follows the value, and
a value that is not text is refused. With --rev, it is the value that the key had then.

Exit code 3 if the key does not exist, or did not at --rev, or if etcd has compacted that
revision.`,
		Example: `  disc kv get app/greeting
  disc kv get app/logo > logo.png
  disc kv get app/greeting -o json
  disc kv get app/greeting --rev 20`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeKey,
		RunE: func(cmd *cobra.Command, args []string) error {
			item, err := a.kvItem(cmd.Context(), args[0], revision())
			if err != nil {
				return err
			}
			if a.config.CLI.Output == "table" {
				return a.kvShowValue(item)
			}
			l := kvListing([]api.KVItem{item})
			l.single = true
			return show(a, l)
		},
	}
	revision = addRevision(c.Flags(), "rev", "read the value that the key had at this revision of etcd")
	return c
}

func (a *app) kvListCommand() *cobra.Command {
	return &cobra.Command{
		Use:        "list [PREFIX/]",
		Aliases:    []string{"ls"},
		SuggestFor: []string{"keys"},
		Short:      "List keys",
		Long: `List all keys, or those below a prefix, which ends in "/". The table shortens values;
-o json has them in full, in base64.`,
		Example: `  disc kv list
  disc kv list app/ -o name`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completePrefix,
		RunE: func(cmd *cobra.Command, args []string) error {
			prefix, err := optionalPrefix(args)
			if err != nil {
				return err
			}
			items, err := a.kvItems(cmd.Context(), prefix)
			if err != nil {
				return err
			}
			if len(items) == 0 && prefix == "" {
				a.infof("no keys in namespace %q", a.config.Namespace)
			} else if len(items) == 0 {
				a.infof("no keys below %q in namespace %q", prefix, a.config.Namespace)
			}
			return show(a, kvListing(items))
		},
	}
}

// optionalPrefix returns the key or prefix that is given, "" if none is.
func optionalPrefix(args []string) (string, error) {
	if len(args) == 1 && args[0] == "" {
		return "", usage(errors.New("the prefix is empty; leave it out for all keys"))
	}
	return strings.Join(args, ""), nil
}

// kvShowValue writes the value unchanged. It refuses to write control characters to a
// terminal.
func (a *app) kvShowValue(item api.KVItem) error {
	value := item.Value
	if a.io.Screen {
		if text := string(value); !utf8.Valid(value) || printableText(text) != text {
			return usage(fmt.Errorf("the value of key %q is not text, and stdout is a terminal: redirect it with > FILE or |, or use -o json", item.Key))
		}
		if len(value) > 0 && !bytes.HasSuffix(value, []byte("\n")) {
			value = append(slices.Clip(value), '\n')
		}
	}
	_, err := a.io.Out.Write(value)
	return err
}

// kvStore returns a store that keeps its watches until it ends. Its writes have the bounds of
// an agent's, except on their number a second.
func (a *app) kvStore(client *clientv3.Client) (*kv.Store, error) {
	c := a.config
	return kv.New(client, a.keys(), kv.Options{IdleTimeout: math.MaxInt64, MaxBytes: c.KV.MaxBytes, MaxKeys: c.KV.MaxKeys,
		Space: quota.NewSpace(client, c.Etcd.Quota), Logger: a.warnings()})
}

// kvItem reads a key, at a revision unless that is nil, from etcd or, if etcd cannot be
// reached, from this host's agent.
func (a *app) kvItem(ctx context.Context, key string, revision *int64) (api.KVItem, error) {
	item, err := withEtcd(ctx, a, func(ctx context.Context, client *clientv3.Client) (api.KVItem, error) {
		store, err := a.kvStore(client)
		if err != nil {
			return api.KVItem{}, err
		}
		var item kv.Item
		if revision != nil {
			item, _, err = store.GetAt(ctx, key, *revision)
		} else {
			item, _, err = store.Get(ctx, key, kv.Read{Linearizable: true})
		}
		return apiKVItem(item), err
	})
	if err == nil {
		return item, nil
	}
	return orAgent(ctx, a, err, func(ctx context.Context, agent *api.Client) (api.KVItem, api.Freshness, error) {
		if revision != nil {
			return agent.KVGetAt(ctx, key, *revision)
		}
		return agent.KVGet(ctx, key, api.KVRead{})
	})
}

// kvItems lists the items below a prefix from etcd or, if etcd cannot be reached, from
// this host's agent.
func (a *app) kvItems(ctx context.Context, prefix string) ([]api.KVItem, error) {
	items, err := withEtcd(ctx, a, func(ctx context.Context, client *clientv3.Client) ([]api.KVItem, error) {
		store, err := a.kvStore(client)
		if err != nil {
			return nil, err
		}
		list, _, err := store.List(ctx, prefix, kv.Read{Linearizable: true})
		if err != nil {
			return nil, err
		}
		var items []api.KVItem
		for i := range list {
			items = append(items, apiKVItem(i))
		}
		return items, nil
	})
	if err == nil {
		return items, nil
	}
	return orAgent(ctx, a, err, func(ctx context.Context, agent *api.Client) ([]api.KVItem, api.Freshness, error) {
		return agent.KVList(ctx, prefix, api.KVRead{})
	})
}

func apiKVItem(i kv.Item) api.KVItem {
	return api.KVItem{Key: i.Key, Value: i.Value, Revision: i.Revision, Created: i.Created, Expires: i.Lease != 0}
}

func kvListing(items []api.KVItem) listing[api.KVItem] {
	return listing[api.KVItem]{
		items: items,
		name:  func(i api.KVItem) string { return i.Key },
		columns: []column[api.KVItem]{
			{header: "KEY", value: func(i api.KVItem) string { return i.Key }},
			{header: "REVISION", value: func(i api.KVItem) string { return strconv.FormatInt(i.Revision, 10) }},
			{header: "EXPIRES", wide: true, value: func(i api.KVItem) string { return strconv.FormatBool(i.Expires) }},
			{header: "BYTES", value: func(i api.KVItem) string { return strconv.Itoa(len(i.Value)) }},
			{header: "VALUE", value: func(i api.KVItem) string { return kvPreview(i.Value) }},
		},
	}
}

// kvPreview returns the start of a value, up to 60 characters.
func kvPreview(value []byte) string {
	const limit = 60 // runes
	if !utf8.Valid(value) {
		return "(binary)"
	}
	n := 0
	for at := range string(value[:min(len(value), 4*limit+4)]) {
		if n++; n > limit {
			return string(value[:at]) + "…"
		}
	}
	return strings.TrimSuffix(string(value), "\n")
}
