package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"disc/agent/api"
)

func (a *app) lockQuarantineCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "quarantine [LENGTH]",
		Short: "Show or set how long nothing is granted after a restore of etcd",
		Long: `Show or set the length of quarantines in the namespace. When etcd was wiped, restored or
replaced, no lock and no claim is granted for a quarantine, so that all that was promised
before has ended. No promise lasts longer than four fifths of a quarantine.

LENGTH is 2s to 1h. A lower length takes effect when the old one and a minute have passed.
A higher one lengthens quarantines at once, and promises when it and a minute have passed.
Until then another change is refused with exit code 5.

To set it, the agent needs tokens, and this command one with scope operate.`,
		Example: `  disc lock quarantine
  disc lock quarantine 30s`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.ArgsLenAtDash() >= 0 {
				return usage(errors.New("to take a lock named quarantine, write 'disc lock -- quarantine -- COMMAND...'"))
			}
			ask := (*api.Client).Quarantine
			if len(args) > 0 {
				length, err := time.ParseDuration(args[0])
				if err != nil {
					return usage(fmt.Errorf("%q is not a length of time; give one such as 30s", args[0]))
				}
				ask = func(c *api.Client, ctx context.Context) (api.Quarantine, error) { return c.SetQuarantine(ctx, length) }
			}
			return a.withAgent(cmd.Context(), func(ctx context.Context, client *api.Client) error {
				q, err := ask(client, ctx)
				if err != nil {
					return err
				}
				return a.showQuarantine(q)
			})
		},
	}
}

func (a *app) showQuarantine(q api.Quarantine) error {
	line := "a quarantine lasts " + q.Length.String()
	if q.InEffectWithin > 0 {
		line += fmt.Sprintf("; in effect within %v", q.InEffectWithin)
	}
	if q.Active {
		line += fmt.Sprintf("\none goes on for %v at most: %s", q.EndsWithin, printable(q.Reason))
	}
	return show(a, listing[api.Quarantine]{
		items: []api.Quarantine{q}, single: true, line: line, name: func(q api.Quarantine) string { return q.Length.String() },
	})
}
