package cli

import (
	"github.com/spf13/cobra"

	"disc/discovery"
)

func (a *app) drainCommand() *cobra.Command {
	return a.stateCommand("drain", discovery.Drain, []string{"cordon", "maint", "disable"}, "Leave an instance out of lookups",
		`Leave an instance out of lookups until 'disc undrain'. It does the same as
'disc set SERVICE/ID --state drain'.`)
}

func (a *app) undrainCommand() *cobra.Command {
	return a.stateCommand("undrain", discovery.Up, []string{"uncordon", "enable"}, "Put an instance back into lookups",
		`Put an instance back into lookups. It does the same as
'disc set SERVICE/ID --state up'.`)
}

func (a *app) stateCommand(name string, state discovery.State, suggestFor []string, short, long string) *cobra.Command {
	return &cobra.Command{
		Use:               name + " SERVICE/ID",
		SuggestFor:        suggestFor,
		Short:             short,
		Long:              long,
		Example:           "  disc " + name + " web/web-1",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeTarget,
		RunE: func(cmd *cobra.Command, args []string) error {
			service, id, err := parseTarget(args[0])
			if err != nil {
				return err
			}
			return a.set(cmd.Context(), setOptions{service: service, id: id, state: string(state)})
		},
	}
}
