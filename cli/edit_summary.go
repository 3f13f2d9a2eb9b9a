package cli

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"disc/discovery"
	"disc/discovery/entry"
	"disc/discovery/view"
)

// showEdit prints what an edit did: the entry as it is now, or what is different.
func (a *app) showEdit(name string, c entry.Change, dryRun bool) error {
	format, _, _ := strings.Cut(a.config.CLI.Output, "=")
	if format != "table" && format != "wide" && c.After != nil {
		l := entryListing([]view.Entry{*c.After})
		l.single = true
		return show(a, l)
	}
	lines := describeEdit(c.Before, c.After)
	for n, line := range lines {
		lines[n] = printable(line)
	}
	tail := fmt.Sprintf(" (revision %d)", c.Revision)
	switch {
	case dryRun:
		tail = " (dry run)"
	case c.Revision == 0:
		tail = ""
	}
	_, err := fmt.Fprintf(a.io.Out, "%s: %s%s\n", printable(name), strings.Join(lines, ", "), tail)
	return err
}

// describeEdit tells what is different between two entries, field by field.
func describeEdit(before, after *view.Entry) []string {
	switch {
	case after == nil && before == nil:
		return []string{"override removed"}
	case after == nil:
		return []string{"removed"}
	case before == nil:
		made := []string{"made, at " + address(*after)}
		if after.State != discovery.Up {
			made = append(made, "state "+string(after.State))
		}
		return made
	}
	if changed := changedFields(before, after); len(changed) > 0 {
		return changed
	}
	return []string{"unchanged"}
}

// changedFields are the fields that differ, sorted, each as it was and as it is.
func changedFields(before, after *view.Entry) []string {
	was, is := fields(before), fields(after)
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(is)) {
		if was[name] != is[name] {
			lines = append(lines, fmt.Sprintf("%s %s → %s", name, cell(was[name]), cell(is[name])))
		}
	}
	return lines
}

func fields(e *view.Entry) map[string]string {
	ports, _ := json.Marshal(e.Ports)
	return map[string]string{
		"address": address(*e), "ports": string(ports), "zone": e.Zone, "weight": strconv.Itoa(e.Weight), "slots": strconv.Itoa(e.Slots),
		"tags": strings.Join(e.Tags, ","), "meta": joinMap(e.Meta), "state": string(e.State), "status": string(e.Status), "source": string(e.Source),
	}
}
