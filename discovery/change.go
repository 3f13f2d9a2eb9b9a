package discovery

import "time"

// ChangeKind is what happened to an instance, or to what an agent sees of it.
type ChangeKind string

// The kinds of changes. The last four are about what the agent sees, not about an instance.
const (
	ChangeAdded    ChangeKind = "added"
	ChangeChanged  ChangeKind = "changed"
	ChangeGone     ChangeKind = "gone"
	ChangeSuspect  ChangeKind = "suspect"  // its record vanished with many others; it is still answered
	ChangeReturned ChangeKind = "returned" // a suspect was registered again

	ChangeWatched     ChangeKind = "watched"      // from here on the agent sees the changes
	ChangeUnwatched   ChangeKind = "unwatched"    // from here on it does not
	ChangeGap         ChangeKind = "gap"          // it was cut off from etcd, and has compared since
	ChangeStartedOver ChangeKind = "started_over" // etcd was wiped, restored or replaced
)

// ChangeReason is the reason for a change, in one word. [Change.Why] says it in a sentence.
type ChangeReason string

// The reasons for changes.
const (
	ReasonRegistered ChangeReason = "registered"  // by its agent
	ReasonStatic     ChangeReason = "static"      // a static entry was written or deleted
	ReasonLeft       ChangeReason = "left"        // its agent deregistered it
	ReasonExpired    ChangeReason = "expired"     // the session of its agent ended
	ReasonRemoved    ChangeReason = "removed"     // its key was deleted
	ReasonUnreadable ChangeReason = "unreadable"  // its record cannot be read any more
	ReasonMassLoss   ChangeReason = "mass_loss"   // it vanished with many others, or etcd started over
	ReasonCheck      ChangeReason = "check"       // its checks have another result
	ReasonOverride   ChangeReason = "override"    // an operator edited or removed its override
	ReasonRestart    ChangeReason = "restart"     // its agent runs anew and registered it again
	ReasonMoved      ChangeReason = "moved"       // another agent registered it
	ReasonEdited     ChangeReason = "edited"      // its registration was edited
	ReasonNotFound   ChangeReason = "not_in_list" // a listing of etcd lacks it; how it went is not known
)

// FieldChange is a field of an instance that has another value. An empty text stands for none.
type FieldChange struct {
	Field string `json:"field"`
	From  string `json:"from"`
	To    string `json:"to"`
}

// Change is a change that an agent saw.
type Change struct {
	Cursor   string        `json:"cursor"`            // its position among the changes that the agent saw
	Revision int64         `json:"revision"`          // etcd's
	Seen     time.Time     `json:"seen"`              // when the agent saw it, by its own clock
	Service  string        `json:"service,omitempty"` // empty: all services
	ID       string        `json:"id,omitempty"`      // empty: all instances
	Change   ChangeKind    `json:"change"`            // what happened
	Reason   ChangeReason  `json:"reason,omitempty"`  // why, in a word
	Why      string        `json:"why"`               // why, in a sentence
	Fields   []FieldChange `json:"fields,omitempty"`  // that have another value
	Cut      bool          `json:"cut,omitempty"`     // fields or values were too long, and are cut
	Listed   bool          `json:"listed,omitempty"`  // found by comparing with etcd: there may have been others before it
	Since    *time.Time    `json:"since,omitempty"`   // of a gap: when the agent last knew that it had all changes
}

// ChangeStart is the place from which on an agent has all changes that it saw.
type ChangeStart struct {
	Revision int64     `json:"revision"`
	Seen     time.Time `json:"seen"`
	Dropped  bool      `json:"dropped,omitempty"` // there were earlier ones, which had no room
}
