package cli

import (
	"bytes"
	"context"
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
)

func (a *app) kvCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "kv",
		Short: "Shared key/value state",
		Long: `Shared key/value state. A key is 1 to 512 bytes of text in segments divided by "/"; a
value is any bytes, up to 512 KiB.`,
		Example: `  disc kv set app/greeting hello
  disc kv get app/greeting
  disc kv list app/`,
		Args: rejectUnknownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(a.kvGetCommand(), a.kvSetCommand(), a.kvDelCommand(), a.kvListCommand(), a.kvWatchCommand())
	return c
}

func (a *app) kvGetCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "get KEY",
		Short: "Write a value to stdout, byte for byte",
		Long: `Write a value to stdout, byte for byte and with nothing behind it. With -o json or
yaml it is in base64, with its revisions. A terminal gets a newline behind a text, and
nothing that is no text. Exit code 3 when the key is not there.`,
		Example: `  disc kv get app/greeting
  disc kv get app/logo > logo.png
  disc kv get app/greeting -o json`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeKey,
		RunE: func(cmd *cobra.Command, args []string) error {
			item, err := a.kvItem(cmd.Context(), args[0])
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
}

func (a *app) kvListCommand() *cobra.Command {
	return &cobra.Command{
		Use:        "list [PREFIX/]",
		Aliases:    []string{"ls"},
		SuggestFor: []string{"keys"},
		Short:      "List keys",
		Long: `List all keys, or those below a prefix, which ends in "/". Values are shown in part;
with -o json they are whole, in base64.`,
		Example: `  disc kv list
  disc kv list app/ -o name`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completePrefix,
		RunE: func(cmd *cobra.Command, args []string) error {
			prefix := strings.Join(args, "")
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

// kvShowValue writes a value as it is. What could steer a terminal is kept from one.
func (a *app) kvShowValue(item api.KVItem) error {
	value := item.Value
	if a.io.Screen {
		if text := string(value); !utf8.Valid(value) || printableText(text) != text {
			return usage(fmt.Errorf("the value of key %q is no text, and this is a terminal: send it on with > FILE or |, or use -o json", item.Key))
		}
		if len(value) > 0 && !bytes.HasSuffix(value, []byte("\n")) {
			value = append(slices.Clip(value), '\n')
		}
	}
	_, err := a.io.Out.Write(value)
	return err
}

// kvStore returns a store; what it watches it never lets go.
func (a *app) kvStore(client *clientv3.Client) (*kv.Store, error) {
	return kv.New(client, a.keys(), kv.Options{IdleTimeout: math.MaxInt64, Logger: a.warnings()})
}

// kvItem reads a key from etcd, or else from this host's agent.
func (a *app) kvItem(ctx context.Context, key string) (api.KVItem, error) {
	item, err := withEtcd(ctx, a, func(ctx context.Context, client *clientv3.Client) (api.KVItem, error) {
		store, err := a.kvStore(client)
		if err != nil {
			return api.KVItem{}, err
		}
		item, _, err := store.Get(ctx, key, kv.Read{Linearizable: true})
		return apiKVItem(item), err
	})
	if err == nil {
		return item, nil
	}
	agent, err := a.fallBackToAgent(ctx, err)
	if err != nil {
		return api.KVItem{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, agentTimeout)
	defer cancel()
	item, view, err := agent.KVGet(ctx, key, api.KVRead{})
	a.warnStale(view)
	return item, err
}

// kvItems lists what lies below a prefix, as etcd has it, or else this host's agent.
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
	agent, err := a.fallBackToAgent(ctx, err)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, agentTimeout)
	defer cancel()
	items, view, err := agent.KVList(ctx, prefix, api.KVRead{})
	a.warnStale(view)
	return items, err
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

// kvPreview is the begin of a value, as much as fits on a line.
func kvPreview(value []byte) string {
	const most = 60 // runes
	if !utf8.Valid(value) {
		return "(binary)"
	}
	n := 0
	for at := range string(value[:min(len(value), 4*most+4)]) {
		if n++; n > most {
			return string(value[:at]) + "…"
		}
	}
	return strings.TrimSuffix(string(value), "\n")
}
