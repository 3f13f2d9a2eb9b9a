package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/view"
)

func (a *app) watchCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "watch [SERVICE]",
		Short: "Show changes as they happen",
		Long: `Show changes of all instances, or of the instances of a service, as they happen, until
interrupted. A line has etcd's revision, the event, and the instance after it. With -o
json or jsonl, each line is an event in the form of /v1/watch of the HTTP API.`,
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
	asJSON, err := a.changesAsJSON()
	if err != nil {
		return err
	}
	first, known := true, lastSeen{}
	for e, err := range a.changeStream(ctx, service) {
		switch {
		case err != nil:
			return err
		case asJSON:
			err = a.showEvent(e)
		case e.Type == api.EventReset && first:
			a.infof("watching from revision %d; %d instances exist", e.Revision, len(e.Instances))
		default:
			_, err = fmt.Fprintln(a.io.Out, changeLine(e, known.get(e)))
		}
		if err != nil {
			return err
		}
		first = false
		known.update(e)
	}
	return nil
}

// changesAsJSON reports whether -o asks for changes as JSON instead of lines. Other
// formats are an error.
func (a *app) changesAsJSON() (bool, error) {
	switch a.config.CLI.Output {
	case "table", "wide":
		return false, nil
	case "json", "jsonl":
		return true, nil
	}
	return false, usage(fmt.Errorf("-o %s does not support changes; use table, wide or jsonl", a.config.CLI.Output))
}

// listAndWatch prints the present instances and then each change on a line. It prints an
// instance once more when it stops being selected.
func (a *app) listAndWatch(ctx context.Context, service string, selects func(*view.Entry) bool) error {
	asJSON, err := a.changesAsJSON()
	if err != nil {
		return err
	}
	shown, known := lastSeen{}, lastSeen{}
	for e, err := range a.changeStream(ctx, service) {
		if err != nil {
			return err
		}
		e, ok := selected(e, selects, shown)
		switch {
		case !ok:
		case asJSON:
			err = a.showEvent(e)
		case e.Type == api.EventReset:
			err = a.showReset(e)
		default:
			_, err = fmt.Fprintln(a.io.Out, changeLine(e, known.get(e)))
		}
		if err != nil {
			return err
		}
		known.update(e)
	}
	return nil
}

// selected narrows an event to the instances that are selected, or were when they were
// last shown. It updates shown. ok is false for an event about other instances.
func selected(e api.Event, selects func(*view.Entry) bool, shown lastSeen) (_ api.Event, ok bool) {
	was := shown.get(e) != nil
	e.Instances = slices.DeleteFunc(slices.Clone(e.Instances), func(i *view.Entry) bool { return !selects(i) })
	now := e
	if e.Instance != nil && !selects(e.Instance) {
		now.Instance = nil
	}
	shown.update(now)
	return e, e.Type == api.EventReset || was || now.Instance != nil
}

// lastSeen holds the last known entry of each instance.
type lastSeen map[string]*view.Entry

// get returns the instance of an event as it was before; nil if it did not exist.
func (m lastSeen) get(e api.Event) *view.Entry { return m[instanceKey(e.Service, e.ID)] }

// update applies an event.
func (m lastSeen) update(e api.Event) {
	switch {
	case e.Type == api.EventReset:
		clear(m)
		for _, i := range e.Instances {
			m[instanceKey(i.Service, i.ID)] = i
		}
	case e.Instance == nil:
		delete(m, instanceKey(e.Service, e.ID))
	default:
		m[instanceKey(e.Service, e.ID)] = e.Instance
	}
}

// instanceKey returns the key of an instance, which ignores the case of the service.
func instanceKey(service, id string) string { return discovery.FoldName(service) + "/" + id }

// showReset prints all instances of a reset.
func (a *app) showReset(e api.Event) error {
	l := entryListing(nil)
	for _, i := range e.Instances {
		l.items = append(l.items, *i)
	}
	l.columns[0] = column[view.Entry]{header: "INSTANCE", value: instanceName}
	return show(a, l)
}

// showEvent prints an event as JSON, with its type.
func (a *app) showEvent(e api.Event) error {
	return writeJSON(a.io.Out, struct {
		Type view.EventType `json:"event"`
		api.Event
	}{e.Type, e}, "")
}

// changeLine formats an event as one line, with the fields that changed since before.
func changeLine(e api.Event, before *view.Entry) string {
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
	if before != nil {
		if changed := changedFields(before, &i); len(changed) > 0 {
			line += "  " + printable(strings.Join(changed, ", "))
		}
	}
	return line
}
