package lookup

import (
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
// reasons are the statuses warning and critical, the states drain and down, and the
// selectors tag, meta, zone, node, port and filter.
const (
	ExcludedLeaving = "leaving" // deregistered a moment ago
	ExcludedWeight  = "weight"  // weight 0, and there are others
	ExcludedID      = "id"      // the lookup names another instance; explained, not counted
	ExcludedPick    = "pick"    // others were picked; explained, not counted
)

func explainExcluded(why string) string {
	switch why {
	case string(discovery.Critical), string(discovery.Warning):
		return "its status is " + why
	case string(discovery.Drain), string(discovery.Down):
		return "its state is " + why
	case ExcludedLeaving:
		return "its agent deregistered it a moment ago"
	case ExcludedWeight:
		return "its weight is 0 and others are there"
	case ExcludedPick:
		return "others were picked"
	case ExcludedID:
		return "another instance was asked for"
	}
	return "its " + why + " does not match"
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
	return why
}
