package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/entry"
)

func (a *app) suspectsCommand() *cobra.Command {
	return groupCommand(cobra.Command{
		Use:   "suspects",
		Short: "Judge instances that vanished together with many others",
		Long: `Judge instances that vanished together with many others. Agents still answer with them,
after the others, until they are registered again, a probe fails or 10 minutes have passed.
If you know better, end the waiting: drop them now, or keep them for longer.`,
		Example: `  disc suspects list
  disc suspects drop web/web-1
  disc suspects keep web --for 2h`,
	}, a.suspectsListCommand(), a.suspectsDropCommand(), a.suspectsKeepCommand())
}

func (a *app) suspectsListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list [SERVICE[/ID]]",
		Short: "List the suspects that this host's agent answers with",
		Long: `List the suspects that this host's agent answers with. Each agent has its own: one that
has started since has none, and one that watches single services knows none of the others.

ORDER is what an operator has ordered; without one the agent decides.`,
		Example: `  disc suspects list
  disc suspects list web -o json`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeTarget,
		RunE: func(cmd *cobra.Command, args []string) error {
			target, err := parseOptionalTarget(args)
			if err != nil {
				return err
			}
			list, err := a.suspects(cmd.Context(), target)
			if err != nil {
				return err
			}
			if len(list) == 0 {
				a.infof("this host's agent has no suspects%s", target.of())
			}
			return show(a, suspectListing(list))
		},
	}
}

func (a *app) suspectsDropCommand() *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use:   "drop [SERVICE[/ID]]",
		Short: "Have all agents answer no more with suspects",
		Long: `Have all agents answer no more with suspects: with one, with those of a service, or with
all that this host's agent has. Without an ID it asks first, unless --yes is given.

An instance that is registered again, now or later, is answered as before. The order is
written to etcd and stays for 5 minutes: an agent that is cut off for longer does not see
it. All agents must read it: see the feature level in 'disc status'.

Exit code 3 if there is no such suspect, 5 if it is registered again.`,
		Example: `  disc suspects drop web/web-1
  disc suspects drop web --yes`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeTarget,
		RunE: func(cmd *cobra.Command, args []string) error {
			target, err := parseOptionalTarget(args)
			if err != nil {
				return err
			}
			instances, verified, err := a.orderable(cmd.Context(), target)
			if err != nil {
				return err
			}
			if target.id == "" {
				if err := a.confirm(fmt.Sprintf("have all agents answer no more with %s?", countSuspects(len(instances))), yes); err != nil {
					return err
				}
			}
			return a.orderSuspects(cmd.Context(), discovery.SuspectOrder{Order: discovery.DropSuspect}, 0, instances, verified)
		},
	}
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}

func (a *app) suspectsKeepCommand() *cobra.Command {
	var keep time.Duration
	c := &cobra.Command{
		Use:   "keep [SERVICE[/ID]]",
		Short: "Have all agents go on answering with suspects",
		Long: `Have all agents go on answering with suspects for a while, even if a probe fails: with
one, with those of a service, or with all that this host's agent has. Then they are judged
as before. 'disc suspects drop' ends it, and so does the return of the instance: if it
vanishes again, it takes another order.

The order is written to etcd. All agents must read it: see the feature level in 'disc
status'. Exit code 3 if there is no such suspect, 5 if it is registered again.`,
		Example: `  disc suspects keep web/web-1
  disc suspects keep --for 2h`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeTarget,
		RunE: func(cmd *cobra.Command, args []string) error {
			target, err := parseOptionalTarget(args)
			if err != nil {
				return err
			}
			instances, verified, err := a.orderable(cmd.Context(), target)
			if err != nil {
				return err
			}
			return a.orderSuspects(cmd.Context(), discovery.SuspectOrder{Order: discovery.KeepSuspect}, keep, instances, verified)
		},
	}
	c.Flags().DurationVar(&keep, "for", time.Hour, "for how long, 1s to 24h")
	return c
}

// optionalTarget is what SERVICE[/ID] names, if it is given.
type optionalTarget struct{ service, id string } // both empty: all

func parseOptionalTarget(args []string) (optionalTarget, error) {
	if len(args) == 0 {
		return optionalTarget{}, nil
	}
	if strings.Contains(args[0], "/") {
		service, id, err := parseTarget(args[0])
		return optionalTarget{service, id}, err
	}
	if err := discovery.ValidateService(args[0]); err != nil {
		return optionalTarget{}, usage(err)
	}
	return optionalTarget{service: args[0]}, nil
}

// name returns the target as it is written; "" is all.
func (t optionalTarget) name() string {
	if t.id == "" {
		return t.service
	}
	return t.service + "/" + t.id
}

// of names the target after what is of it, such as "suspects".
func (t optionalTarget) of() string {
	switch {
	case t.id != "":
		return " that are " + t.service + "/" + t.id
	case t.service != "":
		return " of " + t.service
	}
	return ""
}

// suspects returns the suspects of this host's agent that a target names. The agent must serve the
// namespace, since the orders on them are written there.
func (a *app) suspects(ctx context.Context, target optionalTarget) ([]api.Suspect, error) {
	client, _, err := a.namespaceAgent(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, agentTimeout)
	defer cancel()
	all, err := client.Suspects(ctx, target.service)
	var list []api.Suspect
	for _, s := range all.Suspects {
		if target.id == "" || s.ID == target.id {
			list = append(list, s)
		}
	}
	return list, err
}

// orderable returns the instances that a target names. A single one is ordered also when the agent
// cannot be reached, which is on the host that may be in trouble; then it is not verified to be a
// suspect.
func (a *app) orderable(ctx context.Context, target optionalTarget) (_ []entry.Instance, verified bool, _ error) {
	list, err := a.suspects(ctx, target)
	_, answered := errors.AsType[*api.Problem](err)
	switch {
	case target.id != "" && !answered && errors.Is(err, discovery.ErrUnavailable):
		a.infof("it is unverified whether %s/%s is a suspect: %v", target.service, target.id, err)
		return []entry.Instance{{Service: target.service, ID: target.id}}, false, nil
	case err != nil:
		return nil, false, err
	case target.id != "" && len(list) == 0:
		return nil, false, discovery.Errorf(discovery.ErrNotFound, "this host's agent has no suspect %s/%s; see 'disc suspects list', also with --agent of another host", target.service, target.id)
	case len(list) == 0:
		return nil, false, discovery.Errorf(discovery.ErrNotFound, "this host's agent has no suspects%s", target.of())
	}
	instances := make([]entry.Instance, len(list))
	for n, s := range list {
		instances[n] = entry.Instance{Service: s.Service, ID: s.ID}
	}
	return instances, true, nil
}

// orderSuspects writes an order on instances to etcd, and shows what was ordered.
func (a *app) orderSuspects(ctx context.Context, order discovery.SuspectOrder, keep time.Duration, instances []entry.Instance, verified bool) error {
	done, err := a.writeOrders(ctx, order, keep, instances)
	if err != nil {
		if len(done.Ordered) > 0 {
			a.infof("only %s of %d are ordered", countSuspects(len(done.Ordered)), len(instances))
		}
		return err
	}
	if len(done.Ordered) == 0 {
		return exitWith(exitConflict)
	}
	items := make([]api.OrderedSuspect, len(done.Ordered))
	for n, i := range done.Ordered {
		items[n] = api.OrderedSuspect{Service: i.Service, ID: i.ID, SuspectOrder: done.Order}
	}
	line := "all agents are ordered to drop " + countSuspects(len(items))
	if order.Order == discovery.KeepSuspect {
		line = fmt.Sprintf("all agents are ordered to keep %s until %s", countSuspects(len(items)), done.Order.Until.Local().Format(time.DateTime))
	}
	if !verified {
		line += "; unverified: it may be none"
	}
	return show(a, listing[api.OrderedSuspect]{items: items, line: line, name: func(o api.OrderedSuspect) string { return o.Service + "/" + o.ID }})
}

// etcdBatch is the number of keys that one call of [withEtcd] writes at most, since it has a time limit.
const etcdBatch = 500

// writeOrders writes an order on instances to etcd. After an error, it returns what was ordered.
func (a *app) writeOrders(ctx context.Context, order discovery.SuspectOrder, keep time.Duration, instances []entry.Instance) (all entry.SuspectOrders, err error) {
	order.By = a.operator()
	for batch := range slices.Chunk(instances, etcdBatch) {
		done, err := withEtcd(ctx, a, func(ctx context.Context, client *clientv3.Client) (entry.SuspectOrders, error) {
			return entry.Editor{Client: client, Keys: a.keys()}.OrderSuspects(ctx, order, keep, batch)
		})
		for _, i := range done.Back {
			a.infof("%s/%s is registered again; it is left alone", i.Service, i.ID)
		}
		all.Ordered, all.Order = append(all.Ordered, done.Ordered...), done.Order
		if err != nil {
			return all, err
		}
	}
	return all, nil
}

// countSuspects returns a number in words, such as "1 suspect" or "2 suspects".
func countSuspects(n int) string {
	if n == 1 {
		return "1 suspect"
	}
	return fmt.Sprintf("%d suspects", n)
}

func suspectListing(list []api.Suspect) listing[api.Suspect] {
	order := func(field func(discovery.SuspectOrder) string) func(api.Suspect) string {
		return func(s api.Suspect) string {
			if s.Order == nil {
				return ""
			}
			return field(*s.Order)
		}
	}
	address := func(s api.Suspect) string { return net.JoinHostPort(s.Address, strconv.Itoa(s.Port)) }
	return listing[api.Suspect]{
		items: list,
		name:  func(s api.Suspect) string { return s.Service + "/" + s.ID },
		addr:  address,
		columns: []column[api.Suspect]{
			{header: "SERVICE", value: func(s api.Suspect) string { return s.Service }},
			{header: "ID", value: func(s api.Suspect) string { return s.ID }},
			{header: "ADDRESS", value: address},
			{header: "NODE", value: func(s api.Suspect) string { return s.Node }},
			{header: "ZONE", wide: true, value: func(s api.Suspect) string { return s.Zone }},
			{header: "ORDER", value: order(func(o discovery.SuspectOrder) string { return o.Order })},
			{header: "UNTIL", value: order(func(o discovery.SuspectOrder) string { return o.Until.Local().Format(time.DateTime) })},
			{header: "BY", value: order(func(o discovery.SuspectOrder) string { return o.By })},
		},
	}
}
