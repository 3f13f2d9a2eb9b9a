package lookup

import (
	"cmp"
	"strconv"

	"disc/discovery"
	"disc/discovery/view"
)

// Explanation is the reason for which an entry is in an answer or not.
type Explanation struct {
	ID  string `json:"id"`
	In  bool   `json:"in"`
	Why string `json:"why"`
}

// The reasons for which an entry is excluded, as [Answer.LeftOut] counts them. Other
// reasons are the statuses, the states drain and down, and the
// selectors tag, meta, zone, node, port and filter.
const (
	ExcludedLeaving = "leaving" // deregistered a moment ago
	ExcludedWeight  = "weight"  // weight 0, and there are others
	ExcludedID      = "id"      // the lookup names another instance; explained, not counted
	ExcludedPick    = "pick"    // others were picked; explained, not counted
)

// explainExcluded returns why an entry is not in the answer.
func explainExcluded(e *view.Entry, why string) string {
	switch why {
	case string(discovery.Critical), string(discovery.Warning), string(discovery.Passing):
		return "its status is " + why + twin(e) + blame(e)
	case string(discovery.Drain), string(discovery.Down):
		return "its state is " + why
	case ExcludedLeaving:
		return "its agent deregistered it a moment ago"
	case ExcludedWeight:
		return "its weight is 0" + byOverride(e, why) + " and others are there"
	case ExcludedPick:
		return "others were picked"
	case ExcludedID:
		return "another instance was asked for"
	}
	return "its " + why + byOverride(e, why) + " does not match"
}

// explainIncluded returns why an entry is in the answer. In a panic, that may be an entry
// that is not healthy.
func (l *lookup) explainIncluded(e *view.Entry) string {
	why := "its status is " + string(e.Status)
	switch {
	case e.ExcludedBy(l.query.Status) != "":
		why += ", and too few others are healthy"
	case e.Suspect:
		why += "; it vanished with many others and is kept until a probe fails"
	case e.State != discovery.Up:
		why += " and its state " + string(e.State)
	}
	return why + blame(e)
}

// blame names the check that gives an entry its status, with what it said; empty: there is none.
func blame(e *view.Entry) string {
	var check *discovery.CheckStatus // the first that is as bad, rather one that said something
	for n := range e.Checks {
		c := &e.Checks[n]
		if c.Status == e.Status && c.Status != discovery.Passing && (check == nil || check.Output == "" && c.Output != "") {
			check = c
		}
	}
	if check == nil {
		return ""
	}
	text := "; check " + strconv.Quote(discovery.CheckOutput(cmp.Or(check.Name, check.ID)))
	if check.Output != "" {
		return text + ": " + check.Output
	}
	return text + " gives no reason" // it may not have run yet, or its agent keeps the output
}

// twin says if the agent's record hides a static entry, which has another status.
func twin(e *view.Entry) string {
	if e.Shadowed == nil || e.Shadowed.Status == e.Status {
		return ""
	}
	return ", and its record hides a static entry that is " + string(e.Shadowed.Status)
}

// byOverride says if an override gives an entry the field that is the reason.
func byOverride(e *view.Entry, field string) string {
	if o := e.Override; o != nil && (field == ExcludedWeight && o.Weight != nil || field == "tag" && o.Tags != nil || field == "meta" && o.Meta != nil) {
		return ", by an override,"
	}
	return ""
}
