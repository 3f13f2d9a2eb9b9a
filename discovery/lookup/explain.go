package lookup

import (
	"disc/discovery"
	"disc/discovery/view"
)

// Explanation says why an entry is in an answer or not.
type Explanation struct {
	ID  string `json:"id"`
	In  bool   `json:"in"`
	Why string `json:"why"`
}

// The reasons for leaving an entry out, as [Answer.LeftOut] counts them. Besides
// these: the statuses warning and critical, the states drain and down, and the
// selectors' tag, meta, zone, node, port and filter.
const (
	OutLeaving = "leaving" // deregistered a moment ago
	OutWeight  = "weight"  // weight 0, and others are there
	OutID      = "id"      // another instance was asked for; explained, not counted
	OutPick    = "pick"    // not among those picked; explained, not counted
)

func explainExcluded(why string) string {
	switch why {
	case string(discovery.Critical), string(discovery.Warning):
		return "its status is " + why
	case string(discovery.Drain), string(discovery.Down):
		return "its state is " + why
	case OutLeaving:
		return "its agent deregistered it a moment ago"
	case OutWeight:
		return "its weight is 0 and others are there"
	case OutPick:
		return "others were picked"
	case OutID:
		return "another instance was asked for"
	}
	return "its " + why + " does not match"
}

// explainIncluded says why an entry is answered. An entry that is unfit is answered in a
// panic only.
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
