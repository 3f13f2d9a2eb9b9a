package cli

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/view"
)

func (a *app) whyCommand() *cobra.Command {
	return &cobra.Command{
		Use:        "why SERVICE/ID",
		SuggestFor: []string{"explain", "describe", "inspect"},
		Short:      "Say why an instance is answered or not, and what to do",
		Long: `Say whether this host's agent answers with an instance, for which reason, and what to do.
It shows what the agent and etcd know: the record and its checks, an operator's override,
the static entry that the record hides, the agent that registered it and when etcd last
heard of that, and the last changes; also of an instance that is gone.

'disc lookup SERVICE --explain' says so for each instance of a service, in a line.

Exit code 3 if neither the agent nor etcd knows the instance.`,
		Example: `  disc why web/web-1
  disc why web/web-1 -o json`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeTarget,
		RunE: func(cmd *cobra.Command, args []string) error {
			service, id, err := parseTarget(args[0])
			if err != nil {
				return err
			}
			return a.why(cmd.Context(), service, id)
		},
	}
}

func (a *app) why(ctx context.Context, service, id string) error {
	client, _, err := a.namespaceAgent(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, agentTimeout)
	defer cancel()
	w, err := client.Why(ctx, service, id)
	switch {
	case err != nil:
		return err
	case a.printsTable():
		return a.showWhy(w)
	}
	return show(a, listing[api.Why]{items: []api.Why{w}, single: true, name: func(w api.Why) string { return w.Service + "/" + w.ID }})
}

// showWhy prints an explanation: the answer, what is known, the last changes, and what to do.
func (a *app) showWhy(w api.Why) error {
	a.warnStale(api.Freshness{Stale: w.Stale, Age: time.Duration(w.Age)})
	if _, err := fmt.Fprintln(a.io.Out, printable(fmt.Sprintf("%s/%s is %s: %s", w.Service, w.ID, whyStates[w.State], w.Reason))); err != nil {
		return err
	}
	if rows := whyRows(w); len(rows) > 0 {
		if err := a.section("", rows); err != nil {
			return err
		}
	}
	var changes [][]string
	for _, c := range w.Changes {
		changes = append(changes, []string{"  " + strconv.FormatInt(c.Revision, 10), seenAt(c.Seen), changeKind(c), cell(changedValues(c, false)), cell(changeReason(c))})
	}
	if len(changes) > 0 {
		title := "last changes"
		if w.Begins != nil {
			title += fmt.Sprintf(" (the history begins at revision %d, %s)", w.Begins.Revision, seenAt(w.Begins.Seen))
		}
		if err := a.section(title+":", changes); err != nil {
			return err
		}
	}
	var next [][]string
	for _, step := range w.Next {
		next = append(next, []string{"  - " + printable(step)})
	}
	if len(next) == 0 {
		return nil
	}
	return a.section("what to do:", next)
}

// section prints rows under a title; "" is none.
func (a *app) section(title string, rows [][]string) error {
	if title != "" {
		if _, err := fmt.Fprintln(a.io.Out, title); err != nil {
			return err
		}
	}
	return writeRows(a.io, rows)
}

var whyStates = map[api.WhyState]string{
	api.WhyAnswered: "answered", api.WhyLeftOut: "not answered", api.WhyGone: "gone",
}

// whyRows returns what is known of an instance, each as a name and a text.
func whyRows(w api.Why) (rows [][]string) {
	add := func(name, format string, args ...any) {
		rows = append(rows, []string{"  " + name, printable(fmt.Sprintf(format, args...))})
	}
	if e := w.Instance; e != nil {
		add("address", "%s, weight %d%s%s", address(*e), e.Weight, labeled(", zone ", e.Zone), labeled(", tags ", strings.Join(e.Tags, ",")))
		add("status", "%s", e.Status)
		for _, c := range e.Checks {
			add("check", "%s (%s) is %s%s", cmp.Or(c.Name, c.ID), c.Type, c.Status, labeled(": ", c.Output))
		}
		add("state", "%s", e.State)
		if e.Override != nil {
			add("override", "%s", overrideText(*e.Override)+etcdRevision(w.Etcd, func(s api.WhyEtcd) int64 { return s.Override }))
		}
		if e.Shadowed != nil {
			add("static", "its record hides the static entry at %s, which is %s", address(view.Entry{Instance: *e.Shadowed}), e.Shadowed.Status)
		}
		registered := ""
		if !e.RegisteredAt.IsZero() {
			registered = ", registered at " + e.RegisteredAt.Local().Format(time.DateTime)
		}
		add("record", "%s, revision %d%s", sources[e.Source], e.Revision, registered)
	}
	if w.Missing {
		add("guard", "%s", guardText(w))
	}
	if o := w.Owner; o != nil {
		add("owner", "%s", ownerText(*o, w.Etcd))
	}
	if r := w.Registration; r != nil {
		add("here", "registered through this agent (%s), %s%s", r.Source, r.State, labeled(": ", r.Error))
	}
	if s := w.Etcd; s != nil && s.Unreadable != "" {
		add("unreadable", "%s: %s", s.Key, s.Unreadable)
	}
	switch s := w.Etcd; {
	case s == nil:
	case s.Error != "" && s.Lease != "":
		add("etcd", "%s; it could not be asked for the lease: %s", storedText(*s), s.Error)
	case s.Error != "":
		add("etcd", "could not be asked: %s", s.Error)
	default:
		add("etcd", "%s", storedText(*s))
	}
	return rows
}

var sources = map[view.Source]string{view.SourceAgent: "of an agent", view.SourceStatic: "a static entry"}

// labeled returns a text after a label; "" if the text is empty.
func labeled(label, text string) string {
	if text == "" {
		return ""
	}
	return label + text
}

func etcdRevision(s *api.WhyEtcd, of func(api.WhyEtcd) int64) string {
	if s == nil || of(*s) == 0 {
		return ""
	}
	return fmt.Sprintf(", revision %d", of(*s))
}

func overrideText(o discovery.Override) string {
	var parts []string
	if o.State != "" {
		parts = append(parts, "state "+string(o.State))
	}
	if o.Weight != nil {
		parts = append(parts, "weight "+strconv.Itoa(*o.Weight))
	}
	if o.Tags != nil {
		parts = append(parts, "tags "+cell(strings.Join(o.Tags, ",")))
	}
	if len(o.Meta) > 0 {
		parts = append(parts, "meta "+joinMap(o.Meta))
	}
	return strings.Join(parts, ", ")
}

// guardText says what the mass-loss guard does about an instance.
func guardText(w api.Why) string {
	text := "its record is gone from etcd; this agent decides in a moment whether it is lost alone"
	if w.Instance != nil && w.Instance.Suspect {
		text = "a suspect: its record vanished with many others, or when etcd started over"
	}
	if o := w.Order; o != nil {
		text += fmt.Sprintf("; ordered to %s by %s until %s", o.Order, o.By, o.Until.Local().Format(time.DateTime))
	}
	return text
}

func ownerText(o api.WhyOwner, s *api.WhyEtcd) string {
	text := "agent " + o.Agent + " on " + o.Node
	if o.Here {
		text += " (this one)"
	}
	switch o.Session {
	case api.WhySessionAlive:
		text += ", whose session lives"
	case api.WhySessionEnded:
		text += ", whose session has ended"
	case api.WhySessionUnknown:
		text += "; whether its session lives is not known"
	}
	if s != nil && s.Heard != nil {
		text += fmt.Sprintf("; etcd heard of it %v ago, and waits for %v", *s.Heard, s.TTL)
	}
	return text
}

// storedText says which keys of an instance etcd has.
func storedText(s api.WhyEtcd) string {
	var parts []string
	record := "record"
	if s.Leaving {
		record = "tombstone"
	}
	for _, key := range []struct {
		name     string
		revision int64
	}{{record, s.Record}, {"override", s.Override}, {"static entry", s.Static}} {
		if key.revision != 0 {
			parts = append(parts, fmt.Sprintf("%s of revision %d", key.name, key.revision))
		}
	}
	if len(parts) == 0 {
		return "has nothing of it"
	}
	return "has the " + strings.Join(parts, ", the ")
}
