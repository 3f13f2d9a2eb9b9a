package cli

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"disc/discovery"
	"disc/discovery/view"
)

func (a *app) getCommand() *cobra.Command {
	return &cobra.Command{
		Use:        "get SERVICE[/ID]",
		SuggestFor: []string{"describe", "inspect", "show"},
		Short:      "Show instances with all fields",
		Long: `Show the instances of a service in etcd, or one instance, with all fields: the record or
static entry, merged with the override. The default format is YAML.`,
		Example: `  disc get web
  disc get web/web-1 -o json`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeTarget,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.get(cmd.Context(), args[0])
		},
	}
}

func (a *app) get(ctx context.Context, target string) error {
	if a.config.CLI.Output == "table" {
		a.config.CLI.Output = "yaml"
	}
	if !strings.Contains(target, "/") {
		if err := discovery.ValidateService(target); err != nil {
			return usage(err)
		}
		entries, err := a.instances(ctx, target)
		if err != nil {
			return err
		}
		if len(entries) == 0 {
			a.explainEmpty(target)
		}
		return show(a, entryListing(entries))
	}
	service, id, err := parseTarget(target)
	if err != nil {
		return err
	}
	entries, err := a.instances(ctx, service)
	if err != nil {
		return err
	}
	n := slices.IndexFunc(entries, func(e view.Entry) bool { return e.ID == id })
	if n < 0 {
		return unknownInstance(service, id, entries)
	}
	l := entryListing(entries[n : n+1])
	l.single = true
	return show(a, l)
}
