package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/view"
)

func (a *app) watchCommand() *cobra.Command {
	var command string
	c := &cobra.Command{
		Use:        "watch [SERVICE]",
		SuggestFor: []string{"monitor", "events", "follow", "tail"},
		Short:      "Show changes as they happen",
		Long: `Show changes of all instances, or of the instances of a service, as they happen, until
interrupted. A line has etcd's revision, the event, and the instance after it. With -o
json or jsonl, each line is an event in the form of /v1/watch of the HTTP API.

With --exec, sh runs a command now and after each change instead. It gets all instances
on its standard input, as 'disc list SERVICE -o json' shows them; -o jsonl, yaml, name,
addr and template= are there too. One command runs at a time: after changes during a run
it runs once more, with the newest answer. One that fails is run again until it succeeds.

Exit code 3 if nothing is known of the service; 'disc wait' waits for one.`,
		Example: `  disc watch
  disc watch web -o jsonl
  disc watch web -o addr --exec 'cat >web.addresses && kill -HUP $(cat web.pid)'`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeService,
		RunE: func(cmd *cobra.Command, args []string) error {
			service, err := optionalService(args)
			if err != nil {
				return err
			}
			if cmd.Flags().Changed("exec") {
				return a.watchAndRun(cmd.Context(), service, command)
			}
			return a.watch(cmd.Context(), service)
		},
	}
	c.Flags().StringVar(&command, "exec", "", "command to run at each change, with the instances on its standard input")
	return c
}

func (a *app) watch(ctx context.Context, service string) error {
	asJSON, err := a.changesAsJSON()
	if err != nil {
		return err
	}
	first, known := true, lastSeen{}
	for e, err := range a.changeStream(ctx, service) {
		if err == nil && first {
			err = a.requireService(ctx, service, e)
		}
		switch {
		case err != nil:
			return err
		case asJSON:
			err = a.showEvent(e)
		case e.Type == api.EventReset && first:
			a.infof("watching from revision %d, with %s", e.Revision, countOf(len(e.Instances), "instance"))
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
		return fmt.Sprintf("%d  reset   %s", e.Revision, countOf(len(e.Instances), "instance"))
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
