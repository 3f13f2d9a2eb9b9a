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
	"disc/discovery/view"
)

// completionTimeout bounds a completion, for which somebody waits at the keyboard.
const completionTimeout = 700 * time.Millisecond

// completeFirst completes the first argument with names. No space follows a name that
// ends in "/".
func (a *app) completeFirst(cmd *cobra.Command, args []string, names func(context.Context) []string) ([]string, cobra.ShellCompDirective) {
	var err error
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
	defer cancel()
	if a.config, err = config.Load(ctx, cmd.Flags(), a.io.Host); err != nil { // a completion skips prepare
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	all := names(ctx)
	if slices.ContainsFunc(all, isPrefix) {
		return all, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	}
	return all, cobra.ShellCompDirectiveNoFileComp
}

// completeService completes the name of a service that has instances.
func (a *app) completeService(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return a.completeFirst(cmd, args, a.knownServices)
}

// completeTarget completes SERVICE/ID.
func (a *app) completeTarget(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	service, _, inService := strings.Cut(typed, "/")
	return a.completeFirst(cmd, args, func(ctx context.Context) (names []string) {
		if inService {
			for _, id := range a.knownInstances(ctx, service) {
				names = append(names, service+"/"+id)
			}
			return names
		}
		for _, name := range a.knownServices(ctx) {
			names = append(names, name+"/")
		}
		return names
	})
}

// maxCompletions is the maximum number of keys that a completion offers.
const maxCompletions = 1000

// completeKey completes a key of etcd, segment by segment.
func (a *app) completeKey(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	return a.completeFirst(cmd, args, func(ctx context.Context) []string {
		names, _ := withEtcd(ctx, a, func(ctx context.Context, client *clientv3.Client) ([]string, error) {
			store, err := a.kvStore(client)
			if err != nil {
				return nil, err
			}
			return store.Complete(ctx, typed, maxCompletions)
		})
		return names
	})
}

// completePrefix completes a prefix of keys, which ends in "/".
func (a *app) completePrefix(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	names, _ := a.completeKey(cmd, args, typed)
	names = slices.DeleteFunc(names, func(name string) bool { return !isPrefix(name) })
	return names, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}

func isPrefix(name string) bool { return strings.HasSuffix(name, "/") }

// knownServices returns the names of services from this host's agent, or else from etcd.
func (a *app) knownServices(ctx context.Context) []string {
	if names := a.namesAtAgent(ctx); names != nil {
		return names
	}
	return a.namesInEtcd(ctx)
}

// namesAtAgent returns the names of the services that this host's agent knows; nil if it does
// not say.
func (a *app) namesAtAgent(ctx context.Context) []string {
	ctx, cancel := context.WithTimeout(ctx, agentTimeout)
	defer cancel()
	agent, err := a.agent(ctx)
	if err != nil {
		return nil
	}
	services, _, err := agent.Services(ctx, api.Wait{})
	if err != nil {
		return nil
	}
	names := make([]string, len(services))
	for n, s := range services {
		names[n] = s.Service
	}
	return names
}

// namesInEtcd returns the names of the services of which etcd has something.
func (a *app) namesInEtcd(ctx context.Context) (names []string) {
	if snapshot, err := a.readSnapshot(ctx, ""); err == nil {
		names = serviceNames(snapshot)
	}
	return names
}

func serviceNames(snapshot *view.Snapshot) (names []string) {
	for s := range snapshot.Services() {
		names = append(names, s.Name)
	}
	return names
}

// knownInstances returns the ids of a service's instances from this host's agent, or else
// from etcd.
func (a *app) knownInstances(ctx context.Context, service string) (ids []string) {
	if agent, err := a.agent(ctx); err == nil {
		if entries, _, err := agent.Instances(ctx, service, api.ListOptions{}); err == nil {
			for _, e := range entries {
				ids = append(ids, e.ID)
			}
			return ids
		}
	}
	if snapshot, err := a.readSnapshot(ctx, service); err == nil {
		if s, ok := snapshot.Service(service); ok {
			for _, e := range s.Entries() {
				ids = append(ids, e.ID)
			}
		}
	}
	return ids
}
