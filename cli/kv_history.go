package cli

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/kv"
)

func (a *app) kvHistoryCommand() *cobra.Command {
	var most int
	var from func() *int64
	c := &cobra.Command{
		Use:        "history KEY",
		SuggestFor: []string{"log", "versions"},
		Short:      "Show earlier versions of a key",
		Long: `Show the versions of a key, newest first: the writes, and the deletions, also those by a
TTL that ended. The table shortens values; 'disc kv get KEY --rev N' writes one.

etcd keeps old versions until it compacts them, which its --auto-compaction-retention
rules; the etcd of 'disc dev' keeps them for an hour. What is compacted is gone.

The versions since the key was created are all there. Before that, and for a key that is
deleted now, etcd has no list to follow: the command searches for a revision at which the
key was there. It finds one if the key existed at the oldest revision that etcd keeps, or
for at least as many revisions as it has been gone. It may miss others: if you know a
revision at which the key was there, give it with --rev.

Exit code 3 if there is no version, or etcd has compacted --rev.`,
		Example: `  disc kv history app/greeting
  disc kv history app/greeting --max 50 -o json
  disc kv history app/deleted --rev 20`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeKey,
		RunE: func(cmd *cobra.Command, args []string) error {
			o := kv.HistoryOptions{Max: most}
			if revision := from(); revision != nil {
				if o.From = *revision; o.From < 1 {
					return usage(fmt.Errorf("--rev %d is not a revision; give one from 1", o.From))
				}
			}
			h, err := a.kvHistory(cmd.Context(), args[0], o)
			if err != nil {
				return err
			}
			return a.kvShowHistory(h)
		},
	}
	c.Flags().IntVar(&most, "max", api.DefaultKVVersions, "maximum number of versions, up to "+strconv.Itoa(kv.MaxVersions))
	from = addRevision(c.Flags(), "rev", "go back from this revision of etcd instead of the present one")
	return c
}

// kvHistory reads versions of a key from etcd or, if etcd cannot be reached, through this
// host's agent.
func (a *app) kvHistory(ctx context.Context, key string, o kv.HistoryOptions) (api.KVHistory, error) {
	h, err := withEtcd(ctx, a, func(ctx context.Context, client *clientv3.Client) (api.KVHistory, error) {
		store, err := a.kvStore(client)
		if err != nil {
			return api.KVHistory{}, err
		}
		h, _, err := store.History(ctx, key, o)
		return apiKVHistory(key, h), err
	})
	if err == nil {
		return h, nil
	}
	return orAgent(ctx, a, err, func(ctx context.Context, agent *api.Client) (api.KVHistory, api.Freshness, error) {
		return agent.KVHistory(ctx, key, api.KVHistoryOptions(o))
	})
}

// kvShowHistory prints versions, and what there is before them.
func (a *app) kvShowHistory(h api.KVHistory) error {
	if err := a.kvShowVersions(h); err != nil {
		return err
	}
	switch h.Older {
	case api.KVOlderMore:
		oldest := h.Versions[len(h.Versions)-1]
		a.infof("there are older versions: 'disc kv history %s --rev %d'", h.Key, oldest.Revision-1)
	case api.KVOlderCompacted:
		a.infof("older versions are compacted: etcd keeps them for as long as its --auto-compaction-retention says, 'disc dev' for 1h")
	case api.KVOlderNone:
	}
	return nil
}

func (a *app) kvShowVersions(h api.KVHistory) error {
	if format := a.config.CLI.Output; format == "json" || format == "yaml" {
		return show(a, listing[api.KVHistory]{items: []api.KVHistory{h}, single: true})
	}
	return show(a, listing[api.KVVersion]{
		items: h.Versions,
		name:  func(v api.KVVersion) string { return strconv.FormatInt(v.Revision, 10) },
		columns: []column[api.KVVersion]{
			{header: "REVISION", value: func(v api.KVVersion) string { return strconv.FormatInt(v.Revision, 10) }},
			{header: "CHANGE", value: kvChange},
			{header: "CREATED", wide: true, value: func(v api.KVVersion) string { return unlessDeleted(v, strconv.FormatInt(v.Created, 10)) }},
			{header: "EXPIRES", value: kvExpiry},
			{header: "BYTES", value: func(v api.KVVersion) string { return unlessDeleted(v, strconv.Itoa(len(v.Value))) }},
			{header: "VALUE", value: func(v api.KVVersion) string { return kvPreview(v.Value) }},
		},
	})
}

// kvChange tells what made a version.
func kvChange(v api.KVVersion) string {
	switch {
	case v.Deleted:
		return "deleted"
	case v.Number == 1:
		return "created"
	}
	return "written"
}

// kvExpiry tells when the present value expires, or that an earlier one had a TTL.
func kvExpiry(v api.KVVersion) string {
	switch {
	case v.ExpiresIn > 0:
		return "in " + v.ExpiresIn.String()
	case v.Expires:
		return "yes"
	}
	return ""
}

func unlessDeleted(v api.KVVersion, text string) string {
	if v.Deleted {
		return ""
	}
	return text
}

func (a *app) kvRollbackCommand() *cobra.Command {
	var o kv.RollbackOptions
	var revision, ifRevision func() *int64
	c := &cobra.Command{
		Use:        "rollback KEY --rev N",
		SuggestFor: []string{"restore", "revert", "undo"},
		Short:      "Write an earlier value again",
		Long: `Write the value that a key had at a revision of etcd as a new version; 'disc kv history
KEY' shows the revisions. Nothing is written if the key changes while the command runs.

The TTL that the value had is not taken over, and one that the key has now ends, as with
'disc kv set': --ttl sets one. The command says so.

Exit code 3 if the key was not there at --rev, or etcd has compacted that revision; 5 if
the key has changed, or is not at --if-revision.`,
		Example: `  disc kv rollback app/greeting --rev 20
  disc kv rollback app/greeting --rev 20 --if-revision 24
  disc kv rollback app/leader --rev 20 --ttl 30s`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeKey,
		RunE: func(cmd *cobra.Command, args []string) error {
			to := revision()
			if to == nil {
				return usage(fmt.Errorf("--rev is missing: give the revision to go back to; 'disc kv history %s' shows them", args[0]))
			}
			o.If = ifRevision()
			return a.kvRollback(cmd.Context(), args[0], *to, o)
		},
	}
	f := c.Flags()
	revision = addRevision(f, "rev", "revision of etcd at which the key had the value (required)")
	f.DurationVar(&o.TTL, "ttl", 0, "delete the key after this time, at least 1s; etcd's minimum is about 2s")
	ifRevision = addIfRevision(f, "write only if the key is at this revision; 0: only if it does not exist")
	return c
}

// kvRollbackResult is the outcome of a rollback, as -o json shows it.
type kvRollbackResult struct {
	Key      string `json:"key"`
	Revision int64  `json:"revision"` // of the write
	Restored int64  `json:"restored"` // revision of the version that has the value
	Replaced int64  `json:"replaced"` // revision of the version that was there; 0: none
}

func (a *app) kvRollback(ctx context.Context, key string, revision int64, o kv.RollbackOptions) error {
	done, err := kvCommit(ctx, a, key, func(ctx context.Context, s *kv.Store) (kv.Rollback, error) {
		return s.Rollback(ctx, key, revision, o)
	})
	if err != nil {
		return err
	}
	if o.TTL == 0 && done.Restored.Lease != clientv3.NoLease {
		a.infof("the value of revision %d had a TTL; it is written without one: 'disc kv rollback --ttl' sets one", done.Restored.Revision)
	}
	if o.TTL == 0 && done.Replaced.Lease != clientv3.NoLease {
		a.infof("the TTL that the key had at revision %d ends: 'disc kv rollback --ttl' sets one", done.Replaced.Revision)
	}
	r := kvRollbackResult{key, done.Revision, done.Restored.Revision, done.Replaced.Revision}
	was := fmt.Sprintf("in place of revision %d", r.Replaced)
	if r.Replaced == 0 {
		was = "after its deletion"
	}
	return show(a, listing[kvRollbackResult]{
		items: []kvRollbackResult{r}, single: true, name: func(r kvRollbackResult) string { return r.Key },
		line: fmt.Sprintf("%s: rolled back to revision %d, %s (revision %d)", printable(key), r.Restored, was, r.Revision),
	})
}

func apiKVHistory(key string, h kv.History) api.KVHistory {
	all := api.KVHistory{Key: key, Older: api.KVOlder(h.Older)}
	for _, v := range h.Versions {
		all.Versions = append(all.Versions, api.KVVersion{
			Revision: v.Revision, Deleted: v.Number == 0, Value: v.Value, Created: v.Created, Number: v.Number,
			Expires: v.Lease != clientv3.NoLease, ExpiresIn: discovery.Duration(v.ExpiresIn),
		})
	}
	return all
}
