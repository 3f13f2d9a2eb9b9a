package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/view"
)

func (a *app) historyCommand() *cobra.Command {
	var q api.HistoryQuery
	c := &cobra.Command{
		Use:        "history [SERVICE[/ID]]",
		SuggestFor: []string{"changes", "events", "log"},
		Short:      "Show the changes that this host's agent has seen",
		Long: `Show the changes of instances that this host's agent has seen, oldest first, with why each
happened: of all, of a service, or of an instance. REVISION is etcd's. SEEN is the time at
which the agent saw the change, by its own clock.

The agent keeps the newest changes in memory, up to catalog.history_bytes, and none of the
time before its start. The command says where they begin. Where the agent was cut off from
etcd, the history has a gap: what it found by comparing afterwards is marked with *, and
what came and went meanwhile is missing. An agent that watches only what it is asked for
has the changes of a service since it watches it.

--since and --until take a duration before now (10m, 2h), or a time (2026-01-31T12:00:00Z,
or "2026-01-31 12:00:00" in this host's zone).

Exit code 3 if the agent keeps no history, or would see the service or instance and does
not know it.`,
		Example: `  disc history
  disc history web --since 10m
  disc history web/web-1 -o json
  disc history --since 2026-01-31T12:00:00Z --until 1h`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeTarget,
		RunE: func(cmd *cobra.Command, args []string) error {
			target, err := parseOptionalTarget(args)
			if err != nil {
				return err
			}
			q.Service, q.ID = target.service, target.id
			if q.Limit < 1 || q.Limit > api.MaxHistoryLimit {
				return usage(fmt.Errorf("--max %d is out of range; use 1 to %d", q.Limit, api.MaxHistoryLimit))
			}
			for name, text := range map[string]*string{"since": &q.Since, "until": &q.Until} {
				if *text, err = pastTime(*text); err != nil {
					return usage(fmt.Errorf("--%s: %w", name, err))
				}
			}
			return a.history(cmd.Context(), q, target)
		},
	}
	f := c.Flags()
	f.StringVar(&q.Since, "since", "", "only what was seen since then: 10m ago, or a time")
	f.StringVar(&q.Until, "until", "", "only what was seen until then: 10m ago, or a time")
	f.IntVar(&q.Limit, "max", api.DefaultHistoryLimit, "maximum number of changes, up to "+strconv.Itoa(api.MaxHistoryLimit)+": the newest ones")
	return c
}

// pastTime returns a time, or a duration before now, in the form of the API.
func pastTime(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return text, nil
	}
	for _, layout := range []string{time.RFC3339, time.DateTime, time.DateOnly} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t.UTC().Format(time.RFC3339), nil
		}
	}
	return "", fmt.Errorf("%q is neither a duration before now, such as 10m, nor a time, such as 2026-01-31T12:00:00Z", text)
}

func (a *app) history(ctx context.Context, q api.HistoryQuery, target optionalTarget) error {
	client, _, err := a.namespaceAgent(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, agentTimeout)
	defer cancel()
	h, err := client.History(ctx, q)
	if err != nil {
		return err
	}
	if err := a.checkHasHistory(ctx, client, h, q); err != nil {
		return err
	}
	a.sayWhereHistoryBegins(h, target)
	if format := a.config.CLI.Output; format == "json" || format == "yaml" {
		return show(a, listing[api.History]{items: []api.History{h}, single: true})
	}
	return show(a, changeListing(h.Changes))
}

// checkHasHistory returns an error if a history has nothing of what was asked for, which the agent
// would see and does not know: its name is likely to be misspelled.
func (a *app) checkHasHistory(ctx context.Context, client *api.Client, h api.History, q api.HistoryQuery) error {
	if q.Service == "" || !h.Watched || hasChangesOf(h, q.ID) {
		return nil
	}
	entries, _, err := client.Instances(ctx, q.Service, api.ListOptions{})
	unknown := errors.Is(err, discovery.ErrNotFound)
	if err == nil && q.ID != "" {
		unknown = !slices.ContainsFunc(entries, func(e view.Entry) bool { return e.ID == q.ID })
	}
	if !unknown {
		return nil
	}
	all, other := client.History(ctx, api.HistoryQuery{Service: q.Service, ID: q.ID})
	switch {
	case other != nil || hasChangesOf(all, q.ID): // at another time than was asked for
		return nil
	case err != nil:
		return a.explainUnknown(ctx, q.Service, err)
	}
	return unknownInstance(q.Service, q.ID, entries)
}

// hasChangesOf reports whether a history of a service has a change of it or, if id is set, of one of
// its instances.
func hasChangesOf(h api.History, id string) bool {
	return slices.ContainsFunc(h.Changes, func(c discovery.Change) bool { return c.Service != "" && (id == "" || c.ID == id) })
}

// sayWhereHistoryBegins says from where on the agent has the changes, and which are left out.
func (a *app) sayWhereHistoryBegins(h api.History, target optionalTarget) {
	if !a.printsTable() {
		return
	}
	of := ""
	if name := target.name(); name != "" {
		of = " of " + name
	}
	switch {
	case h.Begins == nil:
		a.infof("this host's agent has seen no changes%s, and does not watch %s", of, cmp.Or(target.name(), "anything yet"))
		return
	case h.Begins.Dropped:
		a.infof("the history begins at revision %d, %s; there was no room for what came before (catalog.history_bytes)", h.Begins.Revision, seenAt(h.Begins.Seen))
	default:
		a.infof("the history begins at revision %d, %s, when this host's agent began to watch", h.Begins.Revision, seenAt(h.Begins.Seen))
	}
	switch {
	case h.Truncated:
		a.infof("there are changes before these: --max has more, and --until goes further back")
	case len(h.Changes) == 0:
		a.infof("this host's agent has seen no changes%s in that time", of)
	}
	if !h.Watched {
		a.infof("this host's agent does not watch %s now", cmp.Or(target.service, "all services, only those that it is asked for,"))
	}
}

// seenAt formats a time by another host's clock.
func seenAt(t time.Time) string { return "~" + t.Local().Format(time.DateTime) }

func changeListing(changes []discovery.Change) listing[discovery.Change] {
	return listing[discovery.Change]{
		items: changes,
		name:  changedName,
		columns: []column[discovery.Change]{
			{header: "REVISION", value: func(c discovery.Change) string { return strconv.FormatInt(c.Revision, 10) }},
			{header: "SEEN", value: func(c discovery.Change) string { return seenAt(c.Seen) }},
			{header: "INSTANCE", value: changedName},
			{header: "CHANGE", value: changeKind},
			{header: "WHAT", value: func(c discovery.Change) string { return changedValues(c, false) }},
			{header: "WHY", value: changeReason},
			{header: "ALL FIELDS", wide: true, value: func(c discovery.Change) string { return changedValues(c, true) }},
		},
	}
}

// changedName returns the instance of a change; * stands for all.
func changedName(c discovery.Change) string {
	return cmp.Or(c.Service, "*") + "/" + cmp.Or(c.ID, "*")
}

// changeKind returns what happened, with a * if it was found by comparing.
func changeKind(c discovery.Change) string {
	kind := strings.ReplaceAll(string(c.Change), "_", " ")
	if c.Listed {
		kind += "*"
	}
	return kind
}

func changeReason(c discovery.Change) string {
	if c.Since != nil {
		return c.Why + "; it had all changes until " + seenAt(*c.Since)
	}
	return c.Why
}

// inWhy are the fields that the reason of a change tells already, or that are of no use to people.
var inWhy = []string{"checks", "override", "owner", "run"}

// changedValues returns the fields of a change with both values.
func changedValues(c discovery.Change, all bool) string {
	var parts []string
	for _, f := range c.Fields {
		switch {
		case !all && slices.Contains(inWhy, f.Field):
		case f.From == "" && c.Change == discovery.ChangeAdded:
			parts = append(parts, f.Field+" "+f.To)
		default:
			parts = append(parts, fmt.Sprintf("%s %s → %s", f.Field, cell(f.From), cell(f.To)))
		}
	}
	if c.Cut {
		parts = append(parts, "…")
	}
	return strings.Join(parts, ", ")
}
