package cli

import (
	"context"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery/entry"
)

func (a *app) unsetCommand() *cobra.Command {
	var parts entry.Targets
	var o entry.Options
	var ifRevision func() *int64
	c := &cobra.Command{
		Use:   "unset SERVICE/ID",
		Short: "Remove a static entry, an override, or both",
		Long: `Remove what 'disc set' created for an instance: the static entry, the override, or both.
The record of an agent is left alone.

Exit code 3 if there is nothing to remove, 5 if the entry is not at --if-revision.`,
		Example: `  disc unset web/web-1
  disc unset db/primary --override`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeTarget,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.IfRevision = ifRevision()
			if !parts.Static && !parts.Override {
				parts = entry.Targets{Static: true, Override: true}
			}
			return a.unset(cmd.Context(), args[0], parts, o)
		},
	}
	c.Flags().BoolVar(&parts.Static, "static", false, "remove only the static entry")
	c.Flags().BoolVar(&parts.Override, "override", false, "remove only the override")
	c.Flags().BoolVar(&o.DryRun, "dry-run", false, "show the change without making it")
	ifRevision = addIfRevision(c.Flags(), "remove only if the entry is at this revision")
	return c
}

func (a *app) unset(ctx context.Context, target string, parts entry.Targets, o entry.Options) error {
	service, id, err := parseTarget(target)
	if err != nil {
		return err
	}
	change, err := withEtcd(ctx, a, func(ctx context.Context, client *clientv3.Client) (entry.Change, error) {
		return entry.Editor{Client: client, Keys: a.keys()}.Remove(ctx, service, id, parts, o)
	})
	if err != nil {
		return err
	}
	return a.showEdit(target, change, o.DryRun)
}
