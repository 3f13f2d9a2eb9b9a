package cli

import (
	"context"
	"encoding/json"
	"fmt"

	"disc/agent/api"

	"github.com/spf13/cobra"
)

func (a *app) exportCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "export -o file_sd [SERVICE...]",
		Short: "Write entries as other programs read them",
		Long: `Write all instances, or those of some services, as etcd has them, in a form that other
programs read:
  -o file_sd   targets for Prometheus's file_sd_configs, as /v1/sd/prometheus gives them`,
		Example:           `  disc export -o file_sd web > targets.json`,
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
	snapshot, err := a.load(ctx, "")
	if err != nil {
		return err
	}
	e := json.NewEncoder(a.io.Out)
	e.SetIndent("", "  ")
	return e.Encode(api.TargetGroups(snapshot, api.TargetOptions{Services: services}))
}
