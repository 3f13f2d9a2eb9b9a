package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/config/input"
	"disc/discovery"
	"disc/discovery/kv"
)

type kvSetOptions struct {
	op   kv.Op
	file string
}

func (a *app) kvSetCommand() *cobra.Command {
	var o kvSetOptions
	var ifRevision func() *int64
	c := &cobra.Command{
		Use:        "set KEY [VALUE]",
		SuggestFor: []string{"put", "write"},
		Short:      "Write a value",
		Long: `Write a value: the argument, with - all of stdin, or with -f the content of a file. More
than 512 KiB are refused. A write without --ttl removes the expiry that the key had.

Exit code 5 if the key is not at --if-revision.`,
		Example: `  disc kv set app/greeting hello
  disc kv set app/leader host-1 --ttl 30s --if-revision 0
  disc kv set app/logo -f logo.png
  disc kv set app/offset -- -5
  date | disc kv set app/today -`,
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: a.completeKey,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			o.op.Key, o.op.If = args[0], ifRevision()
			if o.op.Value, err = a.kvValue(cmd.Context(), args[1:], o.file); err != nil {
				return err
			}
			return a.kvWrite(cmd.Context(), o.op)
		},
	}
	f := c.Flags()
	f.DurationVar(&o.op.TTL, "ttl", 0, "delete the key after this time, at least 1s; etcd's minimum is about 2s")
	f.StringVarP(&o.file, "file", "f", "", "file to read the value from; - is stdin")
	ifRevision = addIfRevision(f, "write only if the key is at this revision; 0: only if it does not exist")
	return c
}

// kvValue returns the value to write. It reads no more than a value may have.
func (a *app) kvValue(ctx context.Context, args []string, file string) ([]byte, error) {
	switch {
	case len(args) == 1 && file != "":
		return nil, usage(errors.New("give the value or -f FILE, not both"))
	case len(args) == 0 && file == "":
		return nil, usage(errors.New("the value is missing: give it after the key, with -f FILE, or as - for stdin"))
	case file == "-", len(args) == 1 && args[0] == "-":
		return input.ReadAll(ctx, a.io.In, "stdin", kv.MaxValue)
	case file != "":
		return input.ReadFile(ctx, file, kv.MaxValue)
	}
	return []byte(args[0]), nil
}

func (a *app) kvDelCommand() *cobra.Command {
	var ifRevision func() *int64
	var recursive bool
	c := &cobra.Command{
		Use:        "del KEY|-r PREFIX/",
		SuggestFor: []string{"rm", "delete", "remove", "unset"},
		Short:      "Delete a key, or all keys below a prefix",
		Long: `Delete a key, or with -r all keys below a prefix, which ends in "/". One transaction
deletes all of them, so that readers see all or none. There is no confirmation;
'disc kv list PREFIX/' shows the keys.

Exit code 3 if there is nothing to delete, 5 if the key is not at --if-revision.`,
		Example: `  disc kv del app/greeting
  disc kv del -r app/`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeKey,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case recursive && cmd.Flags().Changed("if-revision"):
				return usage(errors.New("--recursive does not go with --if-revision, which is about one key"))
			case !recursive && isPrefix(args[0]):
				return usage(fmt.Errorf("%q is a prefix; to delete all below it, use 'disc kv del -r %[1]s'", args[0]))
			case recursive && args[0] == "":
				return usage(errors.New(`the prefix is empty; give one that ends in "/"`))
			case recursive:
				return a.kvDeleteBelow(cmd.Context(), args[0])
			}
			return a.kvWrite(cmd.Context(), kv.Op{Key: args[0], Delete: true, Exists: true, If: ifRevision()})
		},
	}
	ifRevision = addIfRevision(c.Flags(), "delete only if the key is at this revision")
	c.Flags().BoolVarP(&recursive, "recursive", "r", false, "delete all keys below a prefix")
	return c
}

// kvWriteResult is the outcome of a write, as -o json shows it.
type kvWriteResult struct {
	Key      string `json:"key"` // or the prefix
	Revision int64  `json:"revision"`
	Keys     int64  `json:"keys,omitempty"` // number of keys deleted below the prefix
}

// kvWrite writes or deletes a key and prints the revision.
func (a *app) kvWrite(ctx context.Context, op kv.Op) error {
	if err := op.Validate(); err != nil {
		return err
	}
	revision, err := kvCommit(ctx, a, op.Key, func(ctx context.Context, s *kv.Store) (int64, error) { return s.Write(ctx, op) })
	var unmet *kv.ConditionError
	if errors.As(err, &unmet) && op.Delete && op.If == nil {
		return discovery.Errorf(discovery.ErrNotFound, "key %q is not there", op.Key)
	}
	if err != nil {
		return err
	}
	return a.kvShowWriteResult(kvWriteResult{Key: op.Key, Revision: revision}, op.Delete)
}

// kvDeleteBelow deletes all keys below a prefix and prints their number.
func (a *app) kvDeleteBelow(ctx context.Context, prefix string) error {
	done, err := kvCommit(ctx, a, prefix, func(ctx context.Context, s *kv.Store) (kvWriteResult, error) {
		deleted, revision, err := s.DeleteBelow(ctx, prefix)
		return kvWriteResult{Key: prefix, Revision: revision, Keys: deleted}, err
	})
	if err != nil {
		return err
	}
	if done.Keys == 0 {
		return discovery.Errorf(discovery.ErrNotFound, "no keys below %q", prefix)
	}
	return a.kvShowWriteResult(done, true)
}

// kvCommit writes to a key or below a prefix. Once the write was sent, it returns the
// error of the write, even if the connection to etcd fails too.
func kvCommit[T any](ctx context.Context, a *app, keys string, write func(context.Context, *kv.Store) (T, error)) (T, error) {
	var sent error
	done, err := withEtcd(ctx, a, func(ctx context.Context, client *clientv3.Client) (done T, err error) {
		// An error before etcd has answered anything means that nothing was written.
		if _, err := client.Get(ctx, a.keys().KV()+keys, clientv3.WithCountOnly()); err != nil {
			return done, err
		}
		store, err := a.kvStore(client)
		if err != nil {
			return done, err
		}
		done, sent = write(ctx, store)
		return done, sent
	})
	if sent != nil {
		err = a.explain(sent)
	}
	return done, err
}

func (a *app) kvShowWriteResult(w kvWriteResult, deleted bool) error {
	done := "written"
	if deleted {
		done = "deleted"
	}
	if w.Keys > 0 {
		done = countOf(int(w.Keys), "key") + " deleted"
	}
	return show(a, listing[kvWriteResult]{
		items: []kvWriteResult{w}, single: true, name: func(w kvWriteResult) string { return w.Key },
		line: fmt.Sprintf("%s: %s (revision %d)", printable(w.Key), done, w.Revision),
	})
}
