package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"disc/config"
)

func (a *app) configCommand() *cobra.Command {
	return groupCommand(cobra.Command{Use: "config", Short: "Show and check the settings"}, a.configViewCommand(), a.configCheckCommand())
}

func (a *app) configViewCommand() *cobra.Command {
	var running bool
	c := &cobra.Command{
		Use:   "view",
		Short: "Show every setting with its value and origin",
		Long: `Show every setting with its value and origin: a flag, a DISC_ variable, the config file,
or the default of 'disc agent'. -o wide adds its variable and what it means. Secrets are
left out.

These are the settings that a command or an agent would have here and now. --running asks
this host's agent for those that it has, which takes a token with scope status where the
agent has tokens. 'disc dev' has other values of some settings, see 'disc dev --help'.`,
		Example: `  disc config view
  disc config view --running
  disc config view -o wide
  DISC_ZONE=a disc config view -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all := a.config.Settings()
			if running {
				var err error
				if all, err = a.runningSettings(cmd.Context()); err != nil {
					return err
				}
			}
			return show(a, listing[config.Setting]{
				items: all,
				columns: []column[config.Setting]{
					{header: "SETTING", value: func(s config.Setting) string { return s.Key }},
					{header: "VALUE", value: func(s config.Setting) string { return s.Value }},
					{header: "ORIGIN", value: func(s config.Setting) string { return s.Origin }},
					{header: "VARIABLE", value: func(s config.Setting) string { return s.Variable }, wide: true},
					{header: "MEANING", value: func(s config.Setting) string { return s.Meaning }, wide: true},
				},
				name: func(s config.Setting) string { return s.Key },
			})
		},
	}
	config.AddFlags(c.Flags(), config.Agent)
	c.Flags().BoolVar(&running, "running", false, "show the settings of this host's agent")
	return c
}

// runningSettings returns the settings that this host's agent has in force.
func (a *app) runningSettings(ctx context.Context) ([]config.Setting, error) {
	client, err := a.agent(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, agentTimeout)
	defer cancel()
	status, err := client.Agent(ctx)
	if err != nil {
		return nil, err
	}
	if len(status.Settings) == 0 {
		return nil, fmt.Errorf("the agent at %s does not show its settings: give a token with scope status", a.config.CLI.Agent)
	}
	var all []config.Setting
	for _, s := range status.Settings {
		d := config.DescriptionOf(s.Name)
		all = append(all, config.Setting{Key: s.Name, Value: fmt.Sprint(s.Value), Origin: s.Source, Variable: d.Variable, Meaning: d.Meaning})
	}
	return all, nil
}
