package cli

import (
	"context"
	"errors"
	"slices"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/entry"
	"disc/discovery/garbage"
)

func (a *app) nodeCommand() *cobra.Command {
	return groupCommand(cobra.Command{
		Use:     "node",
		Short:   "Forget a host that will not come back",
		Long:    `Forget a host that will not come back.`,
		Example: `  disc node forget host-7`,
	}, a.nodeForgetCommand())
}

func (a *app) nodeForgetCommand() *cobra.Command {
	var dryRun, yes bool
	c := &cobra.Command{
		Use:   "forget NAME",
		Short: "Remove what a host that will not come back has left",
		Long: `Remove what a host that will not come back has left. Its records, locks and claims go by
themselves with its session. What can be left is:

- its suspects, as far as this host's agent knows them: all agents drop them;
- the overrides of these;
- its name among the agents that hold back the feature level;
- its keys that have no lease, as after a copy of etcd key by key.

It shows these and asks first, unless --yes is given. Nothing is removed that has changed
since. Below feature level 2, and when the suspects cannot be dropped, their overrides
stay as well. Exit code 5 while a session of the host lives, below that level, and if
nothing was removed since all has changed; 3 if nothing is left of the host.`,
		Example: `  disc node forget host-7 --dry-run
  disc node forget host-7 --yes -o json`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := discovery.ValidateNode(args[0]); err != nil {
				return usage(err)
			}
			return a.forgetNode(cmd.Context(), args[0], dryRun, yes)
		},
	}
	c.Flags().BoolVar(&dryRun, "dry-run", false, "show what would be removed")
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}

func (a *app) forgetNode(ctx context.Context, node string, dryRun, yes bool) error {
	suspects, err := a.suspectsOf(ctx, node)
	if err != nil {
		a.infof("it is unknown whether agents still answer with instances of node %s: %v", node, err)
	}
	suspects, levelErr := a.droppable(ctx, suspects)
	var gone []garbage.Instance
	var drops []entry.Instance
	var list []leftover
	for _, s := range suspects {
		gone = append(gone, garbage.Instance{Service: discovery.FoldName(s.Service), ID: s.ID})
		drops = append(drops, entry.Instance{Service: s.Service, ID: s.ID})
		list = append(list, leftover{s.Service + "/" + s.ID, "suspect", "agents still answer with it"})
	}
	items, err := withEtcdUnbounded(ctx, a, func(ctx context.Context, client *clientv3.Client) ([]garbage.Item, error) {
		return garbage.FindNode(ctx, client, a.keys(), node, gone)
	})
	if err != nil {
		return err
	}
	list = append(list, leftoversOf(items)...)
	switch {
	case len(list) == 0 && levelErr != nil:
		return levelErr
	case len(list) == 0:
		return discovery.Errorf(discovery.ErrNotFound, "nothing is left of node %q in namespace %q", node, a.config.Namespace)
	case dryRun:
		return errors.Join(levelErr, show(a, leftoverListing(list)))
	}
	if err := a.confirmRemoval(list, yes); err != nil {
		return err
	}
	done, err := a.forgetItems(ctx, drops, items)
	return a.showRemoved(done, errors.Join(levelErr, err))
}

// droppable returns the suspects, or none and an error if no order on them can be given.
func (a *app) droppable(ctx context.Context, suspects []api.Suspect) ([]api.Suspect, error) {
	if len(suspects) == 0 {
		return nil, nil
	}
	_, err := withEtcd(ctx, a, func(ctx context.Context, client *clientv3.Client) (struct{}, error) {
		return struct{}{}, entry.Editor{Client: client, Keys: a.keys()}.SuspectOrdersAllowed(ctx)
	})
	if err != nil {
		return nil, err
	}
	return suspects, nil
}

// forgetItems drops suspects and removes items, and returns what it has done. Where a suspect could
// not be dropped, the overrides stay: without its drain it would be answered.
func (a *app) forgetItems(ctx context.Context, drops []entry.Instance, items []garbage.Item) ([]leftover, error) {
	done, dropErr := a.dropSuspects(ctx, drops)
	if dropErr != nil {
		items = slices.DeleteFunc(items, func(i garbage.Item) bool { return i.Service != "" })
	}
	removed, err := a.removeItems(ctx, items)
	return append(done, leftoversOf(removed)...), errors.Join(dropErr, err)
}

// suspectsOf returns the suspects of this host's agent that were on a node.
func (a *app) suspectsOf(ctx context.Context, node string) ([]api.Suspect, error) {
	all, err := a.suspects(ctx, optionalTarget{})
	var list []api.Suspect
	for _, s := range all {
		if s.Node == node {
			list = append(list, s)
		}
	}
	return list, err
}

// dropSuspects orders all agents to drop suspects, and returns those.
func (a *app) dropSuspects(ctx context.Context, instances []entry.Instance) (list []leftover, err error) {
	done, err := a.writeOrders(ctx, discovery.SuspectOrder{Order: discovery.DropSuspect}, 0, instances)
	for _, i := range done.Ordered {
		list = append(list, leftover{i.Service + "/" + i.ID, "suspect", "agents are ordered to drop it"})
	}
	return list, err
}
