package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/garbage"
	"disc/discovery/life"
)

func (a *app) gcCommand() *cobra.Command {
	var overrides, dryRun, yes bool
	c := &cobra.Command{
		Use:   "gc",
		Short: "Remove keys from etcd that nobody owns any more",
		Long: `Remove keys from etcd that nobody owns any more: ledgers of limits that are removed, and
what agents write on a lease only and has none, as after a copy of etcd key by key. It
asks first, unless --yes is given.

With --overrides it also removes overrides of services that have neither an instance nor
a static entry. A service whose only instance is restarted or scaled to zero looks like
that, and would come back without its drain. So it is done only when asked for, and not
while this host's agent answers with such a service, does not watch it or cannot be asked.

Nothing is removed that has changed since it was found. Keys, limits and static entries
are left alone, and so is what another version may have written.

Locks, claims and quarantines go last: it waits before that as long as a promise from
before can last, which is a minute by default. The output is what was removed. Exit code
5 if all of it had changed, so that nothing was removed.`,
		Example: `  disc gc --dry-run
  disc gc --yes
  disc gc --overrides`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			items, err := a.findGarbage(cmd.Context(), overrides)
			if err != nil {
				return err
			}
			if len(items) == 0 {
				a.infof("there is nothing to remove from namespace %q", a.config.Namespace)
				return show(a, leftoverListing(nil))
			}
			if dryRun {
				return show(a, leftoverListing(leftoversOf(items)))
			}
			if err := a.confirmRemoval(leftoversOf(items), yes); err != nil {
				return err
			}
			removed, err := a.removeItems(cmd.Context(), items)
			return a.showRemoved(leftoversOf(removed), err)
		},
	}
	c.Flags().BoolVar(&overrides, "overrides", false, "also overrides of services without an instance")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "show what would be removed")
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}

// leftover is a key that nobody owns any more, or a suspect of a node that is gone.
type leftover struct {
	Key  string `json:"key"` // below the prefix of the namespace
	Kind string `json:"kind"`
	Why  string `json:"why"`
}

func leftoversOf(items []garbage.Item) []leftover {
	list := make([]leftover, len(items))
	for n, i := range items {
		list[n] = leftover{i.Key, i.What, i.Why}
	}
	return list
}

func leftoverListing(list []leftover) listing[leftover] {
	return listing[leftover]{
		items: list,
		name:  func(l leftover) string { return l.Key },
		columns: []column[leftover]{
			{header: "KEY", value: func(l leftover) string { return l.Key }},
			{header: "KIND", value: func(l leftover) string { return l.Kind }},
			{header: "WHY", value: func(l leftover) string { return l.Why }},
		},
	}
}

// findGarbage returns what nobody owns; of overrides only those that are asked for, and whose service
// this host's agent shows to have no instance.
func (a *app) findGarbage(ctx context.Context, overrides bool) ([]garbage.Item, error) {
	items, err := withEtcdUnbounded(ctx, a, func(ctx context.Context, client *clientv3.Client) ([]garbage.Item, error) {
		return garbage.Find(ctx, client, a.keys())
	})
	others := slices.DeleteFunc(slices.Clone(items), func(i garbage.Item) bool { return i.Service != "" })
	switch found := len(items) - len(others); {
	case err != nil || found == 0:
		return items, err
	case !overrides:
		a.infof("%s of services without an instance stay, since these may be away for a while only; 'disc gc --overrides' removes such", countOf(found, "override"))
		return others, nil
	}
	answered, err := a.answeredServices(ctx)
	if err != nil {
		a.infof("overrides are left alone, since it is unknown which services agents still answer with: %v", err)
		return others, nil
	}
	return slices.DeleteFunc(items, func(i garbage.Item) bool {
		instances, watched := answered[i.Service]
		switch {
		case i.Service == "":
			return false
		case !watched:
			a.infof("%s is left alone: this host's agent does not watch %s; ask one that does by --agent", i.Key, i.Service)
		case instances > 0:
			a.infof("%s is left alone: this host's agent still answers with instances of %s, which may come back", i.Key, i.Service)
		}
		return !watched || instances > 0
	}), nil
}

// answeredServices returns the number of instances that this host's agent shows, suspects among them,
// of each service that it watches, by folded name. A service that has nothing but an override is one of
// them.
func (a *app) answeredServices(ctx context.Context) (map[string]int, error) {
	client, its, err := a.namespaceAgent(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, agentTimeout)
	defer cancel()
	services, view, err := client.Services(ctx, api.Wait{})
	if err == nil && (view.Stale || !its.Catalog.Synced) {
		err = discovery.Errorf(discovery.ErrUnavailable, "the view of this host's agent is %v old; see 'disc status'", view.Age.Round(time.Second))
	}
	answered := map[string]int{}
	for _, s := range services {
		if !s.Unwatched {
			answered[discovery.FoldName(s.Service)] = s.Total
		}
	}
	return answered, err
}

// confirmRemoval shows what is to be removed, and asks whether it may be.
func (a *app) confirmRemoval(list []leftover, yes bool) error {
	if !yes {
		shown := *a.io
		shown.Out = a.io.Err
		if err := leftoverListing(list).table(&shown, false); err != nil {
			return err
		}
	}
	return a.confirm("remove these?", yes)
}

// removeItems removes items: at first those that nobody relies on, and then, when no promise can last
// any more that they may stand for, the others.
func (a *app) removeItems(ctx context.Context, items []garbage.Item) ([]garbage.Item, error) {
	var promised, others []garbage.Item
	for _, i := range items {
		if i.Promised {
			promised = append(promised, i)
		} else {
			others = append(others, i)
		}
	}
	removed, err := a.removeNow(ctx, others)
	if err != nil || len(promised) == 0 {
		return removed, err
	}
	if err := a.awaitPromises(ctx); err != nil {
		return removed, fmt.Errorf("locks, claims and quarantines are left alone, %d in number: %w", len(promised), err)
	}
	rest, err := a.removeNow(ctx, promised)
	return append(removed, rest...), err
}

func (a *app) removeNow(ctx context.Context, items []garbage.Item) ([]garbage.Item, error) {
	if len(items) == 0 {
		return nil, nil
	}
	var spared []garbage.Item
	removed, err := withEtcdUnbounded(ctx, a, func(ctx context.Context, client *clientv3.Client) (removed []garbage.Item, err error) {
		removed, spared, err = garbage.Remove(ctx, client, items)
		return removed, err
	})
	for _, i := range spared {
		a.infof("%s is left alone: it has changed meanwhile, or is needed again", i.Key)
	}
	return removed, err
}

// awaitPromises returns when no promise can last any more that was made before.
func (a *app) awaitPromises(ctx context.Context) error {
	wait, err := withEtcd(ctx, a, func(ctx context.Context, client *clientv3.Client) (time.Duration, error) {
		return life.ReadQuarantine(ctx, client, a.keys())
	})
	if err != nil {
		return err
	}
	a.infof("waiting %v, until nobody can rely on a lock or a claim that is to be removed", wait)
	for end := uptime() + wait; uptime() < end; {
		select {
		case <-time.After(end - uptime()):
		case <-ctx.Done():
			return fmt.Errorf("the wait for promises to end: %w", ctx.Err())
		}
	}
	return nil
}

// showRemoved shows what was removed. If that is nothing, though there is no error, all of it had
// changed.
func (a *app) showRemoved(list []leftover, err error) error {
	err = errors.Join(err, show(a, leftoverListing(list)))
	if err == nil && len(list) == 0 {
		return exitWith(exitConflict)
	}
	return err
}
