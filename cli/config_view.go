package cli

import (
	"github.com/spf13/cobra"

	"disc/config"
)

func (a *app) configCommand() *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "Look at the settings", Args: rejectUnknownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	view := &cobra.Command{
		Use:   "view",
		Short: "Show every setting, its value and where it came from",
		Long: `Show every setting, its value and where it came from: a flag, a DISC_ variable, the
config file, or the default. Secrets are left out.`,
		Example: `  disc config view
  DISC_ZONE=a disc config view -o json`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return show(a, listing[config.Setting]{
				items: a.config.Settings(),
				columns: []column[config.Setting]{
					{header: "SETTING", value: func(s config.Setting) string { return s.Key }},
					{header: "VALUE", value: func(s config.Setting) string { return s.Value }},
					{header: "ORIGIN", value: func(s config.Setting) string { return s.Origin }},
				},
				name: func(s config.Setting) string { return s.Key },
			})
		},
	}
	config.AddFlags(view.Flags(), config.Agent)
	c.AddCommand(view)
	return c
}
