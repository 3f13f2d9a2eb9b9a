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
			a.infof("watching from revision %d; %d instances are there", e.Revision, len(e.Instances))
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

// changesAsJSON reports whether changes are to be shown as JSON; else they are lines. The
// other forms of -o are for what is whole.
func (a *app) changesAsJSON() (bool, error) {
	switch a.config.CLI.Output {
	case "table", "wide":
		return false, nil
	case "json", "jsonl":
		return true, nil
	}
	return false, usage(fmt.Errorf("-o %s does not go with following changes; use table, wide or jsonl", a.config.CLI.Output))
}

// listAndWatch shows the instances that are there, and then each change on a line. An
// instance that is selected no longer is shown once more.
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

// selected narrows an event to the instances that are selected or were when they were
// last shown, as shown keeps them. ok is false for an event that is about others.
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

// lastSeen is what instances were like when they were last heard of.
type lastSeen map[string]*view.Entry

// get is the instance of an event as it was; nil when it was not there.
func (m lastSeen) get(e api.Event) *view.Entry { return m[instanceKey(e.Service, e.ID)] }

// update takes over what an event says.
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

// instanceKey is an instance's name, whatever the case of its service.
func instanceKey(service, id string) string { return discovery.FoldName(service) + "/" + id }

// showReset shows all that is there.
func (a *app) showReset(e api.Event) error {
	l := entryListing(nil)
	for _, i := range e.Instances {
		l.items = append(l.items, *i)
	}
	l.columns[0] = column[view.Entry]{header: "INSTANCE", value: instanceName}
	return show(a, l)
}

// showEvent prints an event as JSON, with its name.
func (a *app) showEvent(e api.Event) error {
	return writeJSON(a.io.Out, struct {
		Type view.EventType `json:"event"`
		api.Event
	}{e.Type, e}, "")
}

// changeLine shows an event on one line, and what it changed of how the instance was.
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
