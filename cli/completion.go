package cli

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/agent/api"
	"disc/config"
)

// completionTimeout bounds a completion: whoever types does not wait longer.
const completionTimeout = 700 * time.Millisecond

// completeService completes the names of live services, as this host's agent knows
// them, or else etcd.
func (a *app) completeService(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 || a.prepareCompletion(cmd) != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
	defer cancel()
	var names []string
	for _, s := range a.knownServices(ctx) {
		names = append(names, s.Service)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeTarget completes SERVICE/ID.
func (a *app) completeTarget(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	service, _, inService := strings.Cut(typed, "/")
	if len(args) > 0 || a.prepareCompletion(cmd) != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
	defer cancel()
	var names []string
	if !inService {
		for _, s := range a.knownServices(ctx) {
			names = append(names, s.Service+"/")
		}
		return names, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	}
	if agent, err := a.agent(ctx); err == nil {
		if entries, _, err := agent.Instances(ctx, service, api.ListOptions{}); err == nil {
			for _, e := range entries {
				names = append(names, service+"/"+e.ID)
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		}
	}
	if snapshot, err := a.readSnapshot(ctx, service); err == nil {
		if s, ok := snapshot.Service(service); ok {
			for _, e := range s.Entries() {
				names = append(names, service+"/"+e.ID)
			}
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// maxCompletions is how many keys a completion offers.
const maxCompletions = 1000

// completeKey completes a key segment by segment, as etcd has them.
func (a *app) completeKey(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 || a.prepareCompletion(cmd) != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
	defer cancel()
	names, err := withEtcd(ctx, a, func(ctx context.Context, client *clientv3.Client) ([]string, error) {
		store, err := a.kvStore(client)
		if err != nil {
			return nil, err
		}
		return store.Complete(ctx, typed, maxCompletions)
	})
	if err != nil || !slices.ContainsFunc(names, isPrefix) {
		return names, cobra.ShellCompDirectiveNoFileComp
	}
	return names, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}

// completePrefix is completeKey for prefixes alone.
func (a *app) completePrefix(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	names, _ := a.completeKey(cmd, args, typed)
	names = slices.DeleteFunc(names, func(name string) bool { return !isPrefix(name) })
	return names, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}

func isPrefix(name string) bool { return strings.HasSuffix(name, "/") }

// prepareCompletion loads the settings, which a completion does not by itself.
func (a *app) prepareCompletion(cmd *cobra.Command) (err error) {
	a.config, err = config.Load(cmd.Flags(), a.io.host())
	return err
}

func (a *app) knownServices(ctx context.Context) []api.Service {
	if agent, err := a.agent(ctx); err == nil {
		if services, _, err := agent.Services(ctx, api.Wait{}); err == nil {
			return services
		}
	}
	snapshot, err := a.readSnapshot(ctx, "")
	if err != nil {
		return nil
	}
	var all []api.Service
	for s := range snapshot.Services() {
		all = append(all, api.ServiceOf(s))
	}
	return all
}

// completeFlags completes the values of global flags.
func (a *app) completeFlags(root *cobra.Command) {
	formats := cobra.FixedCompletions([]string{"table", "wide", "json", "jsonl", "yaml", "name", "addr", "template="}, cobra.ShellCompDirectiveNoFileComp)
	if err := root.RegisterFlagCompletionFunc("output", formats); err != nil {
		panic(err) // the flag is defined above
	}
}
