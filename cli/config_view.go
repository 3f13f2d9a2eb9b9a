package cli

import (
	"github.com/spf13/cobra"

	"disc/config"
)

func (a *app) configCommand() *cobra.Command {
	return groupCommand(cobra.Command{Use: "config", Short: "Show the settings"}, a.configViewCommand())
}

func (a *app) configViewCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "view",
		Short: "Show every setting with its value and origin",
		Long: `Show every setting with its value and origin: a flag, a DISC_ variable, the config file,
or the default. Secrets are left out.`,
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
	config.AddFlags(c.Flags(), config.Agent)
	return c
}
