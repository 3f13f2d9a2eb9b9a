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
		Use:        "list [SERVICE]",
		Aliases:    []string{"ls"},
		SuggestFor: []string{"services", "members", "ps", "instances", "nodes", "catalog"},
		Short:      "List services, or the instances of one",
		Long: `List the services in etcd, or the instances of a service. With an option that selects
instances and without SERVICE, list those of all services. If etcd cannot be reached, this
host's agent is asked instead, and stderr says so.

With -w, a row for each change follows the list, until interrupted.

REVISION of a service is etcd's, up to which the list is complete: ?index= with it waits
for the next change, unless the agent watches on demand. In JSON, revision is that of the
service's last change, as far as etcd shows it: of its newest key. REVISION of an instance
(-o wide) is that of its newest key, as for --if-revision.

An empty list is not a failure: the exit code is 0. Exit code 3 if nothing is known of
SERVICE.`,
		Example: `  disc list
  disc list --status critical
  disc list web -o wide
  disc list web -l v2 --zone a
  disc list web --filter 'meta.Team == "core" and zone != "b"'
  disc list web -w`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeService,
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if o.service, err = optionalService(args); err != nil {
				return err
			}
			return a.list(cmd.Context(), o)
		},
	}
	f := c.Flags()
	f.BoolVarP(&o.watch, "watch", "w", false, "then show changes as they happen")
	f.BoolVarP(&o.allNamespaces, "all-namespaces", "A", false, "list the services of all namespaces")
	f.StringSliceVarP(&o.tags, "tag", "l", nil, "only instances with all of these tags")
	f.StringVar(&o.filter, "filter", "", "only instances that match this expression")
	f.StringVar(&o.status, "status", "", "only instances with this status: passing, warning, critical or any")
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
	status, err := parseStatus(o.status)
	if err != nil {
		return nil, err
	}
	s := lookup.Selector{Tags: o.tags, Zone: o.zone, Node: o.node, Meta: o.meta, Filter: filter}
	return func(e *view.Entry) bool {
		return s.Match(e) == "" && (status == "" || status == discovery.StatusAny || string(e.Status) == string(status))
	}, nil
}

// selectsInstances reports whether an option selects among instances.
func (o *listOptions) selectsInstances() bool {
	return len(o.tags) > 0 || o.filter != "" || o.status != "" || o.zone != "" || o.node != "" || len(o.meta) > 0
}

// statusValues are the values of --status, the same for every command.
var statusValues = []string{"passing", "warning", "critical", "any"}

// parseStatus validates --status; "" is its absence.
func parseStatus(text string) (discovery.StatusFilter, error) {
	if text == "" || slices.Contains(statusValues, text) {
		return discovery.StatusFilter(text), nil
	}
	return "", usage(fmt.Errorf("--status %q is unknown; use passing, warning, critical or any", text))
}

// optionalService returns the SERVICE that is given, "" if none is.
func optionalService(args []string) (string, error) {
	if len(args) == 0 {
		return "", nil
	}
	if err := discovery.ValidateService(args[0]); err != nil {
		return "", usage(err)
	}
	return args[0], nil
}

func (a *app) list(ctx context.Context, o listOptions) error {
	selects, err := o.selector()
	switch {
	case err != nil:
		return err
	case o.allNamespaces && (o.service != "" || o.watch || o.selectsInstances()):
		return usage(errors.New("-A lists the services of all namespaces; it goes neither with SERVICE or -w nor with what selects instances"))
	case o.watch:
		return a.listAndWatch(ctx, o, selects)
	case o.allNamespaces:
		return a.listNamespaces(ctx)
	case o.service == "" && !o.selectsInstances():
		return a.listServices(ctx)
	}
	return a.listInstances(ctx, o, selects)
}

func (a *app) listServices(ctx context.Context) error {
	services, err := a.services(ctx)
	if err != nil {
		return err
	}
	if len(services) == 0 {
		a.sayNoServices()
	}
	return show(a, serviceListing(services))
}

// listInstances lists the instances of a service, or of all services, that are selected.
func (a *app) listInstances(ctx context.Context, o listOptions, selects func(*view.Entry) bool) error {
	entries, err := a.instancesOf(ctx, o.service)
	if err != nil {
		return err
	}
	known := len(entries)
	entries = slices.DeleteFunc(entries, func(e view.Entry) bool { return !selects(&e) })
	if len(entries) == 0 {
		a.sayNoInstances(o.service, known)
	}
	return show(a, entriesOf(o.service, entries))
}

func (a *app) sayNoServices() { a.infof("no services in namespace %q", a.config.Namespace) }

// sayNoInstances says why a list of instances is empty, although so many are known.
func (a *app) sayNoInstances(service string, known int) {
	switch {
	case service == "":
		a.infof("no such instances in namespace %q", a.config.Namespace)
	case known > 0:
		a.infof("no such instances of service %q in namespace %q", service, a.config.Namespace)
	default:
		a.explainEmpty(service)
	}
}

// explainEmpty says why a service is known that has no instances.
func (a *app) explainEmpty(service string) {
	a.infof("service %q has no instances now: they have left, or etcd has only overrides of them, which 'disc unset %s/ID' removes", service, service)
}

// instancesOf returns the instances of a service or, with "", of all services.
func (a *app) instancesOf(ctx context.Context, service string) ([]view.Entry, error) {
	if service == "" {
		return a.allInstances(ctx)
	}
	return a.instances(ctx, service)
}

// entriesOf returns the listing of a service's instances or, with "", of those of all services.
func entriesOf(service string, entries []view.Entry) listing[view.Entry] {
	l := entryListing(entries)
	if service == "" {
		l.columns[0] = column[view.Entry]{header: "INSTANCE", value: instanceName}
	}
	return l
}

func serviceListing(services []listedService) listing[listedService] {
	return listing[listedService]{
		items: services,
		columns: []column[listedService]{
			{header: "SERVICE", value: func(s listedService) string { return s.Service.Service }},
			{header: "HEALTHY", value: func(s listedService) string { return strconv.Itoa(s.Healthy) }},
			{header: "TOTAL", value: func(s listedService) string { return strconv.Itoa(s.Total) }},
			{header: "TAGS", value: func(s listedService) string { return strings.Join(s.Tags, ",") }},
			{header: "REVISION", value: func(s listedService) string { return s.upTo() }},
		},
		name: func(s listedService) string { return s.Service.Service },
	}
}

// upTo returns the revision up to which the list is complete, or "" if it is not known.
func (s listedService) upTo() string {
	if s.complete == 0 {
		return ""
	}
	return strconv.FormatInt(s.complete, 10)
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
	listedService
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
	if len(all) == 0 {
		a.infof("no services in any namespace")
	}
	l := listing[namespaced]{
		items:   all,
		columns: []column[namespaced]{{header: "NAMESPACE", value: func(s namespaced) string { return s.Namespace }}},
		name:    func(s namespaced) string { return s.Namespace + "/" + s.Service.Service },
	}
	for _, c := range serviceListing(nil).columns {
		l.columns = append(l.columns, column[namespaced]{c.header, c.wide, func(s namespaced) string { return c.value(s.listedService) }})
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
