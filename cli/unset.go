package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery/entry"
)

func (a *app) unsetCommand() *cobra.Command {
	var parts entry.Targets
	var o entry.Options
	var ifRevision func() *int64
	var registration, force bool
	c := &cobra.Command{
		Use:        "unset SERVICE/ID",
		SuggestFor: []string{"deregister", "unregister", "delete", "del", "rm", "remove"},
		Short:      "Remove a static entry, an override, or both",
		Long: `Remove what 'disc set' created for an instance: the static entry, the override, or both.
The record of an agent is left alone, except with --registration: then this host's agent
deregisters an instance that it has from its API, and nothing else is removed. One that
'disc run' or another open request holds needs --force; its holder is told.

Exit code 3 if there is nothing to remove, 5 if the entry is not at --if-revision, or the
instance is held.`,
		Example: `  disc unset web/web-1
  disc unset db/primary --override
  disc unset web/web-1 --registration --force`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeTarget,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch edits := parts.Static || parts.Override || o.DryRun || cmd.Flags().Changed("if-revision"); {
			case force && !registration:
				return usage(errors.New("--force goes with --registration"))
			case registration && edits:
				return usage(errors.New("--registration goes with no other flag than --force"))
			case registration:
				return a.deregister(cmd.Context(), args[0], force)
			}
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
	c.Flags().BoolVar(&registration, "registration", false, "deregister the instance from this host's agent")
	c.Flags().BoolVar(&force, "force", false, "with --registration: also an instance that somebody holds")
	ifRevision = addIfRevision(c.Flags(), "remove only if the entry is at this revision")
	return c
}

// deregister has this host's agent deregister an instance.
func (a *app) deregister(ctx context.Context, target string, force bool) error {
	service, id, err := parseTarget(target)
	if err != nil {
		return err
	}
	client, err := a.agent(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, agentTimeout)
	defer cancel()
	deregister := client.Deregister
	if force {
		deregister = client.DeregisterHeld
	}
	done, err := deregister(ctx, service, id)
	if err != nil {
		return err
	}
	if done.Warning != "" {
		a.infof("%s", done.Warning)
	}
	tail := fmt.Sprintf(" (revision %d)", done.Revision)
	if !done.Written {
		tail = "; the agent removes it from etcd when it reaches etcd"
	}
	_, err = fmt.Fprintf(a.io.Out, "%s: deregistered%s\n", printable(target), tail)
	return err
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
