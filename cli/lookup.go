package cli

import (
	"context"
	"fmt"
	"maps"
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
		Short: "Look up a name at this host's agent",
		Long: `Show the endpoints that this host's agent answers for a name: SERVICE, TAG.SERVICE,
ID.SERVICE.inst, _PORT._tcp.SERVICE.svc or NODE.node. A client tries the endpoints in
this order.

Exit code 3 if the name is not known or nothing is healthy.`,
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
	f.BoolVar(&o.Explain, "explain", false, "show why each instance is answered or left out")
	f.StringVar(&status, "status", "", "passing: only passing instances; any: all except those that are down")
	f.StringSliceVarP(&o.Tags, "tag", "l", nil, "only instances with all of these tags")
	f.StringVar(&o.Zone, "zone", "", "only instances in this zone")
	f.StringVar(&o.Node, "node", "", "only instances on this node")
	f.StringVar(&o.Filter, "filter", "", "only instances that match this expression")
	f.StringVar(&o.Port, "port", "", "name of the port to answer with")
	f.IntVar(&o.Pick, "pick", 0, "number of endpoints to choose, by weight")
	f.BoolVar(&o.PreferZone, "prefer-zone", false, "put the agent's own zone first")
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
		a.infof("no endpoints for %s: %s", name, describeLeftOut(answer))
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

func endpointAddress(e discovery.Endpoint) string { return hostPort(e.Address, e.Port) }

// describeLeftOut tells why instances are missing in an answer.
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
