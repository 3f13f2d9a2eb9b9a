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

// showEdit prints the result of an edit: the entry after it or, in a table, the changes.
func (a *app) showEdit(name string, c entry.Change, dryRun bool) error {
	if !a.printsTable() && c.After != nil {
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

// describeEdit lists the differences of an entry before and after an edit; nil means that
// the entry does not exist.
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

// changedFields returns the fields that differ, sorted, each with both values.
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
