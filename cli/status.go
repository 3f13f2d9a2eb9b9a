package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"disc/agent/api"
	"disc/discovery"
)

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:        "status",
		SuggestFor: []string{"members", "ps", "info", "health", "nodes"},
		Short:      "Show the status of this host's agent",
		Long: `Show the status of this host's agent: its session and view of etcd, its registrations,
and the results of its checks.

Exit code 1 if the agent cannot be reached, 3 if it is not ready: it has no view of etcd
yet, or registrations are not in etcd, not saved, or of no use to this version.`,
		Example: `  disc status
  disc status -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.status(cmd.Context()) },
	}
}

func (a *app) status(ctx context.Context) error {
	client, err := a.agent(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, agentTimeout)
	defer cancel()
	agent, err := client.Agent(ctx)
	if err != nil {
		return err
	}
	if err := a.showStatus(agent); err != nil {
		return err
	}
	if err := client.Ready(ctx); err != nil {
		a.infof("the agent is not ready: %v", err)
		return exitWith(exitNotFound)
	}
	return nil
}

func (a *app) showStatus(agent api.Agent) error {
	if !a.printsTable() {
		return show(a, listing[api.Agent]{items: []api.Agent{agent}, single: true, name: func(s api.Agent) string { return s.Node }})
	}
	if err := writeRows(a.io, statusRows(agent)); err != nil || len(agent.Registrations) == 0 {
		return err
	}
	fmt.Fprintln(a.io.Out)
	return writeRows(a.io, registrationRows(agent.Registrations))
}

func statusRows(s api.Agent) [][]string {
	rows := [][]string{
		{"agent", cell(s.Node), printable(fmt.Sprintf("version %s, up %v, owner %s", s.Version, time.Since(s.Started).Round(time.Second), s.Owner))},
		etcdRow(s), sessionRow(s.Session), catalogRow(s.Catalog), levelRow(s.Level),
	}
	for _, problem := range []string{s.Session.Error, s.Catalog.Error, s.Level.Error, s.Ungranted, s.Unsaved} {
		if problem != "" {
			rows = append(rows, []string{"", "", printable(problem)})
		}
	}
	rows = append(rows, behindRows(s.Level)...)
	for _, text := range s.Unusable {
		rows = append(rows, []string{"", "", printable("saved registration " + text)})
	}
	for _, c := range s.Certificates {
		if c.Soon {
			rows = append(rows, []string{"", "", printable(fmt.Sprintf("%s %s is valid until %s; renew it", c.Setting, c.File, c.Expires.Format(time.RFC3339)))})
		}
	}
	if s.Catalog.Suspects > 0 {
		rows = append(rows, []string{"", "", countOf(s.Catalog.Suspects, "instance") + " vanished with many others: kept as suspects, after the others; see 'disc suspects list'"})
	}
	if s.Catalog.Broken > 0 {
		rows = append(rows, []string{"", "", countOf(s.Catalog.Broken, "record") + " cannot be read; the agent's log says which"})
	}
	return rows
}

// etcdRow says where etcd is, and who of it answers.
func etcdRow(s api.Agent) []string {
	text := "namespace " + s.Namespace
	if at := memberAt(s.Catalog.Endpoint, s.Catalog.Member); at != "" {
		text += "; watched at " + at
	}
	if at := memberAt(s.Session.Endpoint, s.Session.Member); at != "" {
		text += "; lease renewed at " + at
	}
	return []string{"etcd", printable(strings.Join(s.Endpoints, ",")), printable(text)}
}

// memberAt names a member of etcd by what is known of it; "" if that is nothing.
func memberAt(endpoint, id string) string {
	switch {
	case id == "":
		return endpoint
	case endpoint == "":
		return "member " + id
	}
	return fmt.Sprintf("%s (member %s)", endpoint, id)
}

func sessionRow(s api.Session) []string {
	row := []string{"session", string(s.State)}
	switch {
	case s.Lease == "":
		return row
	case s.LastKeepalive >= s.TTL:
		return append(row, fmt.Sprintf("lease %s may have expired: ttl %v, not renewed for %v", s.Lease, s.TTL, s.LastKeepalive))
	case s.State != api.SessionAlive:
		return append(row, fmt.Sprintf("lease %s expires soon: ttl %v, not renewed for %v; no lock or claim relies on it", s.Lease, s.TTL, s.LastKeepalive))
	}
	return append(row, fmt.Sprintf("lease %s, ttl %v, renewed %v ago", s.Lease, s.TTL, s.LastKeepalive))
}

func catalogRow(c api.Catalog) []string {
	row := []string{"catalog", "current"}
	switch {
	case c.Revision == 0 && !c.Synced:
		return []string{"catalog", "unavailable", "etcd has not been read yet, and there is no saved view"}
	case c.Stale:
		row[1] = "stale"
	}
	return append(row, fmt.Sprintf("revision %d, %v old; %s, %s, %s", c.Revision, c.Age,
		countOf(c.Services, "service"), countOf(c.Instances, "instance"), countOf(c.Nodes, "node")))
}

// levelRow shows the feature level of the namespace.
func levelRow(l api.Level) []string {
	text := fmt.Sprintf("this agent reads %d", l.Own)
	switch {
	case l.Own == 0: // an agent of version 0.1.0
		return []string{"level", "1", "this agent does not say which level it reads: it is of version 0.1.0"}
	case l.Namespace == 0:
		return []string{"level", "unknown", text}
	case l.Namespace > l.Own:
		text += "; upgrade it: it can misread what others write"
	case l.Target > l.Namespace && slices.ContainsFunc(l.Behind, func(b discovery.BehindAgent) bool { return b.Level < l.Target }):
		text += fmt.Sprintf("; the namespace rises to %d a day after the last older agent was seen", l.Target)
	case l.RaisedWithin > 0:
		text += fmt.Sprintf("; the namespace rises within %v if no older agent is seen", l.RaisedWithin)
	}
	return []string{"level", strconv.Itoa(l.Namespace), text}
}

// behindRows names the agents that hold the level back, or misread what it allows.
func behindRows(l api.Level) [][]string {
	var rows [][]string
	for _, b := range l.Behind {
		rows = append(rows, []string{"", "", printable(fmt.Sprintf("agent %s on node %s, version %s, reads level %d; last seen %s",
			b.Agent, b.Node, cmp.Or(b.Version, "unknown"), b.Level, b.Seen.Format(time.RFC3339)))})
	}
	if l.More > 0 {
		rows = append(rows, []string{"", "", "and " + countOf(l.More, "more agent")})
	}
	return rows
}

// deregistration says when an instance is to be deregistered; "" if it is not.
func deregistration(r api.Registration) string {
	switch {
	case !r.DeregisterAt.IsZero():
		return "is deregistered at " + r.DeregisterAt.Format(time.RFC3339)
	case r.DeregisterAfter > 0:
		return fmt.Sprintf("is deregistered once it has been critical for %v", r.DeregisterAfter)
	}
	return ""
}

func registrationRows(all []api.Registration) [][]string {
	rows := [][]string{{"INSTANCE", "SOURCE", "STATE", "STATUS", "CHECK", "OUTPUT"}}
	for _, r := range all {
		row := []string{cell(r.Service + "/" + r.ID), string(r.Source), string(r.State), string(r.Status), "", printable(cmp.Or(r.Error, deregistration(r)))}
		rows = append(rows, row)
		for _, c := range r.Checks {
			output, _, _ := strings.Cut(c.Output, "\n")
			rows = append(rows, []string{"", "", "", string(c.Status), printable(c.ID), printable(output)})
		}
	}
	return rows
}
