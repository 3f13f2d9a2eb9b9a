package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"disc/agent/api"
	"disc/discovery"
)

func (a *app) limitCommand() *cobra.Command {
	return groupCommand(cobra.Command{
		Use:   "limit",
		Short: "Fleet-wide rate limits",
		Long: `Fleet-wide rate limits. In any time W, all agents together grant at most
rate x W + burst tokens, whatever fails.`,
		Example: `  disc limit set sms 50/s
  disc limit take sms && send-sms`,
	}, a.limitListCommand(), a.limitGetCommand(), a.limitSetCommand(), a.limitDelCommand(), a.limitTakeCommand())
}

func (a *app) limitListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the limits",
		Long:  "List the limits of the namespace, as stored in etcd.",
		Example: `  disc limit list
  disc limit list -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withAgent(cmd.Context(), func(ctx context.Context, client *api.Client) error {
				list, err := client.Limits(ctx)
				if err != nil {
					return err
				}
				if len(list) == 0 {
					a.infof("no limits; 'disc limit set NAME RATE' makes one")
				}
				return show(a, limitListing(list))
			})
		},
	}
}

func (a *app) limitGetCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "get NAME",
		Short:             "Show a limit",
		Long:              "Show a limit. Exit code 3 if there is none.",
		Example:           "  disc limit get sms",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeLimit,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := discovery.ValidateLimit(args[0]); err != nil {
				return usage(err)
			}
			return a.withAgent(cmd.Context(), func(ctx context.Context, client *api.Client) error {
				limit, err := client.Limit(ctx, args[0])
				if err != nil {
					return err
				}
				return a.showLimit(limit)
			})
		},
	}
}

func (a *app) limitSetCommand() *cobra.Command {
	var limit discovery.Limit
	var onUnavailable string
	c := &cobra.Command{
		Use:   "set NAME RATE",
		Short: "Create or change a limit",
		Long: `Create or change a limit. RATE is a number of tokens per time: 50/s, 100/m, 5/500ms. A
new limit has its whole burst at once. A changed one goes on: it owes what was taken, but
no more than its new burst. To begin anew, remove the limit and set it again.`,
		Example: `  disc limit set sms 50/s
  disc limit set mail 100/m --burst 10 --on-unavailable allow`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: a.completeLimit,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if err := discovery.ValidateLimit(args[0]); err != nil {
				return usage(err)
			}
			if limit.Rate, limit.Per, err = discovery.ParseRate(args[1]); err != nil {
				return usage(err)
			}
			if cmd.Flags().Changed("burst") && limit.Burst < 1 {
				return usage(errors.New("--burst must be at least 1; without it, the burst is the tokens of a second"))
			}
			limit.OnUnavailable = discovery.UnavailablePolicy(onUnavailable)
			return a.withAgent(cmd.Context(), func(ctx context.Context, client *api.Client) error {
				is, _, _, err := client.PutLimit(ctx, args[0], limit)
				if err != nil {
					return err
				}
				return a.showLimit(is)
			})
		},
	}
	c.Flags().Int64Var(&limit.Burst, "burst", 0, "tokens above the rate, in any time (default the tokens of a second, at least 1)")
	c.Flags().StringVar(&onUnavailable, "on-unavailable", "", "answer to takes while etcd is unavailable: deny or allow (default deny)")
	return c
}

// limitRemoved is the outcome of a removal, as -o json shows it.
type limitRemoved struct {
	Name     string `json:"name"`
	Revision int64  `json:"revision"`
}

func (a *app) limitDelCommand() *cobra.Command {
	return &cobra.Command{
		Use:        "del NAME",
		SuggestFor: []string{"rm", "delete", "remove", "unset"},
		Short:      "Remove a limit",
		Long: `Remove a limit and the tokens that agents have bought. From then on, takes are refused as
for a limit that never existed. Exit code 3 if there is none.`,
		Example:           "  disc limit del sms",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeLimit,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := discovery.ValidateLimit(args[0]); err != nil {
				return usage(err)
			}
			return a.withAgent(cmd.Context(), func(ctx context.Context, client *api.Client) error {
				revision, err := client.DeleteLimit(ctx, args[0])
				if err != nil {
					return err
				}
				return show(a, listing[limitRemoved]{
					items: []limitRemoved{{args[0], revision}}, single: true, name: func(l limitRemoved) string { return l.Name },
					line: fmt.Sprintf("%s: removed (revision %d)", printable(args[0]), revision),
				})
			})
		},
	}
}

// withAgent calls f with a client of this host's agent, within [agentTimeout].
func (a *app) withAgent(ctx context.Context, f func(context.Context, *api.Client) error) error {
	client, err := a.agent(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, agentTimeout)
	defer cancel()
	return f(ctx, client)
}

func (a *app) showLimit(l api.Limit) error {
	list := limitListing([]api.Limit{l})
	list.single = true
	return show(a, list)
}

func limitListing(limits []api.Limit) listing[api.Limit] {
	return listing[api.Limit]{
		items: limits,
		name:  func(l api.Limit) string { return l.Name },
		columns: []column[api.Limit]{
			{header: "LIMIT", value: func(l api.Limit) string { return l.Name }},
			{header: "RATE", value: func(l api.Limit) string { return fmt.Sprintf("%v/%v", l.Rate, l.Per) }},
			{header: "BURST", value: func(l api.Limit) string { return strconv.FormatInt(l.Burst, 10) }},
			{header: "ON UNAVAILABLE", value: func(l api.Limit) string { return string(l.OnUnavailable) }},
		},
	}
}

// completeLimit completes the name of a limit.
func (a *app) completeLimit(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return a.completeFirst(cmd, args, func(ctx context.Context) (names []string) {
		if agent, err := a.agent(ctx); err == nil {
			limits, _ := agent.Limits(ctx) // an error leaves nothing to offer
			for _, l := range limits {
				names = append(names, l.Name)
			}
		}
		return names
	})
}
