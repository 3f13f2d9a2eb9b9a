package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/lookup"
)

func (a *app) lookupCommand() *cobra.Command {
	var o api.LookupOptions
	var status string
	c := &cobra.Command{
		Use:        "lookup NAME",
		SuggestFor: []string{"resolve", "discover", "query", "dig", "find"},
		Short:      "Look up a name at this host's agent",
		Long: `Show the endpoints that this host's agent answers for a name: SERVICE, TAG.SERVICE,
ID.SERVICE.inst, _PORT._tcp.SERVICE.svc or NODE.node. A client tries the endpoints in
this order.

With --explain it also shows where the answer comes from: the agent's watch of the whole
namespace, its watch of what is asked for, or the last good view of an earlier run, with
its revision and age; and whether the answer is prepared, since nothing but its name is
asked for. Of an unknown name it says what else was meant, perhaps.

Exit code 3 if the name is not known or nothing is healthy.`,
		Example: `  disc lookup web
  disc lookup v2.web -o addr
  disc lookup web --explain`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeService,
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if o.Status, err = parseStatus(status); err != nil {
				return err
			}
			if err := checkLookupName(args[0]); err != nil {
				return err
			}
			return a.lookup(cmd.Context(), args[0], o)
		},
	}
	f := c.Flags()
	f.BoolVar(&o.Explain, "explain", false, "show why each instance is answered or left out, and what answers")
	f.StringVar(&status, "status", "", "only instances with this status: passing, warning or critical; any: also those that drain (default passing and warning)")
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
	if p, ok := errors.AsType[*api.Problem](err); ok && p.Answered != nil {
		return a.explainMissing(p)
	}
	if errors.Is(err, discovery.ErrNotFound) {
		return a.explainUnknown(ctx, name, err)
	}
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

// explainUnknown returns the error of a lookup of an unknown name. If the name's service is
// unknown, it suggests those with similar names.
func (a *app) explainUnknown(ctx context.Context, name string, err error) error {
	parsed, unparsed := discovery.ParseName(name, "")
	if unparsed != nil || parsed.Kind == discovery.NameNode {
		return err
	}
	names := a.namesAtAgent(ctx)
	if slices.ContainsFunc(names, func(s string) bool { return discovery.FoldName(s) == discovery.FoldName(parsed.Service) }) {
		return err
	}
	// The agent's namespace may be another than that of the settings.
	return discovery.Errorf(discovery.ErrNotFound, "service %q is not known%s", parsed.Service, similarServices(parsed.Service, names))
}

// explainMissing says what an agent knows about a name that it did not find, and returns that as an error.
func (a *app) explainMissing(p *api.Problem) error {
	a.infof("the agent answers from its %s, of revision %d, which etcd confirmed %v ago", describeSource(p.Answered.From), p.Answered.Revision, describeAge(p.Answered.Age))
	if p.NamesMissing != "" {
		a.infof("it may lack names that are in etcd: %s", p.NamesMissing)
	}
	return p
}

// describeSource returns where a view has what it answers from, as the end of "its …".
func describeSource(from lookup.Source) string {
	switch from {
	case lookup.FromWatch:
		return "watch of the whole namespace"
	case lookup.FromInterest:
		return "watch of what is asked for"
	case lookup.FromLastGood:
		return "last good view"
	}
	return string(from)
}

func describeAge(age discovery.Duration) discovery.Duration {
	return discovery.Duration(time.Duration(age).Round(time.Second))
}

// checkLookupName returns an error for a name without a label, such as an empty variable leaves.
func checkLookupName(name string) error {
	if strings.Trim(name, ".") != "" {
		return nil
	}
	return usage(fmt.Errorf("lookup name %q is empty; ask for SERVICE, TAG.SERVICE, _PORT._tcp.SERVICE.svc, ID.SERVICE.inst or NODE.node", name))
}

func (a *app) showEndpoints(answer lookup.Answer, explain bool) error {
	if err := show(a, endpointListing(answer.Endpoints)); err != nil || !explain {
		return err
	}
	rows := [][]string{{"INSTANCE", "ANSWERED", "WHY"}}
	for _, e := range answer.Explain {
		rows = append(rows, []string{cell(e.ID), yesNo(e.In), cell(e.Why)})
	}
	if len(answer.Endpoints) > 0 {
		fmt.Fprintln(a.io.Out)
	}
	if err := writeRows(a.io, rows); err != nil || answer.Answered == nil { // an earlier agent does not say it
		return err
	}
	by := answer.Answered
	fmt.Fprintln(a.io.Out)
	return writeRows(a.io, [][]string{
		{"ANSWERED FROM", "REVISION", "AGE", "STALE", "PREPARED"},
		{cell(describeSource(by.From)), strconv.FormatInt(by.Revision, 10), describeAge(by.Age).String(), yesNo(by.Stale), yesNo(by.Prepared)},
	})
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
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

// describeMissing tells why an answer does not have more endpoints.
func describeMissing(a lookup.Answer) string {
	if len(a.Endpoints) > 0 && len(a.LeftOut) == 0 {
		return "it has no other instances"
	}
	return describeLeftOut(a)
}

// leftOutAs words the reasons for which instances are left out that are no adjectives.
var leftOutAs = map[string]string{
	string(discovery.Drain): "draining", lookup.ExcludedWeight: "of weight 0",
	"tag": "by tag", "meta": "by meta", "zone": "by zone", "node": "by node", "port": "by port", "filter": "by filter",
}

// describeLeftOut tells why instances are missing in an answer.
func describeLeftOut(a lookup.Answer) string {
	var parts []string
	for _, why := range slices.Sorted(maps.Keys(a.LeftOut)) {
		parts = append(parts, fmt.Sprintf("%d %s", a.LeftOut[why], cmp.Or(leftOutAs[why], why)))
	}
	if len(parts) == 0 {
		return "it has no instances"
	}
	return "left out " + strings.Join(parts, ", ")
}
