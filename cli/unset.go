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
	var revision int64
	c := &cobra.Command{
		Use:   "unset SERVICE/ID",
		Short: "Remove a static entry, an override, or both",
		Long: `Remove what 'disc set' has made of an instance: the static entry, the override, or
both. A record that an agent owns is not touched.

Exit code 3 when there is nothing to remove.`,
		Example: `  disc unset web/web-1
  disc unset db/primary --override`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeTarget,
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("if-revision") {
				o.IfRevision = &revision
			}
			if !parts.Static && !parts.Override {
				parts = entry.Targets{Static: true, Override: true}
			}
			return a.unset(cmd.Context(), args[0], parts, o)
		},
	}
	c.Flags().BoolVar(&parts.Static, "static", false, "only the static entry")
	c.Flags().BoolVar(&parts.Override, "override", false, "only the override")
	c.Flags().BoolVar(&o.DryRun, "dry-run", false, "say what would change, and change nothing")
	c.Flags().Int64Var(&revision, "if-revision", 0, "only if the entry is at this revision")
	return c
}

func (a *app) unset(ctx context.Context, what string, parts entry.Targets, o entry.Options) error {
	service, id, err := parseTarget(what)
	if err != nil {
		return err
	}
	change, err := withEtcd(ctx, a, func(ctx context.Context, client *clientv3.Client) (entry.Change, error) {
		return entry.Editor{Client: client, Keys: a.keys()}.Remove(ctx, service, id, parts, o)
	})
	if err != nil {
		return err
	}
	return a.showEdit(what, change, o.DryRun)
}
