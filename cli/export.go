package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"disc/agent/api"
	"disc/discovery"
)

func (a *app) exportCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "export [-o file_sd] [SERVICE...]",
		Short: "Write entries in the format of another program",
		Long: `Write all instances in etcd, or those of some services, in the format of another
program. If etcd cannot be reached, this host's agent is asked instead, and stderr
says so.
  -o file_sd   targets for Prometheus's file_sd_configs, with the labels of
               /v1/sd/prometheus; the default

A failing command writes nothing to stdout. Write to a temporary file, and rename it to
the file that Prometheus reads only if the exit code is 0. Exit code 3 if nothing is known
of a SERVICE.`,
		Example:           `  disc export -o file_sd web > new.json && mv new.json targets.json`,
		ValidArgsFunction: a.completeService,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.export(cmd.Context(), args)
		},
	}
}

func (a *app) export(ctx context.Context, services []string) error {
	// A format in the environment or the file is for the commands that print one.
	if a.config.CLI.Output != "file_sd" && a.config.FromFlag("cli.output") {
		return usage(fmt.Errorf("export does not support -o %s; use -o file_sd", a.config.CLI.Output))
	}
	for _, name := range services {
		if err := discovery.ValidateService(name); err != nil {
			return usage(err)
		}
	}
	groups, err := a.targets(ctx, services)
	if err != nil {
		return err
	}
	if len(groups) == 0 {
		a.infof("nothing to scrape in namespace %q", a.config.Namespace)
	}
	return writeJSON(a.io.Out, groups, "  ")
}

// targets returns the targets of the services, or of all if none are given. It returns an ErrNotFound
// if nothing is known of one of them.
func (a *app) targets(ctx context.Context, services []string) ([]api.TargetGroup, error) {
	snapshot, err := a.readSnapshot(ctx, "")
	if err != nil {
		return orAgent(ctx, a, err, func(ctx context.Context, agent *api.Client) ([]api.TargetGroup, api.Freshness, error) {
			return a.targetsAtAgent(ctx, agent, services)
		})
	}
	for _, name := range services {
		if _, known := snapshot.Service(name); !known {
			return nil, a.unknownService(name, serviceNames(snapshot))
		}
	}
	return api.TargetGroups(snapshot, api.TargetOptions{Services: services}), nil
}

// targetsAtAgent is targets of an agent.
func (a *app) targetsAtAgent(ctx context.Context, agent *api.Client, services []string) ([]api.TargetGroup, api.Freshness, error) {
	for _, name := range services {
		_, view, err := agent.Instances(ctx, name, api.ListOptions{})
		if errors.Is(err, discovery.ErrNotFound) {
			err = a.unknownService(name, a.namesAtAgent(ctx))
		}
		if err != nil {
			return nil, view, err
		}
	}
	return agent.Targets(ctx, services)
}
