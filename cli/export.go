package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"disc/agent/api"
	"disc/discovery"
)

func (a *app) exportCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "export -o file_sd [SERVICE...]",
		Short: "Write entries as other programs read them",
		Long: `Write all instances, or those of some services, as etcd has them, in a form that other
programs read. When etcd cannot be reached, this host's agent is asked, and stderr says
so.
  -o file_sd   targets for Prometheus's file_sd_configs, with the labels of
               /v1/sd/prometheus

On failure nothing is written to stdout: write to another file, and rename it over the
one that Prometheus reads only when the exit code is 0.`,
		Example:           `  disc export -o file_sd web > new.json && mv new.json targets.json`,
		ValidArgsFunction: a.completeService,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.export(cmd.Context(), args)
		},
	}
}

func (a *app) export(ctx context.Context, services []string) error {
	if a.config.CLI.Output != "file_sd" {
		return usage(fmt.Errorf("export knows no form %q; use -o file_sd", a.config.CLI.Output))
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
		a.infof("there is nothing to scrape in namespace %q", a.config.Namespace)
	}
	return writeJSON(a.io.Out, groups, "  ")
}

// targets returns the targets of services, or with none of all, from etcd or, if that
// cannot be reached, from this host's agent.
func (a *app) targets(ctx context.Context, services []string) ([]api.TargetGroup, error) {
	snapshot, err := a.readSnapshot(ctx, "")
	if err == nil {
		return api.TargetGroups(snapshot, api.TargetOptions{Services: services}), nil
	}
	agent, err := a.fallBackToAgent(ctx, err)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, agentTimeout)
	defer cancel()
	groups, view, err := agent.Targets(ctx, services)
	a.warnStale(view)
	return groups, err
}
