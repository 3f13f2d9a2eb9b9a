package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/kv"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"
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
		Args: cobra.NoArgs,
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
yaml it is in base64, with its revisions. Exit code 3 when the key is not there.`,
		Example: `  disc kv get app/greeting
  disc kv get app/logo > logo.png
  disc kv get app/greeting -o json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			item, err := a.kvItem(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if a.config.CLI.Output == "table" {
				_, err := a.io.Out.Write(item.Value)
				return err
			}
			l := kvListing([]api.KVItem{item})
			l.single = true
			return show(a, l)
		},
	}
}

func (a *app) kvListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list [PREFIX/]",
		Short: "List keys",
		Long: `List all keys, or those below a prefix, which ends in "/". Values are shown in part;
with -o json they are whole, in base64.`,
		Example: `  disc kv list
  disc kv list app/ -o name`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			items, err := a.kvItems(cmd.Context(), strings.Join(args, ""))
			if err != nil {
				return err
			}
			return show(a, kvListing(items))
		},
	}
}

// kvSetOptions are what a value is taken from, and how it is written.
type kvSetOptions struct {
	op   kv.Op
	file string
}

func (a *app) kvSetCommand() *cobra.Command {
	var o kvSetOptions
	var revision int64
	c := &cobra.Command{
		Use:   "set KEY [VALUE]",
		Short: "Write a value",
		Long: `Write a value: the argument as it is, with - all of stdin, or with -f a file. A write
without --ttl makes a value that had one last for good.

Exit code 5 when --if-revision does not hold.`,
		Example: `  disc kv set app/greeting hello
  disc kv set app/leader host-1 --ttl 30s --if-revision 0
  disc kv set app/logo -f logo.png
  date | disc kv set app/today -`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			o.op.Key = args[0]
			if cmd.Flags().Changed("if-revision") {
				o.op.If = &revision
			}
			if o.op.Value, err = a.kvValue(args[1:], o.file); err != nil {
				return err
			}
			return a.kvWrite(cmd.Context(), o.op)
		},
	}
	f := c.Flags()
	f.DurationVar(&o.op.TTL, "ttl", 0, "delete the key after this long, at least 1s; etcd's least is about 2s")
	f.StringVarP(&o.file, "file", "f", "", "read the value from a file, or - for stdin")
	f.Int64Var(&revision, "if-revision", 0, "only if the key is at this revision; 0: only if it is not there")
	return c
}

// kvValue returns the value to be written.
func (a *app) kvValue(args []string, file string) ([]byte, error) {
	switch {
	case len(args) == 1 && file != "":
		return nil, usage(errors.New("give the value or -f FILE, not both"))
	case len(args) == 0 && file == "":
		return nil, usage(errors.New("there is no value: give it behind the key, with -f FILE, or as - for stdin"))
	case file == "-", len(args) == 1 && args[0] == "-":
		return io.ReadAll(a.io.In)
	case file != "":
		return os.ReadFile(file)
	}
	return []byte(args[0]), nil
}

func (a *app) kvDelCommand() *cobra.Command {
	var revision int64
	c := &cobra.Command{
		Use:     "del KEY",
		Short:   "Delete a key",
		Long:    `Delete a key. Exit code 3 when it is not there, 5 when --if-revision does not hold.`,
		Example: `  disc kv del app/greeting`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			op := kv.Op{Key: args[0], Delete: true, Exists: true}
			if cmd.Flags().Changed("if-revision") {
				op.If = &revision
			}
			return a.kvWrite(cmd.Context(), op)
		},
	}
	c.Flags().Int64Var(&revision, "if-revision", 0, "only if the key is at this revision")
	return c
}

// kvWritten is what a write has done, as -o json shows it.
type kvWritten struct {
	Key      string `json:"key"`
	Revision int64  `json:"revision"`
}

// kvWrite writes or deletes a key, and says at which revision.
func (a *app) kvWrite(ctx context.Context, op kv.Op) error {
	if err := op.Validate(); err != nil {
		return err
	}
	var sent error // what has become of a write that was sent, whatever has become of etcd
	revision, err := withEtcd(ctx, a, func(ctx context.Context, client *clientv3.Client) (int64, error) {
		// While etcd has answered nothing, nothing can have been written.
		if _, err := client.Get(ctx, a.keys().KV()+op.Key, clientv3.WithCountOnly()); err != nil {
			return 0, err
		}
		revision, err := a.kvStore(client).Write(ctx, op)
		sent = err
		return revision, err
	})
	if sent != nil {
		err = a.explain(sent)
	}
	var unmet *kv.ConditionError
	if errors.As(err, &unmet) && op.Delete && op.If == nil {
		return discovery.Errorf(discovery.ErrNotFound, "key %q is not there", op.Key)
	}
	if err != nil {
		return err
	}
	return a.kvShowWritten(kvWritten{op.Key, revision}, op.Delete)
}

func (a *app) kvShowWritten(w kvWritten, deleted bool) error {
	if format := a.config.CLI.Output; format != "table" && format != "wide" {
		return show(a, listing[kvWritten]{items: []kvWritten{w}, single: true, name: func(w kvWritten) string { return w.Key }})
	}
	done := "written"
	if deleted {
		done = "deleted"
	}
	_, err := fmt.Fprintf(a.io.Out, "%s: %s (revision %d)\n", printable(w.Key), done, w.Revision)
	return err
}

// kvStore returns a store; what it watches it never lets go.
func (a *app) kvStore(client *clientv3.Client) *kv.Store {
	return kv.New(client, a.keys(), kv.Options{Unused: math.MaxInt64, Logger: a.warnings()})
}

// kvItem reads a key from etcd, or else from this host's agent.
func (a *app) kvItem(ctx context.Context, key string) (api.KVItem, error) {
	item, err := withEtcd(ctx, a, func(ctx context.Context, client *clientv3.Client) (api.KVItem, error) {
		item, _, err := a.kvStore(client).Get(ctx, key, kv.Read{Linearizable: true})
		return kvShown(item), err
	})
	if err == nil {
		return item, nil
	}
	agent, err := a.instead(ctx, err)
	if err != nil {
		return api.KVItem{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, agentTime)
	defer cancel()
	item, view, err := agent.KVGet(ctx, key, api.KVRead{})
	a.noteStale(view)
	return item, err
}

// kvItems lists what lies below a prefix, as etcd has it, or else this host's agent.
func (a *app) kvItems(ctx context.Context, prefix string) ([]api.KVItem, error) {
	items, err := withEtcd(ctx, a, func(ctx context.Context, client *clientv3.Client) ([]api.KVItem, error) {
		list, _, err := a.kvStore(client).List(ctx, prefix, kv.Read{Linearizable: true})
		if err != nil {
			return nil, err
		}
		var items []api.KVItem
		for i := range list {
			items = append(items, kvShown(i))
		}
		return items, nil
	})
	if err == nil {
		return items, nil
	}
	agent, err := a.instead(ctx, err)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, agentTime)
	defer cancel()
	items, view, err := agent.KVList(ctx, prefix, api.KVRead{})
	a.noteStale(view)
	return items, err
}

func kvShown(i kv.Item) api.KVItem {
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
			{header: "VALUE", value: func(i api.KVItem) string { return kvShort(i.Value) }},
		},
	}
}

// kvShort is the begin of a value, as much as fits on a line.
func kvShort(value []byte) string {
	const most = 60 // runes
	n := 0
	for at := range string(value[:min(len(value), 4*most+4)]) {
		if n++; n > most {
			return string(value[:at]) + "…"
		}
	}
	return strings.TrimSuffix(string(value), "\n")
}
