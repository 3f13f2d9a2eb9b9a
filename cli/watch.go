package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"disc/agent/api"
	"disc/discovery"

	"github.com/spf13/cobra"
)

func (a *app) watchCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "watch [SERVICE]",
		Short: "Show changes as they come",
		Long: `Show changes of all instances, or of one service's, as they come, until interrupted:
etcd's revision, what happened, and how the instance is now. With -o json or jsonl,
each line is an event as the HTTP API's /v1/watch sends it.`,
		Example: `  disc watch
  disc watch web -o jsonl`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeService,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.watch(cmd.Context(), strings.Join(args, ""))
		},
	}
}

func (a *app) watch(ctx context.Context, service string) error {
	if service != "" {
		if err := discovery.ValidateService(service); err != nil {
			return usage(err)
		}
	}
	asJSON := a.config.CLI.Output == "json" || a.config.CLI.Output == "jsonl"
	first := true
	for e, err := range a.follow(ctx, service) {
		switch {
		case err != nil:
			return err
		case asJSON:
			err = json.NewEncoder(a.io.Out).Encode(struct {
				Type discovery.EventType `json:"event"`
				api.Event
			}{e.Type, e})
		case e.Type == api.EventReset && first:
			a.note("watching from revision %d; %d instances are there", e.Revision, len(e.Instances))
		default:
			_, err = fmt.Fprintln(a.io.Out, changeLine(e))
		}
		if err != nil {
			return err
		}
		first = false
	}
	return nil
}

// changeLine shows an event on one line.
func changeLine(e api.Event) string {
	name := printable(e.Service + "/" + e.ID)
	switch {
	case e.Type == api.EventReset:
		return fmt.Sprintf("%d  reset   %d instances", e.Revision, len(e.Instances))
	case e.Instance == nil:
		return fmt.Sprintf("%d  %-6s  %s  %s", e.Revision, e.Type, name, e.Reason)
	}
	i := *e.Instance
	line := fmt.Sprintf("%d  %-6s  %s  %s  %s", e.Revision, e.Type, name, cell(address(i)), i.Status)
	if i.State != discovery.Up {
		line += "  " + string(i.State)
	}
	return line
}
