package cli

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/lookup"
)

func (a *app) lookupCommand() *cobra.Command {
	var o api.LookupOptions
	var status string
	c := &cobra.Command{
		Use:   "lookup NAME",
		Short: "Show what this host's agent answers for a name",
		Long: `Show what this host's agent answers for a name: SERVICE, TAG.SERVICE, ID.SERVICE.inst,
_PORT._tcp.SERVICE.svc or NODE.node. Endpoints come in the order in which a client
would try them.

Exit code 3 when the name is not known or nothing is healthy.`,
		Example: `  disc lookup web
  disc lookup v2.web -o addr
  disc lookup web --explain`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeService,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Status = discovery.StatusFilter(status)
			return a.lookup(cmd.Context(), args[0], o)
		},
	}
	f := c.Flags()
	f.BoolVar(&o.Explain, "explain", false, "say of each instance why it is in or out")
	f.StringVar(&status, "status", "", "passing: only these; any: all but those that are down")
	f.StringSliceVarP(&o.Tags, "tag", "l", nil, "only instances with all of these tags")
	f.StringVar(&o.Zone, "zone", "", "only instances in this zone")
	f.StringVar(&o.Node, "node", "", "only instances on this node")
	f.StringVar(&o.Filter, "filter", "", "only instances for which this expression holds")
	f.StringVar(&o.Port, "port", "", "the port of this name")
	f.IntVar(&o.Pick, "pick", 0, "so many endpoints, by weighted choice")
	f.BoolVar(&o.PreferZone, "prefer-zone", false, "the agent's own zone first")
	return c
}

func (a *app) lookup(ctx context.Context, name string, o api.LookupOptions) error {
	agent, err := a.agent(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, agentTimeout)
	defer cancel()
	answer, view, err := agent.Lookup(ctx, name, o)
	if err != nil {
		return err
	}
	a.warnStale(view)
	if a.config.CLI.Output == "json" || a.config.CLI.Output == "yaml" {
		err = show(a, listing[lookup.Answer]{items: []lookup.Answer{answer}, single: true})
	} else {
		err = a.showEndpoints(answer, o.Explain)
	}
	if err == nil && len(answer.Endpoints) == 0 {
		a.infof("nothing to answer for %s: %s", name, describeLeftOut(answer))
		return exitWith(exitNotFound)
	}
	return err
}

func (a *app) showEndpoints(answer lookup.Answer, explain bool) error {
	if err := show(a, endpointListing(answer.Endpoints)); err != nil || !explain {
		return err
	}
	rows := [][]string{{"INSTANCE", "ANSWERED", "WHY"}}
	for _, e := range answer.Explain {
		rows = append(rows, []string{cell(e.ID), map[bool]string{true: "yes", false: "no"}[e.In], cell(e.Why)})
	}
	if len(answer.Endpoints) > 0 {
		fmt.Fprintln(a.io.Out)
	}
	return writeRows(a.io, rows)
}

func endpointListing(endpoints []discovery.Endpoint) listing[discovery.Endpoint] {
	return listing[discovery.Endpoint]{
		items: endpoints,
		columns: []column[discovery.Endpoint]{
			{header: "ID", value: func(e discovery.Endpoint) string { return e.ID }},
			{header: "ADDRESS", value: endpointAddress},
			{header: "STATUS", value: func(e discovery.Endpoint) string { return string(e.Status) }},
			{header: "TAGS", value: func(e discovery.Endpoint) string { return strings.Join(e.Tags, ",") }},
			{header: "NODE", wide: true, value: func(e discovery.Endpoint) string { return e.Node }},
			{header: "ZONE", wide: true, value: func(e discovery.Endpoint) string { return e.Zone }},
			{header: "WEIGHT", wide: true, value: func(e discovery.Endpoint) string { return strconv.Itoa(e.Weight) }},
			{header: "META", wide: true, value: func(e discovery.Endpoint) string { return joinMap(e.Meta) }},
		},
		name: func(e discovery.Endpoint) string { return e.ID },
		addr: endpointAddress,
	}
}

func endpointAddress(e discovery.Endpoint) string {
	if e.Port == 0 {
		return e.Address
	}
	return net.JoinHostPort(e.Address, strconv.Itoa(e.Port))
}

// describeLeftOut says why an answer has not more endpoints.
func describeLeftOut(a lookup.Answer) string {
	var parts []string
	for _, why := range slices.Sorted(maps.Keys(a.LeftOut)) {
		parts = append(parts, fmt.Sprintf("%d %s", a.LeftOut[why], why))
	}
	if len(parts) == 0 {
		return "it has no instances"
	}
	return "left out " + strings.Join(parts, ", ")
}
