package lookup

import (
	"time"

	"disc/discovery"
	"disc/discovery/view"
)

// Source is where a view has what it answers from.
type Source string

// The sources.
const (
	FromWatch    Source = "watch"     // a watch of the whole namespace
	FromInterest Source = "interest"  // watches of what is asked for, or listed
	FromLastGood Source = "last_good" // the view of an earlier run; etcd has not answered in this one
)

// Answered says what answered a lookup, and how old that is.
type Answered struct {
	From     Source             `json:"from"`
	Revision int64              `json:"revision"` // etcd's, up to which the view is complete
	Age      discovery.Duration `json:"age"`      // since etcd last confirmed the view
	Stale    bool               `json:"stale"`    // Age is above the threshold, or the view is that of an earlier run
	Prepared bool               `json:"prepared"` // without its explanation, the answer is one that is prepared for all callers
}

// AnsweredFrom returns what answers from a view.
func AnsweredFrom(v view.View, prepared bool) *Answered {
	from := FromWatch
	switch {
	case v.Restored:
		from = FromLastGood
	case v.Partial:
		from = FromInterest
	}
	return &Answered{From: from, Revision: v.Revision(), Age: discovery.Duration(v.Age.Round(time.Millisecond)), Stale: v.Stale, Prepared: prepared}
}
