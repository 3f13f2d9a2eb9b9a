package changelog

import (
	"cmp"
	"encoding/json"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	"disc/discovery"
	"disc/discovery/view"
)

// Compare returns the entry of a change of an instance from one state to another; nil is no
// instance. gone is the reason for which it went, if it did. It returns false if readers see no
// difference.
func Compare(before, after *view.Entry, gone discovery.ChangeReason) (Entry, bool) {
	switch {
	case before == nil && after == nil:
		return Entry{}, false
	case before == nil:
		e := Entry{Service: after.Service, ID: after.ID, Kind: discovery.ChangeAdded, Reason: registered(after), Detail: after.Node}
		e.Fields = arrived(after)
		return e, true
	case after == nil:
		if before.Suspect && gone == discovery.ReasonExpired {
			gone = discovery.ReasonMassLoss
		}
		if before.Source == view.SourceStatic && gone == discovery.ReasonRemoved {
			gone = discovery.ReasonStatic
		}
		return Entry{Service: before.Service, ID: before.ID, Kind: discovery.ChangeGone, Reason: gone, Detail: before.Node}, true
	}
	e := Entry{Service: after.Service, ID: after.ID, Kind: discovery.ChangeChanged, Fields: differences(before, after)}
	switch {
	case after.Suspect && !before.Suspect:
		e.Kind, e.Reason, e.Detail = discovery.ChangeSuspect, discovery.ReasonMassLoss, after.Node
	case before.Suspect && !after.Suspect:
		e.Kind, e.Reason, e.Detail = discovery.ChangeReturned, registered(after), after.Node
	case len(e.Fields) == 0:
		return Entry{}, false
	default:
		e.Reason, e.Detail = reasonOf(before, after, e.Fields)
	}
	return e, true
}

func registered(e *view.Entry) discovery.ChangeReason {
	if e.Source == view.SourceStatic {
		return discovery.ReasonStatic
	}
	return discovery.ReasonRegistered
}

// arrived returns what is worth knowing of an instance that has come.
func arrived(e *view.Entry) []discovery.FieldChange {
	fields := []discovery.FieldChange{{Field: "address", To: addressOf(e)}, {Field: "status", To: string(e.Status)}}
	add := func(name, value, usual string) {
		if value != usual {
			fields = append(fields, discovery.FieldChange{Field: name, To: value})
		}
	}
	add("state", string(e.State), string(discovery.Up))
	add("override", describeOverride(e.Override), "")
	add("weight", strconv.Itoa(e.Weight), "1")
	add("zone", e.Zone, "")
	return fields
}

// reasonOf returns the reason for a change of an instance that was and is there. A change is one
// write of one key, or several that a listing shows at once: then it is the most telling of these.
func reasonOf(before, after *view.Entry, fields []discovery.FieldChange) (discovery.ChangeReason, string) {
	has := func(names ...string) bool {
		return slices.ContainsFunc(fields, func(f discovery.FieldChange) bool { return slices.Contains(names, f.Field) })
	}
	switch {
	case has("override"):
		return discovery.ReasonOverride, describeOverride(after.Override)
	case after.Source == view.SourceStatic:
		return discovery.ReasonStatic, ""
	case before.Source == view.SourceStatic:
		return discovery.ReasonRegistered, after.Node
	case has("owner"):
		return discovery.ReasonMoved, after.Node
	case has("run"):
		return discovery.ReasonRestart, after.Node
	case has("status", "checks"):
		return discovery.ReasonCheck, failing(after)
	}
	return discovery.ReasonEdited, ""
}

// failing describes the checks of an entry that do not pass.
func failing(e *view.Entry) string {
	var parts []string
	for _, c := range e.Checks {
		if c.Status != discovery.Passing {
			part := "check " + cmp.Or(c.Name, c.ID) + " is " + string(c.Status)
			if c.Output != "" {
				part += ": " + c.Output
			}
			parts = append(parts, part)
		}
	}
	if len(parts) == 0 && e.Status != discovery.Passing {
		return "its status is " + string(e.Status)
	}
	return strings.Join(parts, "; ")
}

// differences returns the fields of two entries that differ.
func differences(before, after *view.Entry) (fields []discovery.FieldChange) {
	add := func(name, from, to string) {
		if from != to {
			fields = append(fields, discovery.FieldChange{Field: name, From: from, To: to})
		}
	}
	add("status", string(before.Status), string(after.Status))
	add("state", string(before.State), string(after.State))
	add("checks", describeChecks(before.Checks), describeChecks(after.Checks))
	add("override", describeOverride(before.Override), describeOverride(after.Override))
	add("address", addressOf(before), addressOf(after))
	add("ports", describePorts(before.Ports), describePorts(after.Ports))
	add("weight", strconv.Itoa(before.Weight), strconv.Itoa(after.Weight))
	add("tags", strings.Join(before.Tags, ","), strings.Join(after.Tags, ","))
	add("zone", before.Zone, after.Zone)
	add("node", before.Node, after.Node)
	add("slots", strconv.Itoa(before.Slots), strconv.Itoa(after.Slots))
	add("source", string(before.Source), string(after.Source))
	add("owner", before.Owner, after.Owner)
	add("run", before.Run, after.Run)
	for _, key := range changedKeys(before.Meta, after.Meta) {
		add("meta."+key, before.Meta[key], after.Meta[key])
	}
	return fields
}

// changedKeys returns the keys of which two maps differ, sorted.
func changedKeys(before, after discovery.Meta) (keys []string) {
	for key := range before {
		if value, ok := after[key]; !ok || value != before[key] {
			keys = append(keys, key)
		}
	}
	for key := range after {
		if _, ok := before[key]; !ok {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

func addressOf(e *view.Entry) string {
	if e.Port == 0 {
		return e.Address
	}
	return net.JoinHostPort(e.Address, strconv.Itoa(e.Port))
}

// describeChecks lists the checks with their statuses, such as "http critical, tcp passing".
func describeChecks(checks []discovery.CheckStatus) string {
	parts := make([]string, len(checks))
	for n, c := range checks {
		parts[n] = cmp.Or(c.Name, c.ID) + " " + string(c.Status)
	}
	return strings.Join(parts, ", ")
}

func describePorts(ports discovery.Ports) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(ports)) {
		parts = append(parts, name+"="+strconv.Itoa(ports[name]))
	}
	return strings.Join(parts, ",")
}

// describeOverride returns an override as text, such as "state=drain weight=3"; "" without one.
func describeOverride(o *discovery.Override) string {
	if o == nil {
		return ""
	}
	var parts []string
	if o.State != "" {
		parts = append(parts, "state="+string(o.State))
	}
	if o.Weight != nil {
		parts = append(parts, "weight="+strconv.Itoa(*o.Weight))
	}
	if o.Tags != nil {
		parts = append(parts, "tags="+strings.Join(o.Tags, ","))
	}
	for _, key := range slices.Sorted(maps.Keys(o.Meta)) {
		value, _ := json.Marshal(o.Meta[key])
		parts = append(parts, "meta."+key+"="+string(value))
	}
	if len(parts) == 0 {
		return "an empty override"
	}
	return strings.Join(parts, " ")
}
