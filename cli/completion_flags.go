package cli

import (
	"context"
	"errors"
	"slices"

	"github.com/spf13/cobra"

	"disc/agent/api"
	"disc/config"
	"disc/discovery/view"
)

// completeFlags completes the values of flags, those of the commands below root by their names.
func (a *app) completeFlags(root *cobra.Command) {
	formats := []string{"table", "wide", "json", "jsonl", "yaml", "name", "addr", "template="}
	completeFlag(root, "output", func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		if cmd.Name() == "export" {
			return []string{"file_sd"}, cobra.ShellCompDirectiveNoFileComp
		}
		return formats, cobra.ShellCompDirectiveNoFileComp
	})
	completeFlag(root, "namespace", a.completeFlagWith(func(ctx context.Context, _ []string) []string {
		names, _ := withEtcd(ctx, a, namespaces) // an error leaves nothing to offer
		return names
	}))
	values := map[string]cobra.CompletionFunc{
		"status": cobra.FixedCompletions(statusValues, cobra.ShellCompDirectiveNoFileComp),
		"state":  cobra.FixedCompletions([]string{"up", "drain", "down"}, cobra.ShellCompDirectiveNoFileComp),
		"zone":   a.completeFlagWith(a.knownZones),
		"node":   a.completeFlagWith(a.knownNodes),
		"tag":    a.completeFlagWith(a.knownTags),
	}
	eachCommand(root, func(c *cobra.Command) {
		for name, complete := range values {
			if c.LocalNonPersistentFlags().Lookup(name) != nil {
				completeFlag(c, name, complete)
			}
		}
	})
}

func completeFlag(c *cobra.Command, name string, complete cobra.CompletionFunc) {
	if err := c.RegisterFlagCompletionFunc(name, complete); err != nil {
		panic(err) // the flag is defined, and completed only here
	}
}

// completeFlagWith completes a flag with names, which may depend on the arguments before it.
func (a *app) completeFlagWith(names func(context.Context, []string) []string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
		defer cancel()
		var err error
		if a.config, err = config.Load(ctx, cmd.Flags(), a.io.Host); err != nil { // a completion skips prepare
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		all := names(ctx, args)
		slices.Sort(all)
		return slices.Compact(slices.DeleteFunc(all, func(s string) bool { return s == "" })), cobra.ShellCompDirectiveNoFileComp
	}
}

func (a *app) knownZones(ctx context.Context, args []string) (zones []string) {
	for _, e := range a.entriesToComplete(ctx, args) {
		zones = append(zones, e.Zone)
	}
	return zones
}

func (a *app) knownNodes(ctx context.Context, args []string) (nodes []string) {
	for _, e := range a.entriesToComplete(ctx, args) {
		nodes = append(nodes, e.Node)
	}
	return nodes
}

func (a *app) knownTags(ctx context.Context, args []string) (tags []string) {
	for _, e := range a.entriesToComplete(ctx, args) {
		tags = append(tags, e.Tags...)
	}
	return tags
}

// entriesToComplete returns the instances of the service that the first argument names or, if it
// names none, of all services: from this host's agent, or else from etcd.
func (a *app) entriesToComplete(ctx context.Context, args []string) []view.Entry {
	if len(args) > 0 {
		if agent, err := a.agent(ctx); err == nil {
			if entries, _, err := agent.Instances(ctx, args[0], api.ListOptions{}); err == nil && len(entries) > 0 {
				return entries
			}
		}
	}
	if all, err := a.wholeView(ctx); err == nil {
		return all
	}
	snapshot, err := a.readSnapshot(ctx, "")
	if err != nil {
		return nil
	}
	var all []view.Entry
	for s := range snapshot.Services() {
		all = append(all, copied(s.Entries())...)
	}
	return all
}

// errPartialView reports that an agent does not watch all services.
var errPartialView = errors.New("the agent does not watch all services")

// wholeView returns the instances of all services from this host's agent. It fails if the agent does
// not watch all of them, which a completion must not change.
func (a *app) wholeView(ctx context.Context) ([]view.Entry, error) {
	agent, err := a.agent(ctx)
	if err != nil {
		return nil, err
	}
	services, _, err := agent.Services(ctx, api.Wait{})
	if err != nil {
		return nil, err
	}
	if len(unwatchedServices(services)) > 0 {
		return nil, errPartialView
	}
	return watchedInstances(ctx, agent, services)
}
