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
	"disc/discovery/etcd"
	"disc/discovery/lookup"
	"disc/discovery/view"
)

type listOptions struct {
	service       string
	watch         bool
	allNamespaces bool
	tags          []string
	filter        string
	status        string
	zone          string
	node          string
	meta          map[string]string
}

func (a *app) listCommand() *cobra.Command {
	var o listOptions
	c := &cobra.Command{
		Use:     "list [SERVICE]",
		Aliases: []string{"ls"},
		Short:   "List services, or the instances of one",
		Long: `List the services in etcd, or the instances of a service. If etcd cannot be reached, this
host's agent is asked instead, and stderr says so.

An empty list is not a failure: the exit code is 0.`,
		Example: `  disc list
  disc list web -o wide
  disc list web -l v2 --status critical
  disc list web --filter 'meta.Team == "core" and zone != "b"'
  disc list web -w`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeService,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				o.service = args[0]
			}
			return a.list(cmd.Context(), o)
		},
	}
	f := c.Flags()
	f.BoolVarP(&o.watch, "watch", "w", false, "then show changes as they happen")
	f.BoolVarP(&o.allNamespaces, "all-namespaces", "A", false, "list the services of all namespaces")
	f.StringSliceVarP(&o.tags, "tag", "l", nil, "only instances with all of these tags")
	f.StringVar(&o.filter, "filter", "", "only instances that match this expression")
	f.StringVar(&o.status, "status", "", "only instances with this status: passing, warning or critical")
	f.StringVar(&o.zone, "zone", "", "only instances in this zone")
	f.StringVar(&o.node, "node", "", "only instances on this node")
	f.StringToStringVar(&o.meta, "meta", nil, "only instances with this meta, key=value")
	return c
}

// selector validates the options and returns a function that reports whether they select
// an instance.
func (o *listOptions) selector() (func(*view.Entry) bool, error) {
	filter, err := lookup.ParseFilter(o.filter)
	if err != nil {
		return nil, err
	}
	if o.status != "" {
		if err := discovery.Status(o.status).Validate(); err != nil {
			return nil, usage(err)
		}
	}
	s := lookup.Selector{Tags: o.tags, Zone: o.zone, Node: o.node, Meta: o.meta, Filter: filter}
	return func(e *view.Entry) bool {
		return s.Match(e) == "" && (o.status == "" || e.Status == discovery.Status(o.status))
	}, nil
}

// selectsInstances reports whether an option selects among instances.
func (o *listOptions) selectsInstances() bool {
	return len(o.tags) > 0 || o.filter != "" || o.status != "" || o.zone != "" || o.node != "" || len(o.meta) > 0
}

func (a *app) list(ctx context.Context, o listOptions) error {
	selects, err := o.selector()
	switch {
	case err != nil:
		return err
	case o.service != "" && discovery.ValidateService(o.service) != nil:
		return usage(discovery.ValidateService(o.service))
	case o.allNamespaces && (o.service != "" || o.watch):
		return usage(errors.New("-A lists the services of all namespaces; it goes with neither SERVICE nor -w"))
	case o.service == "" && o.selectsInstances():
		return usage(errors.New("give the SERVICE whose instances to select"))
	case o.watch:
		return a.listAndWatch(ctx, o.service, selects)
	case o.allNamespaces:
		return a.listNamespaces(ctx)
	case o.service == "":
		services, err := a.services(ctx)
		if err != nil {
			return err
		}
		if len(services) == 0 {
			a.infof("no services in namespace %q", a.config.Namespace)
		}
		return show(a, serviceListing(services))
	}
	entries, err := a.instances(ctx, o.service)
	if err != nil && !errors.Is(err, discovery.ErrNotFound) { // etcd has nothing about a service without instances
		return err
	}
	entries = slices.DeleteFunc(entries, func(e view.Entry) bool { return !selects(&e) })
	if len(entries) == 0 {
		a.infof("no such instances of service %q in namespace %q", o.service, a.config.Namespace)
	}
	return show(a, entryListing(entries))
}

func serviceListing(services []api.Service) listing[api.Service] {
	return listing[api.Service]{
		items: services,
		columns: []column[api.Service]{
			{header: "SERVICE", value: func(s api.Service) string { return s.Service }},
			{header: "HEALTHY", value: func(s api.Service) string { return strconv.Itoa(s.Healthy) }},
			{header: "TOTAL", value: func(s api.Service) string { return strconv.Itoa(s.Total) }},
			{header: "TAGS", value: func(s api.Service) string { return strings.Join(s.Tags, ",") }},
			{header: "REVISION", value: func(s api.Service) string { return strconv.FormatInt(s.Revision, 10) }},
		},
		name: func(s api.Service) string { return s.Service },
	}
}

func entryListing(entries []view.Entry) listing[view.Entry] {
	return listing[view.Entry]{items: entries, columns: entryColumns(), name: instanceName, addr: address}
}

func entryColumns() []column[view.Entry] {
	return []column[view.Entry]{
		{header: "ID", value: func(e view.Entry) string { return e.ID }},
		{header: "ADDRESS", value: address},
		{header: "STATUS", value: func(e view.Entry) string { return string(e.Status) }},
		{header: "STATE", value: func(e view.Entry) string { return string(e.State) }},
		{header: "TAGS", value: func(e view.Entry) string { return strings.Join(e.Tags, ",") }},
		{header: "NODE", wide: true, value: func(e view.Entry) string { return e.Node }},
		{header: "ZONE", wide: true, value: func(e view.Entry) string { return e.Zone }},
		{header: "WEIGHT", wide: true, value: func(e view.Entry) string { return strconv.Itoa(e.Weight) }},
		{header: "LOAD", wide: true, value: utilization},
		{header: "META", wide: true, value: func(e view.Entry) string { return joinMap(e.Meta) }},
		{header: "SOURCE", wide: true, value: func(e view.Entry) string { return string(e.Source) }},
		{header: "AGE", wide: true, value: age},
		{header: "REVISION", wide: true, value: func(e view.Entry) string { return strconv.FormatInt(e.Revision, 10) }},
	}
}

func address(e view.Entry) string { return hostPort(e.Address, e.Port) }

// hostPort returns host:port, or only the host if the port is 0.
func hostPort(host string, port int) string {
	if port == 0 {
		return host
	}
	return net.JoinHostPort(host, strconv.Itoa(port))
}

// utilization returns the reported utilization, or "" if there is no report.
func utilization(e view.Entry) string {
	if e.Utilization == nil {
		return ""
	}
	return strconv.FormatFloat(*e.Utilization, 'f', 2, 64)
}

// age returns the time since an instance was registered, by this host's clock.
func age(e view.Entry) string {
	if e.RegisteredAt.IsZero() {
		return ""
	}
	return shortDuration(time.Since(e.RegisteredAt))
}

// shortDuration returns a duration in its largest unit, such as "5m". A negative one is "0s".
func shortDuration(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// joinMap formats a map as k=v,…, sorted.
func joinMap(m map[string]string) string {
	var all []string
	for k, v := range m {
		all = append(all, k+"="+v)
	}
	slices.Sort(all)
	return strings.Join(all, ",")
}

// namespaced is a service with its namespace.
type namespaced struct {
	Namespace string `json:"namespace"`
	api.Service
}

func (a *app) listNamespaces(ctx context.Context) error {
	names, err := withEtcd(ctx, a, namespaces)
	if err != nil {
		return err
	}
	var all []namespaced
	for _, name := range names {
		a.config.Namespace = name
		services, err := a.services(ctx)
		if err != nil {
			return err
		}
		for _, s := range services {
			all = append(all, namespaced{name, s})
		}
	}
	l := listing[namespaced]{
		items:   all,
		columns: []column[namespaced]{{header: "NAMESPACE", value: func(s namespaced) string { return s.Namespace }}},
		name:    func(s namespaced) string { return s.Namespace + "/" + s.Service.Service },
	}
	for _, c := range serviceListing(nil).columns {
		l.columns = append(l.columns, column[namespaced]{c.header, c.wide, func(s namespaced) string { return c.value(s.Service) }})
	}
	return show(a, l)
}

// namespaces returns the names of all namespaces that have keys.
func namespaces(ctx context.Context, client *clientv3.Client) ([]string, error) {
	var names []string
	for child, err := range etcd.Children(ctx, client, discovery.Namespaces(), 1) {
		if err != nil {
			return nil, err
		}
		if name, below := strings.CutSuffix(child, "/"); below && discovery.ValidateNamespace(name) == nil {
			names = append(names, name)
		}
	}
	return names, nil
}
